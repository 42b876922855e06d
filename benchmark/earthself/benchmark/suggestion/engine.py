"""From a need and what is known to an answer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.benchmark.offers.model import Allocation, Offer, Price
from earthself.benchmark.offers.money import OLD_PRICE
from earthself.benchmark.suggestion import constraints, ranking
from earthself.benchmark.suggestion.answer import (
    EARNS_FROM,
    LEAST_MEASURED,
    OPERATOR,
    Answer,
    Choice,
    Excluded,
    Operator,
    ToMeasure,
    Weight,
)
from earthself.benchmark.suggestion.estimate import Candidate, Estimate, estimate, price_of
from earthself.benchmark.suggestion.knowledge import Knowledge, knowledge
from earthself.benchmark.suggestion.need import Need
from earthself.benchmark.suggestion.ranking import Criterion
from earthself.benchmark.suggestion.values import Badge, Value, unknown

if TYPE_CHECKING:
    from earthself.benchmark.availability import At

_TILE_EUROS, _TILE_HOURS = 1.0, 1.0
"""Bounds without a budget or a deadline: a tile that costs a euro, one that takes an hour."""
_DIRTY = 1000.0
"""g/kWh of electricity from brown coal and nothing else."""
_PROBES = {"speed": ("numpy_one", "numpy_all"), "reading": ("object_store",), "writing": ("object_store",)}
_FAR = {"reading": ("download",)}


def suggest(need: Need | Mapping[str, Any], *, database_url: str | None = None, today: date | None = None) -> Answer:
    """Answer a need from what the platform's database knows; raises `BadNeed`, and `SamplesBroken` where the database is away."""
    asked = need if isinstance(need, Need) else Need.from_document(need)
    return answer(asked, knowledge(database_url), today or datetime.now(UTC).date())


def answer(need: Need, known: Knowledge, today: date) -> Answer:
    """Answer a need from what is known."""
    from earthself.benchmark.availability import version

    data = _Data(need.collections)
    choices, excluded = [], []
    for offer, price in known.priced:
        candidate = _candidate(offer, price, known, data)
        if misses := constraints.before(need, candidate, known.certificates.get(price.cloud, ()), today):
            excluded.append(Excluded(candidate, misses))
            continue
        found = estimate(need, candidate, known.performance, known.rates)
        if misses := constraints.after(need, found):
            excluded.append(Excluded(candidate, misses))
            continue
        carbon, near = _carbon(known, candidate), data.near(price.cloud, price.region)
        choice = Choice(candidate, found, price_of(price, known.rates), carbon, near, warnings=_warnings(need, candidate, found))
        choices.append(replace(choice, unranked=_unranked(choice, today)))
    choices = _fronts(choices)
    ranked, weights, why = _ranked(need, choices)
    excluded.sort(key=lambda one: (len(one.misses), sum(miss.gap for miss in one.misses), one.candidate.key))
    return Answer(
        need, today, known.state, version(), _operator(), ranked, excluded, len(known.unpriced), weights, why, _to_measure(choices)
    )


class _Data:
    """Where the collections of a need are, asked once for each place."""

    def __init__(self, collections: Sequence[str]) -> None:
        from earthself.benchmark.availability import availability

        self._collections = collections
        self._found = availability(collections) if collections else None
        self._near: dict[tuple[str, str], Value] = {}

    def near(self, cloud: str, region: str) -> Value:
        """Give the share of the collections that a region keeps whole and online, 0 to 1."""
        place = (cloud, region)
        if place not in self._near:
            self._near[place] = self._share(place)
        return self._near[place]

    def _share(self, place: tuple[str, str]) -> Value:
        if self._found is None:
            return unknown("", "the need names no collections")
        found = [self._found.at(*place, one) for one in self._collections]
        days = [one.day for one in found if one.day is not None]
        share = sum(one.kind == "online" for one in found) / len(found)
        return Value(share, "", Badge.DERIVED, day=min(days, default=None), note="; ".join(map(_words, found)))


def _words(at: At) -> str:
    doubt = f", doubtful: {at.doubtful}" if at.doubtful else ""
    by = f" by {', '.join(at.providers)}" if at.providers else ""
    return f"{at.collection} {at.kind}{by}{doubt}"


def _candidate(offer: Offer, price: Price, known: Knowledge, data: _Data) -> Candidate:
    place = (price.cloud, price.region)
    region, near = known.regions.get(place), data.near(*place)
    return Candidate(
        offer,
        price,
        region.country if region else None,
        near.value == 1.0 if near.known else None,
        known.storage.get(place),
        known.egress.get(place),
    )


def _carbon(known: Knowledge, candidate: Candidate) -> Value:
    found = known.carbon(candidate.cloud, candidate.region, candidate.country)
    if found is None:
        return unknown("g/kWh", "nobody says what its electricity stands for")
    note = f"{'of the region' if found.region else 'of the grid of ' + found.country}, {found.source.name}"
    return Value(found.grams_per_kwh, "g/kWh", Badge.DERIVED, day=found.source.day, note=note)


def _warnings(need: Need, candidate: Candidate, found: Estimate) -> list[str]:
    said = []
    if candidate.price.allocation == Allocation.SPOT:
        said.append("a spot machine may be taken away at any time; what was being done is done again")
    for limit, value, name in ((need.deadline_hours, found.hours, "deadline"), (need.budget_euros, found.euros, "budget")):
        if limit is not None and value.high is not None and value.high > limit:
            said.append(f"may miss the {name}: up to {value.high:.4g} of {limit:g}")
    return said


def _unranked(choice: Choice, today: date) -> list[str]:
    found = choice.estimate
    said = [f"{name} unknown: {value.note}" for name, value in (("hours", found.hours), ("euros", found.euros)) if not value.known]
    if found.measured < LEAST_MEASURED:
        least = [name for name, value in found.deciding.items() if value.badge != Badge.MEASURED]
        said.append(f"less than half of what decides was measured: {', '.join(least)}")
    days = {name: value.day for name, value in found.costs.items()} | {"machines": choice.price.day}
    if old := [f"price of {name} ({day})" for name, day in days.items() if day and today - day > OLD_PRICE]:
        said.append(f"older than {OLD_PRICE.days} days: {', '.join(old)}")
    until = choice.candidate.price.valid_until
    if until is not None and until < today:
        said.append(f"its price ended on {until}")
    return said


def _fronts(choices: Sequence[Choice]) -> list[Choice]:
    known = [one for one in choices if one.estimate.hours.known and one.estimate.euros.known]
    euros, hours = (np.array([float(getattr(one.estimate, name).value) for one in known]) for name in ("euros", "hours"))
    on = {id(one) for one, front in zip(known, ranking.front(euros, hours), strict=True) if front}
    return [replace(one, front=id(one) in on) for one in choices]


def criteria(need: Need) -> list[Criterion]:
    """Give what counts, with bounds from the need or fixed ones; never from the offers."""
    budget, deadline = need.budget_euros, need.deadline_hours
    bounds = {
        "cost": ("EUR/month", 0.0, budget or _TILE_EUROS * need.tiles, "the budget" if budget else f"{_TILE_EUROS:g} EUR a tile"),
        "time": ("h/month", 0.0, deadline or _TILE_HOURS * need.tiles, "the deadline" if deadline else f"{_TILE_HOURS:g} h a tile"),
        "carbon": ("g/kWh", 0.0, _DIRTY, "electricity from brown coal only"),
        "data": ("", 1.0, 0.0, "all of it in the region, or none"),
    }
    return [
        Criterion(name, unit, need.weights[name], best, least, why)
        for name, (unit, best, least, why) in bounds.items()
        if name in need.weights
    ]


def _ranked(need: Need, choices: Sequence[Choice]) -> tuple[list[Choice], list[Weight], str]:
    """Give the choices in their order, the weights' freedom, and why there is no ranking."""
    able = sorted((one for one in choices if not one.unranked), key=lambda one: one.candidate.key)
    rest = sorted((one for one in choices if one.unranked), key=_by_cost)
    if len(able) < 2:
        few = "no offer is" if not able else "only one offer is"
        why = f"{few} known well enough: half of what decides must be measured, and prices no older than {OLD_PRICE.days} days"
        return sorted(choices, key=_by_cost), [], why if choices else "no offer satisfies the need"
    count = criteria(need)
    away = ranking.distances(np.array([_counts(one, count) for one in able]), count)
    weights = np.array([one.weight for one in count])
    scores = ranking.scores(away, weights)
    order = np.lexsort((np.arange(len(able)), scores))
    free = ranking.freedom(away, weights, int(order[0]))
    ranked = [replace(able[at], rank=number, score=float(scores[at])) for number, at in enumerate(order, 1)]
    return ranked + rest, [Weight(one, *ends) for one, ends in zip(count, free, strict=True)], ""


def _counts(choice: Choice, count: Sequence[Criterion]) -> list[float]:
    of = {"cost": choice.estimate.euros, "time": choice.estimate.hours, "carbon": choice.carbon, "data": choice.near}
    return [float("nan") if (value := of[one.name].value) is None else value for one in count]


def _by_cost(choice: Choice) -> tuple[float, tuple[str, ...]]:
    euros = choice.estimate.euros.value
    return (float("inf") if euros is None else euros, choice.candidate.key)


def _to_measure(choices: Sequence[Choice]) -> list[ToMeasure]:
    """Say what keeps offers from being ranked, what most of them lack first."""
    lacks: Counter[tuple[str, str]] = Counter()
    for one in choices:
        if not one.unranked:
            continue
        price = one.candidate.price
        probes = [probe for name, value in one.estimate.deciding.items() if value.badge != Badge.MEASURED for probe in _probes(name, one)]
        if probes:
            at = f"--cloud {price.cloud} --region {price.region} --offer {price.offer}"
            lacks[
                f"{price.offer} of {price.cloud} in {price.region}",
                f"earthself-suggest probe {' '.join(dict.fromkeys(probes))} {at}{_places(probes)}",
            ] += 1
        if any(said.startswith(("older", "its price", "euros unknown")) for said in one.unranked):
            lacks[f"prices of {price.cloud}", "earthself-suggest offers load file FILE"] += 1
    return [ToMeasure(what, number, command) for (what, command), number in sorted(lacks.items(), key=lambda pair: (-pair[1], pair[0]))]


def _probes(name: str, choice: Choice) -> Sequence[str]:
    return _PROBES[name] if choice.candidate.near is not False else _FAR.get(name, _PROBES[name])


def _places(probes: Sequence[str]) -> str:
    asks = {"object_store": " --storage s3://PROFILE@BUCKET/PREFIX", "download": " --raster URL"}
    return "".join(words for name, words in asks.items() if name in probes)


def _operator() -> Operator:
    said = os.environ.get(EARNS_FROM, "")
    clouds = (
        None if not said.strip() else tuple(name.strip().lower() for name in said.split(",") if name.strip().lower() not in ("", "none"))
    )
    return Operator(os.environ.get(OPERATOR, "").strip(), clouds)
