"""What a row has to be before it is kept, whoever it comes from: numbers that can be, codes that exist, texts of a bounded length."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.codes import COUNTRIES, CURRENCIES
from earthself.benchmark.offers.model import Allocation, Carbon, EgressPrice, Price, Rate, Row, Source, StorageKind

LONGEST = 250
"""Characters of a name, an id, an address."""
MOST_TIERS = 20
MOST_ZONES = 100
_EARLIEST, _LATEST = date(2000, 1, 1), date(2100, 1, 1)
_CLOUD = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "amount": (1e-9, 1e6), "upfront": (0, 1e8), "term_months": (1, 120), "vcpus": (0.01, 1e4), "memory_gib": (0.01, 1e5),
    "gpus": (0, 1e3), "gpu_memory_gib": (0.01, 1e4), "disk_gb": (0, 1e7), "network_gbps": (0.001, 1e5),
    "longitude": (-180, 180), "latitude": (-90, 90), "euros": (1e-9, 1e6), "grams_per_kwh": (0, 3000),
}  # fmt: skip
_NEEDED = frozenset({"cloud", "region", "offer", "name"})
"""Texts that must not be empty, except where a class says that they may be."""


def check(row: Row, today: date | None = None) -> None:
    """Raise `BadOffers` with the field, the value and what it may be; a day may be at most tomorrow (clocks and zones differ)."""
    made: Any = type(row)
    values, checks = _plan(made)
    for value, (name, optional, look) in zip(values(row), checks, strict=True):
        if value is None and optional:
            continue
        look(name, value)
        if value == "" and not optional and name in _NEEDED:
            raise BadOffers(f"{name} is empty; say which one it is")
    check_source(row.source, today or datetime.now(UTC).date())
    _together(row)


@lru_cache(1000)
def check_source(source: Source, today: date) -> None:
    """Raise `BadOffers` where a source has no name or no day that can be."""
    _text("source name", source.name)
    _text("source url", source.url)
    if not source.name:
        raise BadOffers("the source has no name; say where the facts are from")
    _day("source day", source.day)
    if source.day > today + timedelta(days=1):
        raise BadOffers(f"the source's day {source.day} is yet to come; give the day on which the facts were observed")


def _together(row: Row) -> None:
    if isinstance(row, Price) and row.term_months is not None and row.allocation is not Allocation.RESERVED:
        raise BadOffers(f"term_months is {row.term_months} for {row.allocation}; only reserved machines have a term")
    if isinstance(row, Rate) and row.currency == "EUR":
        raise BadOffers("currency is 'EUR'; a rate says what another currency is worth in euros")
    if isinstance(row, Carbon) and not (row.country or (row.cloud and row.region)):
        raise BadOffers("carbon has neither country nor cloud and region; say where the electricity is from")
    if isinstance(row, EgressPrice):
        _tiers(row.tiers)


def _tiers(tiers: Any) -> None:  # noqa: ANN401 - what a loader made
    ends = [tier.up_to_gb for tier in tiers]
    if not 0 < len(ends) <= MOST_TIERS or ends[-1] is not None or None in ends[:-1] or ends[:-1] != sorted(set(ends[:-1])):
        raise BadOffers(f"tiers end at {ends}; give 1 to {MOST_TIERS} tiers whose ends rise, the last one without up_to_gb")
    for tier in tiers:
        _bounded("tier up_to_gb", 0 if tier.up_to_gb is None else tier.up_to_gb, 0, 1e12)
        _bounded("tier amount", tier.amount, 0, 1e6)


def _bounded(name: str, value: Any, least: float, most: float) -> None:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not least <= value <= most:
        raise BadOffers(f"{name} is {str(value)[:80]}; it must be a number from {least:g} to {most:g}")


def _number(name: str, value: Any) -> None:  # noqa: ANN401
    _bounded(name, value, *_BOUNDS[name])


def _text(name: str, value: Any) -> None:  # noqa: ANN401
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable() or value != value.strip():
        raise BadOffers(f"{name} is {str(value)[:80]!r}; it must be one line of at most {LONGEST} characters without spaces around it")


def _cloud(name: str, value: Any) -> None:  # noqa: ANN401
    if value and not (isinstance(value, str) and _CLOUD.fullmatch(value)):
        raise BadOffers(f"{name} is {str(value)[:80]!r}; an id has lower-case letters, digits, dots, dashes, at most 63 of them: ovh")


def _country(name: str, value: Any) -> None:  # noqa: ANN401
    if value and value not in COUNTRIES:
        raise BadOffers(f"{name} is {str(value)[:80]!r}; give the two capital letters of ISO 3166-1: FR, DE, GB")


def _currency(name: str, value: Any) -> None:  # noqa: ANN401
    if value not in CURRENCIES:
        raise BadOffers(f"{name} is {str(value)[:80]!r}; give the three capital letters of ISO 4217: EUR, USD")


def _day(name: str, value: Any) -> None:  # noqa: ANN401
    if not isinstance(value, date) or isinstance(value, datetime) or not _EARLIEST <= value <= _LATEST:
        raise BadOffers(f"{name} is {str(value)[:80]}; give a day from {_EARLIEST} to {_LATEST} as YYYY-MM-DD")


def _zones(name: str, value: Any) -> None:  # noqa: ANN401
    if isinstance(value, str) or len(value) > MOST_ZONES:
        raise BadOffers(f"{name} are {str(value)[:80]!r}; give a list of at most {MOST_ZONES}")
    for zone in value:
        _text("zone", zone)


def _one_of(kind: type[StrEnum]) -> Callable[[str, Any], None]:
    def look(name: str, value: Any) -> None:  # noqa: ANN401
        if not isinstance(value, kind):
            raise BadOffers(f"{name} is {str(value)[:80]!r}; give one of {', '.join(kind)}")

    return look


def _any(_name: str, _value: Any) -> None:  # noqa: ANN401
    """Looked at elsewhere."""


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(_BOUNDS, _number), "cloud": _cloud, "country": _country, "currency": _currency, "valid_until": _day, "zones": _zones,
    "allocation": _one_of(Allocation), "kind": _one_of(StorageKind), "tiers": _any, "source": _any,
}  # fmt: skip


@cache
def _plan(made: Any) -> tuple[Callable[[Any], tuple[Any, ...]], Sequence[tuple[str, bool, Callable[[str, Any], None]]]]:  # noqa: ANN401 - a class
    """Give what reads the fields of a class, and of each its name, whether it may be left out, and what looks at it."""
    own = [(each.name, each.default is None or each.default == "") for each in fields(made)]
    return attrgetter(*(name for name, _ in own)), [(name, optional, _CHECKS.get(name, _text)) for name, optional in own]
