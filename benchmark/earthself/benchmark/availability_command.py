"""The command `earthself-suggest data`: who has collections, where they are kept, and who says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.options import errors
from earthself.data.terminal import Json, say

if TYPE_CHECKING:
    from earthself.benchmark.availability import Availability

_Answer = tuple[dict[str, Any], list[tuple[str, ...]]]
"""For a program, and as a table with its head."""


def data(
    collections: Annotated[
        list[str] | None, typer.Argument(help="EODAG's names, such as S2_MSI_L2A; else all are listed.", show_default=False)
    ] = None,
    *,
    like: Annotated[str, typer.Option(help="List only collections with this in their name or title.")] = "",
    cloud: Annotated[str, typer.Option(help="Only what is kept at this cloud, such as aws.")] = "",
    region: Annotated[str, typer.Option(help="How collections are available in this region of that cloud.")] = "",
    as_json: Json = False,
) -> None:
    """Show who has collections, where they are kept, and of which day that is known; without a collection, list all."""
    from earthself.benchmark.availability import availability, version

    with errors(as_json):
        if region and not cloud:
            raise BadSetting(f"region {region!r} is of no cloud; say of which with --cloud")
        if cloud and not collections:
            raise BadSetting(f"nothing says what is wanted at {cloud!r}; name collections, found with: earthself-suggest data --like WORD")
        if not collections:
            answer, table = _known(like)
        elif region:
            answer, table = _places(availability(collections), cloud, region)
        else:
            answer, table = _offers(availability(collections), cloud)
        if as_json:
            say({"state": version(), **answer})
            return
        for line in _aligned(table):
            say(line)
        say(f"state: {version()}")


def _known(like: str) -> _Answer:
    from earthself.benchmark.availability import known

    found = known(like)
    table: list[tuple[str, ...]] = [("COLLECTION", "PROVIDERS", "TITLE")]
    table += [(one.collection, str(one.providers), one.title) for one in found]
    return {"collections": [asdict(one) for one in found]}, table


def _places(found: Availability, cloud: str, region: str) -> _Answer:
    places = [found.at(cloud, region, name) for name in found.collections]
    table: list[tuple[str, ...]] = [("COLLECTION", "AVAILABLE", "FROM", "SEEN", "SOURCE")]
    for one in places:
        remark = " (doubtful)" if one.doubtful else " (another region has it)" if one.same_cloud and not one.source else ""
        table.append((one.collection, f"{one.kind}{remark}", " ".join(one.providers), one.day.isoformat() if one.day else "", one.source))
    return {"places": [asdict(one, dict_factory=_plain) for one in places]}, table


def _offers(found: Availability, cloud: str) -> _Answer:
    offers: list[dict[str, Any]] = []
    table: list[tuple[str, ...]] = [("COLLECTION", "PROVIDER", "AVAILABLE", "KEPT AT", "SEEN", "LOGIN FOR", "ORDERS")]
    for name, providers in found.collections.items():
        shown = [one for one in providers if not cloud or (one.holding and one.holding.cloud == cloud.lower())]
        if not shown:
            what = f"external: nobody says that it is kept at {cloud}" if providers else "not there: no provider has it"
            table.append((name, "", what, "", "", "", ""))
        for one in shown:
            held = one.holding
            where = f"{held.cloud} {' '.join(held.regions)}{' (doubtful)' if held.doubtful else ''}" if held else "unknown"
            seen = held.looked_up.isoformat() if held else ""
            table.append((name, one.name, one.kind, where, seen, one.login, "yes" if one.orders else "no"))
            offers.append({"collection": name, "kind": one.kind, **asdict(one, dict_factory=_plain)})
    return {"offers": offers}, table


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in fields}


def _aligned(table: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)).rstrip()
