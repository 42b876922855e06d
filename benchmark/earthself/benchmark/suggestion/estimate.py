"""What one offer would take and cost for a need: hours and euros with their intervals, and every value that they rest on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from earthself.benchmark.errors import RateUnknown
from earthself.benchmark.offers.model import Allocation, EgressPrice, Offer, Price, StoragePrice
from earthself.benchmark.offers.money import Rates, egress
from earthself.benchmark.suggestion.need import MONTH_HOURS, Need
from earthself.benchmark.suggestion.performance import Performance
from earthself.benchmark.suggestion.profile import Profile
from earthself.benchmark.suggestion.values import Badge, Value, computed, unknown, worst

SYSTEM_GIB = 0.5
"""Memory that a machine keeps for itself."""
HOURS, EUROS = "h/month", "EUR/month"


@dataclass(frozen=True)
class Candidate:
    """An offer at a place for a price."""

    offer: Offer
    price: Price
    country: str | None
    """Of the region, ISO 3166-1 alpha-2."""
    near: bool | None
    """Whether all that is read is kept in this very region; None: the need does not say what is read."""
    storage: StoragePrice | None
    egress: EgressPrice | None

    @property
    def cloud(self) -> str:
        """Id of the cloud."""
        return self.price.cloud

    @property
    def region(self) -> str:
        """The region, as its cloud calls it."""
        return self.price.region

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all others, and puts them in order."""
        term = f"{self.price.term_months or 0:03d}"
        return (self.cloud, self.region, self.price.zone, self.offer.offer, self.price.allocation.value, term)


@dataclass(frozen=True)
class Estimate:
    """What an offer would take and cost in a month."""

    steps: int
    """How many steps work at once on one machine; 0 where none fits, or nobody knows."""
    machines: int
    """How many of them work."""
    hours: Value
    """Until the month's work is done, h."""
    euros: Value
    """Of the month, with storage and egress; its day is that of the oldest price in it."""
    tile_euros: Value
    """Of a tile: machines only."""
    costs: Mapping[str, Value]
    """The parts of the euros: `machines`, `storage`, `egress`."""
    deciding: Mapping[str, Value]
    """What the hours rest on: `speed`, `reading`, `writing`."""

    @property
    def measured(self) -> float:
        """Share of the deciding values that were measured, 0 to 1."""
        return sum(one.badge == Badge.MEASURED for one in self.deciding.values()) / len(self.deciding)


def steps_at_once(profile: Profile, offer: Offer) -> int:
    """Give how many steps an offer works at at once, by its cores and its memory; with fewer cores than a step keeps busy it is one."""
    cores, memory = offer.vcpus or 0.0, offer.memory_gib or 0.0
    return max(0, min(max(math.floor(cores / profile.threads), 1 if cores else 0), math.floor((memory - SYSTEM_GIB) / profile.memory_gib)))


def estimate(need: Need, candidate: Candidate, performance: Performance, rates: Rates) -> Estimate:
    """Estimate one offer; what it takes to know and nobody knows makes the result unknown, never small."""
    profile, offer = need.profile, candidate.offer
    steps = steps_at_once(profile, offer)
    machines = min(need.machines, max(1, math.ceil(need.tiles / max(1, steps))))
    deciding = {"speed": performance.speed(candidate.region, offer)}
    if profile.read_gb:
        deciding["reading"] = performance.reading(candidate.region, offer, steps, candidate.near)
    if profile.write_gb:
        deciding["writing"] = performance.writing(candidate.region, offer)
    hours = _hours(need, (steps, machines), min(profile.threads, offer.vcpus or 1.0), deciding)
    costs = {"machines": _machines(need, candidate.price, rates, hours, machines)}
    if need.storage_gb:
        costs["storage"] = _storage(need.storage_gb, candidate.storage, rates)
    if need.egress_gb:
        costs["egress"] = _egress(need.egress_gb, candidate.egress, rates)
    euros = computed(lambda *parts: math.fsum(parts), EUROS, "machines, storage and egress", *costs.values())
    tile = computed(lambda part: part / need.tiles, "EUR/tile", "machines only", costs["machines"])
    return Estimate(steps, machines, hours, euros, tile, costs, deciding)


def price_of(price: Price, rates: Rates) -> Value:
    """Give the price of an hour in euros."""
    return _euros(price.amount, price, rates, "EUR/h")


def _hours(need: Need, at_once: tuple[int, int], cores: float, deciding: Mapping[str, Value]) -> Value:
    steps, machines = at_once
    if steps < 1:
        return unknown(HOURS, "no step fits into it, or nobody knows how much memory and how many cores it has")
    if missing := next((one for one in deciding.values() if not one.known), None):
        return unknown(HOURS, missing.note)
    rounds = math.ceil(need.tiles / (steps * machines))

    def month(rate: Mapping[str, float]) -> float:
        return rounds * _tile(need.profile, steps, cores, rate) / 3600

    spans = {name: one.span() for name, one in deciding.items()}
    middle = month({name: float(one.value or 0) for name, one in deciding.items()})
    badges = [one.badge for one in deciding.values()]
    days = [one.day for one in deciding.values() if one.day is not None]
    counts = [one.count for one in deciding.values() if one.count is not None]
    note = f"{need.tiles:g} tiles, {steps} at once on {machines} machine{'s' * (machines > 1)}"
    quick, slow = ({name: span[end] for name, span in spans.items()} for end in (1, 0))
    return Value(middle, HOURS, worst(*badges), month(quick), month(slow), min(days, default=None), min(counts, default=None), note)


def _tile(profile: Profile, steps: int, cores: float, rate: Mapping[str, float]) -> float:
    """Give the seconds of one tile while `steps` of them share the machine, each with so many cores."""
    seconds = profile.start_seconds + profile.cpu_seconds / cores * profile.speed / rate["speed"]
    for name, gigabytes in (("reading", profile.read_gb), ("writing", profile.write_gb)):
        if gigabytes:
            seconds += gigabytes * 1000 * steps / rate[name]
    return seconds


def _machines(need: Need, price: Price, rates: Rates, hours: Value, machines: int) -> Value:
    hourly = price_of(price, rates)
    if price.allocation == Allocation.RESERVED:
        if price.upfront and not price.term_months:
            return unknown(EUROS, "part of it is to be paid at once, and nobody says for how long it lasts")
        upfront = _euros(price.upfront / (price.term_months or 1), price, rates, "EUR/month")
        return computed(lambda hour, once: machines * (hour * MONTH_HOURS + once), EUROS, "reserved for the whole month", hourly, upfront)
    if need.hours_per_month is not None:
        stands = need.hours_per_month
        return computed(lambda hour: machines * hour * stands, EUROS, f"stands for {stands:g} h", hourly)
    # The hours' own day is that of a measurement; what ages euros is the price.
    return replace(computed(lambda hour, time: machines * hour * time, EUROS, "while it works", hourly, hours), day=hourly.day)


def _storage(gigabytes: float, price: StoragePrice | None, rates: Rates) -> Value:
    if price is None:
        return unknown(EUROS, "nobody says what object storage costs there")
    return _euros(price.amount * gigabytes, price, rates, EUROS)


def _egress(gigabytes: float, price: EgressPrice | None, rates: Rates) -> Value:
    if price is None:
        return unknown(EUROS, "nobody says what bytes cost that leave there")
    return _euros(egress(price, gigabytes), price, rates, EUROS)


def _euros(amount: float, price: Price | StoragePrice | EgressPrice, rates: Rates, unit: str) -> Value:
    try:
        found = rates.euros(amount, price.currency)
    except RateUnknown as error:
        return unknown(unit, str(error))
    days = [price.source.day] if found.rate is None else [price.source.day, found.rate.source.day]
    return Value(found.amount, unit, Badge.PRICE, day=min(days), note=price.source.name)
