"""Which kinds of machines a run measures, within a budget of time and money; those that were measured least recently come first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from earthself.benchmark.errors import BadSetting, RateUnknown
from earthself.benchmark.offers.model import Allocation, Offers, Price
from earthself.benchmark.offers.money import Rates
from earthself.benchmark.samples import Sample

WAYS = 2.0
"""Assumed of a repeat that nobody has timed: it measures two ways, such as reading and writing, each as long as it was told."""
SLACK = 2.0
"""How many times its estimate a target may take, as far as the budget has room for that."""
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/:+-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Target:
    """A kind of machine at a place."""

    connection: str | None = None
    """The Kubernetes connection of its cluster; None: the machine that we are on."""
    cloud: str = ""
    """Id of the cloud, lower case; empty like those below where it is not known."""
    region: str = ""
    zone: str = ""
    offer: str = ""
    """What the cloud calls such a machine."""

    def __post_init__(self) -> None:
        for name, value in self.place.items():
            if value and not _LABEL.fullmatch(value):
                raise BadSetting(f"{name} {value[:80]!r} cannot be a label; use letters, digits, blanks and . _ / : + - (at most 100)")

    @property
    def place(self) -> dict[str, str]:
        """The labels of its samples."""
        return {"cloud": self.cloud, "region": self.region, "zone": self.zone, "offer": self.offer}

    def __str__(self) -> str:
        where = f"in the cluster of {self.connection}" if self.connection else "on this machine"
        return " ".join([*filter(None, self.place.values()), where])


@dataclass(frozen=True)
class Candidate:
    """A target that could be measured."""

    target: Target
    minutes: float
    """How long that takes, estimated."""
    last: float | None = None
    """When it was tried last, seconds since 1970; None: never."""


@dataclass(frozen=True)
class Budget:
    """What a run may use."""

    minutes: float
    """Of all its targets together, from the moment when a pod is asked for."""
    euros: float | None = None
    """None: money is no limit."""
    unpriced: bool = False
    """Whether targets may be measured of which nobody knows what they cost, where `euros` is a limit."""


@dataclass(frozen=True)
class Hourly:
    """What an hour of a target costs."""

    euros: float | None
    """None: unknown."""
    said: str
    """Who says so, and as of which day; or why it is unknown."""

    def of(self, minutes: float) -> float | None:
        """Euros for so many minutes, None where unknown."""
        return None if self.euros is None else self.euros * minutes / 60


@dataclass(frozen=True)
class Planned:
    """A target that is to be measured."""

    target: Target
    minutes: float
    """Estimated."""
    limit: float
    """Minutes that it may take; those of all targets together are no more than the budget's."""
    hourly: Hourly


@dataclass(frozen=True)
class LeftOut:
    """A target that is not measured this time."""

    target: Target
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run measures, in this order, and what it does not."""

    run: Sequence[Planned]
    left_out: Sequence[LeftOut]

    @property
    def minutes(self) -> float:
        """Estimated, all together."""
        return sum(one.minutes for one in self.run)

    @property
    def euros(self) -> float:
        """Estimated, of all targets whose price is known."""
        return sum(one.hourly.of(one.minutes) or 0.0 for one in self.run)


def plan(candidates: Sequence[Candidate], offers: Offers, budget: Budget, today: date) -> Plan:
    """Choose the targets that fit into the budget: never tried ones first, then those that were tried longest ago.

    What does not fit is left out with the reason, and comes earlier the next time, since the others will have been measured by then.
    """
    fitting: list[tuple[Candidate, Hourly]] = []
    left_out: list[LeftOut] = []
    minutes = euros = 0.0
    for one in sorted(candidates, key=lambda each: (each.last is not None, each.last or 0.0)):
        price = hourly(one.target, offers, today)
        if reason := _refused(one, price, budget, minutes, euros):
            left_out.append(LeftOut(one.target, reason))
            continue
        fitting.append((one, price))
        minutes += one.minutes
        euros += price.of(one.minutes) or 0.0
    room = [
        SLACK,
        *([budget.minutes / minutes] if minutes else []),
        *([budget.euros / euros] if budget.euros is not None and euros else []),
    ]
    # No less than the estimate, of which the sums were made: a division may fall short of 1 by a rounding.
    slack = max(1.0, min(room))
    return Plan([Planned(one.target, one.minutes, one.minutes * slack, price) for one, price in fitting], left_out)


def hourly(target: Target, offers: Offers, today: date) -> Hourly:
    """Find what a target costs on demand: the price of its zone before that of its region, the newest, and of equals the dearest."""
    prices = [price for price in offers.prices if _is_of(price, target) and (price.valid_until is None or price.valid_until >= today)]
    if not prices:
        what = " ".join(filter(None, target.place.values())) or "a machine without a name"
        return Hourly(None, f"no on-demand price of {what} is known")
    price = max(prices, key=lambda each: (bool(each.zone), each.source.day, each.amount))
    source = f"{price.source.name}, {price.source.day}"
    try:
        known = Rates(offers.rates).euros(price.amount, price.currency)
    except RateUnknown:
        return Hourly(None, f"its price is in {price.currency} ({source}), and no exchange rate of that is known")
    return Hourly(known.amount, source if known.rate is None else f"{source}; {price.currency} as of {known.rate.source.day}")


def estimate(probes: int, repeats: int, seconds: float, pace: float | None = None) -> float:
    """Minutes that so many probes take; `pace` is how many seconds a repeat took when the place was measured last."""
    return probes * repeats * (WAYS * seconds if pace is None else max(pace, seconds)) / 60


def pace(samples: Iterable[Sample]) -> float | None:
    """Seconds that a repeat took in one run of probes; None where there were fewer than two."""
    found = list(samples)
    of_test: dict[str, int] = {}
    for (test, _), count in Counter((sample.test, sample.metric) for sample in found).items():
        of_test[test] = max(count, of_test.get(test, 0))
    repeats, times = sum(of_test.values()), [sample.timestamp for sample in found]
    # A sample is timed when its repeat ends, so the first repeat's own time is not known.
    return (max(times) - min(times)) / (repeats - 1) if repeats > 1 else None


def _refused(one: Candidate, price: Hourly, budget: Budget, minutes: float, euros: float) -> str:
    if minutes + one.minutes > budget.minutes:
        left = budget.minutes - minutes
        return f"it takes about {one.minutes:.3g} minutes, and {left:.3g} of the budget's {budget.minutes:g} minutes are left"
    if budget.euros is None:
        return ""
    cost = price.of(one.minutes)
    if cost is None:
        return "" if budget.unpriced else f"{price.said}, so it cannot be held against budget_euros; unpriced=true measures it all the same"
    if euros + cost > budget.euros:
        left = budget.euros - euros
        return f"it costs about {cost:.2f} EUR, and {left:.2f} of the budget's {budget.euros:.2f} EUR are left"
    return ""


def _is_of(price: Price, target: Target) -> bool:
    same = (price.cloud.lower(), price.region, price.offer) == (target.cloud.lower(), target.region, target.offer)
    return same and price.allocation is Allocation.ON_DEMAND and price.zone in ("", target.zone)
