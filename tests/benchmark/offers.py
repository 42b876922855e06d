"""Rows about made-up clouds."""

from __future__ import annotations

from datetime import date

from earthself.benchmark.offers.model import (
    Allocation,
    Carbon,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Price,
    Rate,
    Region,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip

OLDER, DAY, NEWER = date(2026, 10, 1), date(2026, 11, 1), date(2026, 11, 20)


def source(name="North's list", day=DAY):
    return Source(name, "https://north.example/prices", day)


def price(amount=0.05, **changes):
    said = {"cloud": "north", "region": "eu-paris", "offer": "s-2", "allocation": Allocation.ON_DEMAND, "currency": "EUR"}
    return Price(**(said | {"amount": amount, "source": source()} | changes))


def one_of_each():
    said = source()
    return [
        Cloud("north", "North Cloud", said, "https://north.example", "FR"),
        Region("north", "eu-paris", "Paris", said, "FR", "Paris", 2.35, 48.86, ("a", "b")),
        Offer("north", "s-2", said, 2.0, 4.0, "x86_64", "EPYC 7R13", 0.0, None, None, 40.0, "ssd", 0.5),
        Offer("north", "g-8", said),
        price(),
        price(0.03, allocation=Allocation.RESERVED, term_months=12, upfront=100.0, zone="a", valid_until=date(2027, 1, 1)),
        StoragePrice("north", "eu-paris", StorageKind.OBJECT, 0.01, "EUR", said),
        EgressPrice("north", "eu-paris", (Tier(100.0, 0.0), Tier(None, 0.02)), "EUR", said),
        Rate("USD", 0.9, said),
        Certificate("north", "iso-27001", said),
        Carbon(56.0, said, country="FR"),
    ]
