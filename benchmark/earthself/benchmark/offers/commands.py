"""The commands `earthself-suggest offers`: fill the catalogue, and look into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from earthself.benchmark.errors import BadOffers
from earthself.benchmark.options import Database, errors
from earthself.data.terminal import Json, progress, say

if TYPE_CHECKING:
    from earthself.benchmark.offers.listing import Line
    from earthself.benchmark.offers.model import Row

app = typer.Typer(help="What clouds offer, for which price: fill the catalogue, and look into it.", no_args_is_help=True)
load = typer.Typer(help="Fill the catalogue; a fact of a newer day counts, older ones stay for the record.", no_args_is_help=True)
app.add_typer(load, name="load")
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File to read.")]
_STEP = 500
_NUMBERS = ("vCPU", "GiB", "€/h")
_HEAD = ["cloud", "offer", "region", *_NUMBERS, "price"]


@load.command()
def libcloud(
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help="A newer pricing.json; else the package's own.")] = None,
    *,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Read the prices inside apache-libcloud: machines of EC2 and Azure."""
    from earthself.benchmark.offers import from_libcloud

    _load(lambda left_out: from_libcloud.rows(file, left_out), database_url, as_json)


@load.command()
def sparecores(file: File, *, database_url: Database = None, as_json: Json = False) -> None:
    """Read a Spare Cores dump, an unpacked SQLite file."""
    from earthself.benchmark.offers import from_sparecores

    _load(lambda left_out: from_sparecores.rows(file, left_out), database_url, as_json)


@load.command("file")
def files(
    names: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML, JSON or CSV (docs/offers.md).")],
    *,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of which day a table's prices are.")] = None,
    source: Annotated[str, typer.Option(help="Where a table is from; else its file's name.")] = "",
    url: Annotated[str, typer.Option(help="Where that can be looked up.")] = "",
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Read what you wrote down yourself, all files or none."""
    from earthself.benchmark.offers import from_file
    from earthself.benchmark.offers.from_table import Said

    said = Said(None if day is None else day.date(), source, url)
    _load(lambda _: (row for name in names for row in from_file.rows(name, said)), database_url, as_json)


@load.command()
def aws(
    regions: Annotated[list[str], typer.Argument(metavar="REGION…", help="Such as eu-central-1.")],
    *,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Ask Amazon, with the credentials that boto3 finds here: machines, and their prices on demand, reserved and spot."""
    from earthself.benchmark.offers import from_aws

    _load(lambda left_out: from_aws.rows(regions, left_out), database_url, as_json)


@load.command()
def ecb(file: File, *, database_url: Database = None, as_json: Json = False) -> None:
    """Read the European Central Bank's reference rates: eurofxref.csv, eurofxref-hist.csv, or their XML."""
    from earthself.benchmark.offers import from_ecb

    _load(lambda _: from_ecb.rows(file), database_url, as_json)


@app.command("list")
def show_list(
    *,
    cloud: Annotated[str | None, typer.Option(help="Of this cloud only.")] = None,
    region: Annotated[str | None, typer.Option(help="Sold in this region only.")] = None,
    min_vcpus: Annotated[float, typer.Option(min=0, help="Virtual processors at least.")] = 0,
    min_memory: Annotated[float, typer.Option(min=0, help="GiB of memory at least.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="How many to show, the cheapest first.")] = 50,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """List machines with what an hour of them costs on demand; what nobody says is unknown, and comes last."""
    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.offers.listing import Wanted, lines

    with errors(as_json), Catalogue(database_url) as kept:
        found = lines(kept.snapshot(), Wanted(cloud, region, min_vcpus, min_memory))
        if as_json:
            for line in found[:limit]:
                say(line.to_record(_today()))
            return
        if not found:
            say("nothing in the catalogue fits; fill it first (earthself-suggest offers load --help), or ask for less")
            return
        _print(found[:limit])
        if len(found) > limit:
            say(f"{len(found) - limit} more; --limit shows them")


@app.command()
def show(
    cloud: Annotated[str, typer.Argument(help="Id of a cloud, such as ovh.")],
    offer: Annotated[str, typer.Argument(help="What the cloud calls the machine, such as b3-8.")],
    *,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Show all that is known about a kind of machine, with where it is from."""
    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.offers.listing import described

    with errors(as_json), Catalogue(database_url) as kept:
        known, prices = described(kept.snapshot(), cloud, offer)
        if not known and not prices:
            raise BadOffers(
                f"nobody says anything about {offer} of {cloud}; earthself-suggest offers list --cloud {cloud} has what is known"
            )
        if as_json:
            say({"offer": known, "prices": [line.to_record(_today()) for line in prices]})
            return
        for name, value in known.items():
            say(f"{name:16} {'unknown' if value is None else value}")
        _print(prices)


def _load(read: Callable[[Callable[[str], None]], Iterable[Row]], database_url: str | None, as_json: bool) -> None:
    from earthself.benchmark.offers.catalogue import Catalogue

    reasons: Counter[str] = Counter()
    with errors(as_json), Catalogue(database_url) as kept:
        with progress("reading") as shown:
            added = kept.add(_counted(read(lambda why: reasons.update([why])), shown))
        if as_json:
            counts = {"read": added.read, "new": added.new, "replaced": added.replaced}
            say({**counts, "left_out": dict(reasons), "revision": kept.revision()})
            return
        say(f"{added.read} facts read, {added.new} of them are new, {added.replaced} replace what was said of the same day")
        for why, number in reasons.most_common():
            say(f"  left out: {number:>7} {why}")


def _counted(rows: Iterable[Row], shown: Callable[[int, int | None], None]) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number % _STEP == 0:
            shown(number, None)
        yield row


def _print(found: Iterable[Line]) -> None:
    rows = [_HEAD, *(line.cells(_today()) for line in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) if head in _NUMBERS else cell.ljust(width) for cell, width, head in zip(row, widths, _HEAD, strict=True))
        say("  ".join(cells).rstrip())


def _today() -> date:
    return datetime.now(UTC).date()
