"""Machines and their prices as a table (CSV): what most price lists can be pasted into."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from io import StringIO

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.checks import check
from earthself.benchmark.offers.model import Allocation, Offer, Price, Source

MOST_ROWS = 200_000
SPECIFICATION = (
    "vcpus", "memory_gib", "architecture", "cpu_model", "gpus", "gpu_model", "gpu_memory_gib", "disk_gb", "disk_kind", "network_gbps",
)  # fmt: skip
PRICE = ("region", "zone", "allocation", "term_months", "amount", "upfront", "currency", "valid_until")
COLUMNS = ("cloud", "offer", *SPECIFICATION, *PRICE)
_NEEDED = ("cloud", "offer", "region", "amount", "currency")
_TEXTS = frozenset({"architecture", "cpu_model", "gpu_model", "disk_kind"})
_ONE_OF: Mapping[str, tuple[str, ...]] = {"architecture": ("x86_64", "aarch64"), "disk_kind": ("ssd", "nvme ssd", "hdd", "network")}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Said:
    """Where a table is from, since it does not say so itself."""

    day: date | None = None
    """Of which day its prices are."""
    name: str = ""
    """Empty: the file's name."""
    url: str = ""


def table(text: str, name: str, said: Said) -> Iterator[Offer | Price]:
    """Give the prices, and each machine once; raises `BadOffers` with the line."""
    if said.day is None:
        raise BadOffers(f"{name} does not say of which day its prices are; say it with --day YYYY-MM-DD")
    source = Source(said.name or name, said.url, said.day)
    today = datetime.now(UTC).date()
    machines: dict[tuple[str, str], tuple[int, Offer]] = {}
    prices: dict[tuple[object, ...], int] = {}
    for line, values in _lines(text, name):
        try:
            offer = _offer(values, source)
            check(offer, today)
            key = (offer.cloud, offer.offer)
            first, known = machines.get(key, (line, offer))
            machines[key] = first, _agreed(known, offer, first)
            if (price := _price(values, source)) is not None:
                check(price, today)
                _first(prices, (*key, price.region, price.zone, price.allocation, price.term_months), line)
                yield price
        except BadOffers as error:
            raise BadOffers(f"{name}, line {line}: {error}") from error
    for _, offer in machines.values():
        yield offer


def _first(prices: dict[tuple[object, ...], int], key: tuple[object, ...], line: int) -> None:
    if key in prices:
        raise BadOffers(f"this price stands in line {prices[key]} already; leave one of them out")
    prices[key] = line


def _lines(text: str, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _look(header, name)
        for number, cells in enumerate(reader, 1):
            if not any(cell.strip() for cell in cells):
                continue
            if number > MOST_ROWS:
                raise BadOffers(f"{name} has more than {MOST_ROWS} lines; take it apart")
            if len(cells) != len(header):
                raise BadOffers(
                    f"{name}, line {reader.line_num}: {len(cells)} cells for {len(header)} columns; a decimal comma makes one too many, "
                    'and a text with a comma needs "quotes"'
                )
            yield reader.line_num, {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise BadOffers(f"{name}, line {reader.line_num}: this is no CSV ({error}); look for quotes") from error


def _look(header: list[str], name: str) -> None:
    if len(header) == 1 and any(each in header[0] for each in ";\t"):
        raise BadOffers(f"{name}, line 1: cells are divided by semicolons or tabs; save it with commas, and decimal points")
    if missing := [column for column in _NEEDED if column not in header]:
        raise BadOffers(f"{name}, line 1: there is no column {', '.join(missing)}; needed are {', '.join(_NEEDED)}")
    if unknown := [column for column in header if column not in COLUMNS]:
        raise BadOffers(f"{name}, line 1: nobody knows the column {unknown[0][:80]!r}; known are {', '.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise BadOffers(f"{name}, line 1: a column stands twice; leave one out")


def _offer(values: Mapping[str, str], source: Source) -> Offer:
    made = Offer(values["cloud"], values["offer"], source)
    for column, known in _ONE_OF.items():
        if values.get(column, "") not in ("", *known):
            raise BadOffers(f"{column} is {values[column][:80]!r}; give one of {', '.join(known)}")
    texts = {column: values[column] for column in SPECIFICATION if values.get(column) and column in _TEXTS}
    numbers = {column: _number(values, column) for column in SPECIFICATION if values.get(column) and column not in _TEXTS}
    return replace(made, **texts, **numbers)  # type: ignore[arg-type]


def _price(values: Mapping[str, str], source: Source) -> Price | None:
    """Give the price of a line; None where it has none: nobody knows it, or it is not sold there."""
    if not values["amount"]:
        return None
    if _number(values, "amount") == 0:
        raise BadOffers("amount is 0, which is no price; leave it empty where it is not known or not sold")
    term = values.get("term_months")
    return Price(
        values["cloud"], values["region"], values["offer"], _allocation(values.get("allocation", "")), _number(values, "amount"),
        values["currency"], source,
        zone=values.get("zone", ""),
        upfront=_number(values, "upfront") if values.get("upfront") else 0.0,
        term_months=int(_number(values, "term_months")) if term else None,
        valid_until=_day(values["valid_until"]) if values.get("valid_until") else None,
    )  # fmt: skip


def _agreed(known: Offer, offer: Offer, first: int) -> Offer:
    """Join what two lines say about a machine; they may leave things out, not contradict each other."""
    for column in SPECIFICATION:
        before, now = getattr(known, column), getattr(offer, column)
        if None not in (before, now) and before != now:
            raise BadOffers(f"{column} of {offer.offer} is {now} here and {before} in line {first}; which one is it?")
    return replace(known, **{column: getattr(offer, column) for column in SPECIFICATION if getattr(known, column) is None})


def _allocation(said: str) -> Allocation:
    try:
        return Allocation(said or Allocation.ON_DEMAND)
    except ValueError as error:
        raise BadOffers(f"allocation is {said[:80]!r}; give one of {', '.join(Allocation)}") from error


def _number(values: Mapping[str, str], column: str) -> float:
    said = values[column]
    if not _NUMBER.fullmatch(said):
        hint = "write a decimal point: 0.05" if "," in said else "write digits and at most one decimal point"
        raise BadOffers(f"{column} is {said[:80]!r}, which is no number; {hint}")
    return float(said)


def _day(said: str) -> date:
    try:
        return date.fromisoformat(said)
    except ValueError as error:
        raise BadOffers(f"{said[:80]!r} is no day ({error}); write YYYY-MM-DD") from error
