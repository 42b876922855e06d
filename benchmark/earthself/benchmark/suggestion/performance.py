"""What a machine can do, from what was measured there; else from what its specification says, and then it says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from earthself.benchmark.offers.model import Offer
from earthself.benchmark.suggestion.values import Badge, Value, unknown
from earthself.benchmark.summaries import Measured

SPEED, RATE = "Mpixel/s", "MB/s"
_MB_A_GBIT = 125.0
_OF_A_PROMISE = 0.25
"""How much of a promised bandwidth ("up to") there is at the least, for the interval."""
_STREAMS = ((1, "read"), (8, "read_8"), (32, "read_32"))
_Key = tuple[str, str]


class Performance:
    """What all machines can do that were measured; asked for one offer in one region at a time."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._here: dict[tuple[str, str, str], dict[_Key, Measured]] = defaultdict(dict)
        self._elsewhere: dict[tuple[str, str], dict[_Key, Measured]] = defaultdict(dict)
        self._models: dict[str, list[Measured]] = defaultdict(list)
        for one in sorted(measured, key=lambda one: (one.newest, one.zone, one.region)):
            key = (one.test, one.metric)
            self._here[one.cloud, one.region, one.offer][key] = one
            self._elsewhere[one.cloud, one.offer][key] = one
            if key == ("numpy_one", "pixels") and one.cpu_model:
                self._models[one.cpu_model].append(one)

    def speed(self, region: str, offer: Offer) -> Value:
        """Give what one core does while all of them work, Mpixel/s of the probes `numpy_one` and `numpy_all`."""
        one = self._find(region, offer, ("numpy_one", "pixels"), SPEED)
        whole = self._find(region, offer, ("numpy_all", "pixels"), SPEED)
        if whole.known and offer.vcpus:
            return _scaled(whole, 1 / offer.vcpus, one if one.known else None)
        if one.known:
            return _weaker(one, "measured on one core only; numpy_all says what all of them do together")
        if (alike := self._models.get(offer.cpu_model or "")) is not None:
            values = [found.median for found in alike]
            return Value(
                median(values), SPEED, Badge.DERIVED, min(values), max(values), max(found.day for found in alike), len(values),
                f"of machines with the same processor, {offer.cpu_model}",
            )  # fmt: skip
        return unknown(SPEED, "its processor was not measured (numpy_one, numpy_all)")

    def reading(self, region: str, offer: Offer, steps: int, near: bool | None) -> Value:
        """Give how fast `steps` steps together read products, MB/s: from elsewhere where `near` is False, else from the storage beside."""
        if near is False:
            one = self._find(region, offer, ("download", "whole"), RATE)
            return one if one.known else self._promised(offer, one.note)
        found = [(streams, self._find(region, offer, ("object_store", metric), RATE)) for streams, metric in _STREAMS]
        known = [(streams, value) for streams, value in found if value.known]
        if not known:
            return self._promised(offer, found[0][1].note)
        most = max((pair for pair in known if pair[0] <= max(steps, known[0][0])), key=lambda pair: pair[0])
        enough = next((value for streams, value in known if streams >= steps), most[1])
        return _smaller(enough, _scaled(most[1], max(1.0, steps / most[0]), None)) if most[0] < steps else enough

    def writing(self, region: str, offer: Offer) -> Value:
        """Give how fast it writes to the storage beside, MB/s."""
        found = self._find(region, offer, ("object_store", "write"), RATE)
        return found if found.known else self._promised(offer, found.note)

    def _find(self, region: str, offer: Offer, key: _Key, unit: str) -> Value:
        here = self._here.get((offer.cloud, region, offer.offer), {}).get(key)
        if here is not None:
            return _value(here, Badge.MEASURED, unit, "")
        there = self._elsewhere.get((offer.cloud, offer.offer), {}).get(key)
        if there is not None:
            return _value(there, Badge.DERIVED, unit, f"measured in region {there.region or 'unknown'}")
        return unknown(unit, f"{key[0]} {key[1]} was not measured")

    def _promised(self, offer: Offer, why: str) -> Value:
        if offer.network_gbps is None:
            return unknown(RATE, why)
        rate = offer.network_gbps * _MB_A_GBIT
        return Value(
            rate,
            RATE,
            Badge.DERIVED,
            rate * _OF_A_PROMISE,
            rate,
            offer.source.day,
            note=f"its network promises {offer.network_gbps:g} Gbit/s; {why}",
        )


def _value(found: Measured, badge: Badge, unit: str, note: str) -> Value:
    if found.unit != unit:
        return unknown(unit, f"{found.test} {found.metric} was measured in {found.unit or 'no unit'}")
    return Value(found.median, unit, badge, found.low, found.high, found.day, found.count, note)


def _scaled(value: Value, factor: float, cap: Value | None) -> Value:
    """Give it times a factor, but no more than another."""
    ends = [None if one is None else one * factor for one in (value.value, value.low, value.high)]
    made = Value(ends[0], value.unit, value.badge, ends[1], ends[2], value.day, value.count, value.note)
    return made if cap is None else _smaller(made, cap)


def _smaller(one: Value, other: Value) -> Value:
    return min(one, other, key=lambda value: float("inf") if value.value is None else value.value)


def _weaker(value: Value, note: str) -> Value:
    return Value(value.value, value.unit, Badge.DERIVED, value.low, value.high, value.day, value.count, note)
