"""Answers as the engine gives them, written by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
from earthself.benchmark.offers.model import Allocation, Offer, Price, Source
from earthself.benchmark.suggestion import ranking
from earthself.benchmark.suggestion.answer import Answer, Choice, Excluded, Operator, ToMeasure, Weight
from earthself.benchmark.suggestion.constraints import Miss
from earthself.benchmark.suggestion.estimate import Candidate, Estimate
from earthself.benchmark.suggestion.need import Need
from earthself.benchmark.suggestion.ranking import Criterion
from earthself.benchmark.suggestion.values import Badge, Value, computed, unknown

from tests.benchmark.clouds import FIGURES, TODAY

LIST = Source("prices of November", "https://example.org/prices", date(2026, 11, 2))
OLD = replace(LIST, name="prices of last year", day=date(2025, 12, 1))
PROBED = date(2026, 11, 20)
SERVICE = {
    "title": "Land cover of Crete, each month",
    "collections": ["S2_MSI_L2A"],
    "work": {"tiles": 400},
    "profile": FIGURES | {"name": "land_cover_map", "measured": "2026-11-18", "runs": 5},
    "storage_gb": 200,
    "egress_gb": 50,
    "deadline_hours": 120,
    "budget_euros": 60,
    "countries": ["EU"],
    "allocations": ["ondemand", "spot"],
    "weights": {"cost": 5, "time": 3, "carbon": 2},
}
NO_RANKING = "only one offer is known well enough: half of what decides must be measured, and prices no older than 180 days"


def candidate(
    offer="b3-16", cloud="birch", region="north-1", country="SE", *, vcpus=4.0, paid=Allocation.ON_DEMAND, amount=0.2, source=LIST
) -> Candidate:
    machine = Offer(cloud, offer, source, vcpus=vcpus, memory_gib=vcpus * 4, architecture="x86_64", cpu_model="A processor")
    return Candidate(machine, Price(cloud, region, offer, paid, amount, "EUR", source), country, cloud != "cedar", None, None)


def choice(at: Candidate, hours: float | None, spread=0.12, *, badge=Badge.MEASURED, grams=None, storage=4.0, **fields) -> Choice:
    """An offer that takes so many hours, plus and minus a share of them."""
    source = at.price.source
    rate = Value(160.0, "Mpixel/s", badge, 150.0, 170.0, PROBED, 5 if badge == Badge.MEASURED else None)
    deciding = {"speed": rate, "reading": Value(400.0, "MB/s", Badge.MEASURED, 380.0, 420.0, PROBED, 5)}
    took = unknown("h/month", "its processor was not measured (numpy_one, numpy_all)")
    if hours is None:
        deciding["speed"] = unknown("Mpixel/s", took.note)
    else:
        took = Value(
            hours, "h/month", badge, hours * (1 - spread), hours * (1 + spread), PROBED, rate.count, "400 tiles, 4 at once on 1 machine"
        )
    price = Value(at.price.amount, "EUR/h", Badge.PRICE, day=source.day, note=source.name)
    kept = unknown("EUR/month", "nobody says what object storage costs there")
    costs = {
        "machines": computed(lambda hour, time: hour * time, "EUR/month", "while it works", price, took),
        "storage": kept if storage is None else Value(storage, "EUR/month", Badge.PRICE, day=source.day, note=source.name),
        "egress": Value(2.5, "EUR/month", Badge.PRICE, day=source.day, note=source.name),
    }
    euros = computed(lambda *parts: sum(parts), "EUR/month", "machines, storage and egress", *costs.values())
    tile = computed(lambda part: part / 400, "EUR/tile", "machines only", costs["machines"])
    carbon = unknown("g/kWh", "nobody says what its electricity stands for")
    if grams is not None:
        carbon = Value(grams, "g/kWh", Badge.DERIVED, day=date(2026, 1, 1), note=f"of the grid of {at.country}")
    near = Value(
        float(at.near), "", Badge.DERIVED, day=date(2026, 10, 1), note=f"S2_MSI_L2A {'online' if at.near else 'external'} by somebody"
    )
    return Choice(at, Estimate(4, 1, took, euros, tile, costs, deciding), price, carbon, near, **fields)


def _ranked(choices: list[Choice]) -> tuple[list[Choice], list[Weight]]:
    """Put the first seven in their order, as the engine does."""
    count = [
        Criterion("cost", "EUR/month", 0.5, 0.0, 60.0, "the budget"),
        Criterion("time", "h/month", 0.3, 0.0, 120.0, "the deadline"),
        Criterion("carbon", "g/kWh", 0.2, 0.0, 1000.0, "electricity from brown coal only"),
    ]
    able, weights = choices[:7], np.array([one.weight for one in count])
    values = [
        [np.nan if one.value is None else one.value for one in (each.estimate.euros, each.estimate.hours, each.carbon)] for each in able
    ]
    away = ranking.distances(np.array(values), count)
    found = ranking.scores(away, weights)
    order = np.argsort(found)
    front = ranking.front(*np.array(values).T[:2])
    ranked = [replace(able[at], rank=place, score=float(found[at]), front=bool(front[at])) for place, at in enumerate(order, 1)]
    free = ranking.freedom(away, weights, int(order[0]))
    return [*ranked, *choices[7:]], [Weight(one, *ends) for one, ends in zip(count, free, strict=True)]


def answer(**fields) -> Answer:
    """Three clouds: one offer is suggested, seven are ranked, five satisfy the need and are not."""
    half = ("less than half of what decides was measured: speed, reading",)
    many = "euros unknown: nobody says what object storage costs there"
    choices = [
        choice(candidate(), 41.2, grams=25.0),
        choice(candidate("s1.large", "cedar", "gold-a", "DE", amount=0.5, vcpus=8.0), 27.1, grams=380.0, storage=6.0),
        choice(candidate("b3-8", amount=0.08, vcpus=2.0), 82.0, grams=25.0),
        choice(candidate("b3-32", amount=0.76, vcpus=8.0), 22.4, 0.2, grams=25.0),
        choice(candidate("e5-64", "alder", "west", "FR", amount=2.4, vcpus=16.0), 12.6, warnings=("may miss the budget: up to 61 of 60",)),
        choice(candidate("s1.medium", "cedar", "gold-a", "DE", amount=0.24), 61.0, grams=380.0),
        choice(candidate("b3-16", region="south-2", country="FR", paid=Allocation.SPOT, amount=0.16), 47.5, 0.3, grams=56.0),
        choice(candidate("e5-8", "alder", "west", "FR", amount=0.12, vcpus=2.0), 75.0, 0.5, badge=Badge.DERIVED, unranked=half),
        choice(candidate("e5-16", "alder", "west", "FR", amount=0.27), 38.0, 0.5, badge=Badge.DERIVED, unranked=half),
        choice(
            candidate("c2-16", "cedar", "gold-b", "DE", amount=0.35, source=OLD),
            40.0,
            unranked=("older than 180 days: price of machine (2025-12-01)",),
        ),
        choice(candidate("b3-64", region="south-2", country="FR", amount=0.9, vcpus=16.0), 14.0, storage=None, unranked=(many,)),
        choice(candidate("x9", "alder", "east", "PL", amount=0.5), None, unranked=("hours unknown: its processor was not measured",)),
    ]
    misses = [Miss("deadline_hours", "takes 131 h, more than 120", 0.09)]
    elsewhere = [Miss("countries", "region island is in GB"), Miss("machine.memory_gib", "has 2 GiB of memory, less than 4", 0.5)]
    excluded = [
        Excluded(candidate("b3-4", vcpus=1.0), misses),
        Excluded(candidate("tiny", "cedar", "gold-a", "DE"), misses),
        Excluded(candidate("nano", "alder", "island", "GB"), elsewhere),
    ]
    at = "--cloud alder --region west --offer e5-8 --storage s3://PROFILE@BUCKET/PREFIX"
    to_measure = [
        ToMeasure("prices of cedar", 1, "earthself-suggest offers load file FILE"),
        ToMeasure("e5-8 of alder in west", 1, f"earthself-suggest probe numpy_one numpy_all object_store {at}"),
    ]
    choices, weights = _ranked(choices)
    states = ("0f3a9c51d2be", "EODAG 4.10.0, holdings 5ad1")
    earns = Operator("Example Ltd", ("cedar",))
    made = Answer(Need.from_document(SERVICE), TODAY, *states, earns, choices, excluded, 3, weights, "", to_measure)
    return replace(made, **fields)


def without_ranking(**fields) -> Answer:
    """One offer is known well enough, which is no choice."""
    found = answer()
    choices = [replace(one, rank=None, score=None, unranked=one.unranked or ("not measured",)) for one in found.choices[2:]]
    return replace(found, choices=choices, weights=[], no_ranking=NO_RANKING, operator=Operator("", None), **fields)


def nothing_left(**fields) -> Answer:
    """Nothing satisfies the need."""
    return answer(choices=[], weights=[], no_ranking="no offer satisfies the need", to_measure=[], unpriced=0, **fields)
