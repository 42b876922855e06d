"""Commands of `earthsignature` for who looks after a store: they open it where it lies, most of them beside its running server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from earthself.data.terminal import Json, progress, say
from earthself.signature.terminal import HOME, Database, Home, errors

if TYPE_CHECKING:
    from earthself.signature.archive import Moved
    from earthself.signature.bulk import Counts

app = typer.Typer()


@app.command()
def stats(
    *,
    home: Home = HOME,
    database_url: Database = None,
    plot: Annotated[Path | None, typer.Option(help="Draw coverage in space and time into this PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Count what the store holds; works beside a running server."""
    from earthself.signature.store import Store

    with errors(as_json), closing(Store.existing(home, database_url)) as store:
        found = store.statistics()
        if plot is not None:
            from earthself.signature.coverage import coverage_of, draw

            draw(coverage_of(stored for batch in store.catalog.snapshot() for stored in batch), plot)
    if as_json:
        say(asdict(found))
        return
    say(f"{found.products} products from {found.first or '-'} to {found.last or '-'}, {found.bytes / 1e6:.1f} MB of rasters")
    say(f"{found.products - found.segmented} without a segmentation, {found.superseded} superseded")
    for code, products in sorted(found.products_with_code.items()):
        say(f"{code:>5}  in {products} products, {found.hectares_of_code[code]:,.0f} ha")


@app.command()
def migrate(home: Home = HOME, database_url: Database = None, as_json: Json = False) -> None:
    """Bring the tables up to date (`serve` does so by itself). A server beside it goes on reading, and writes once it is started anew."""
    from earthself.signature.store import Store

    with errors(as_json):
        home.mkdir(parents=True, exist_ok=True)
        with closing(Store(home, database_url)) as store:
            store.lock(beside_server=True)
            before, after = store.migrate()
    say(
        {"before": before, "after": after} if as_json else f"tables at version {after}" + ("" if before == after else f", were at {before}")
    )


def ingest_many(files: list[Path], home: Path, database_url: str | None, as_json: bool, *, metadata_only: bool) -> None:
    """Do `ingest --metadata-only` beside a server, or `--direct` without one; ends with 65 when something failed."""
    from earthself.signature.bulk import describe
    from earthself.signature.intake import take_in
    from earthself.signature.store import Store

    with errors(as_json):
        opened = Store.existing(home, database_url) if metadata_only else Store.open(home, database_url)
        with closing(opened) as store, progress("described" if metadata_only else "stored") as show:

            def shown(counts: Counts) -> None:
                show(counts.read, None)

            counts = describe(store.catalog, files, shown) if metadata_only else take_in(store, files, shown)
    for error in counts.errors:
        typer.echo(f"failed   {error}", err=True)
    say(asdict(counts) if as_json else f"{counts.created} new, {counts.known} known, {counts.failed} failed")
    if counts.failed:
        raise typer.Exit(65)


@app.command()
def export(
    *,
    folder: Annotated[Path, typer.Argument(help="Where the archive goes; the one that is there is brought up to date.")],
    home: Home = HOME,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Write the whole store as it is now into a folder (GeoParquet and COGs), to keep as a backup or to move; beside a running server."""
    from earthself.signature import archive
    from earthself.signature.store import Store

    with errors(as_json), closing(Store.existing(home, database_url)) as store, progress("exported") as show:
        made, moved = archive.export(store, folder, lambda moved: show(moved.products, moved.of or None))
    say(
        {**asdict(made), "failed": moved.failed, "errors": moved.errors}
        if as_json
        else f"{made.products} products, {made.segmented} with a segmentation, in {folder}"
    )
    _end(moved)


@app.command(name="import")
def import_folder(
    *,
    folder: Annotated[Path, typer.Argument(help="An archive made by `earthsignature export`.")],
    home: Home = HOME,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Store all that an archive holds, every pixel verified, while no server runs; goes on where one that was ended stopped."""
    from earthself.signature import archive
    from earthself.signature.store import Store

    with errors(as_json), closing(Store.open(home, database_url)) as store, progress("imported") as show:
        moved = archive.import_archive(store, folder, lambda now: show(now.products, now.of))
    say(asdict(moved) if as_json else f"{moved.products} products, {moved.new} of them new")
    _end(moved)


def _end(moved: Moved) -> None:
    """End with 1 where products could not be moved."""
    for error in moved.errors:
        typer.echo(f"failed   {error}", err=True)
    if moved.failed:
        typer.echo(f"earthsignature: {moved.failed} products are not saved or not given back whole; the others are", err=True)
        raise typer.Exit(1)


@app.command()
def retain(
    *,
    acquired_before: Annotated[float | None, typer.Option(help="Acquired more than so many days ago.")] = None,
    cloudier_than: Annotated[float | None, typer.Option(help="With a cloud cover above so many percent.")] = None,
    superseded: Annotated[bool, typer.Option(help="With a newer product of the same observation.")] = False,
    product_type: Annotated[str | None, typer.Option(help="Of this type.")] = None,
    without_segmentation: Annotated[bool, typer.Option(help="Only described.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; without it they are only listed.")] = False,
    home: Home = HOME,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """List the products that a rule lets go (all that is said must hold), and with --apply remove them; beside a running server."""
    from earthself.signature import retention
    from earthself.signature.store import Store

    now = datetime.now(UTC)
    with errors(as_json), closing(Store.existing(home, database_url)) as store:
        age = None if acquired_before is None else retention.days(acquired_before)
        rule = retention.Rule(age, cloudier_than, superseded, product_type, without_segmentation)
        if apply:
            with progress("removed") as show:
                removed = retention.remove(store, rule, now, lambda number: show(number, None))
            say({"removed": removed} if as_json else f"{removed} products removed")
            return
        listed = 0
        for stored in retention.expired(store, rule, now):
            name, when = stored.product.product_id, stored.product.creation_date
            say({"id": name} if as_json else f"{when:%Y-%m-%d}  {name}")
            listed += 1
    if not as_json:
        say(f"{listed} products would go; remove them with --apply")
