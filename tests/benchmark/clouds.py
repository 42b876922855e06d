"""Clouds, machines and measurements as tests write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from earthself.benchmark.offers.model import (
    Allocation,
    Carbon,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Offers,
    Price,
    Rate,
    Region,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip
from earthself.benchmark.samples import Sample
from earthself.benchmark.summaries import Measured

TODAY = date(2026, 11, 23)
SOURCE = Source("a table", "https://example.org/prices", date(2026, 11, 1))
FIGURES = {"cpu_seconds": 100.0, "memory_gib": 2.0, "read_gb": 1.0, "speed": 100.0, "start_seconds": 10.0}
NEED = {"work": {"tiles": 40}, "profile": FIGURES}
RATES = {("numpy_one", "pixels"): 200.0, ("numpy_all", "pixels"): 640.0, ("object_store", "read"): 100.0, ("object_store", "read_8"): 400.0}
_UNITS = {"numpy_one": "Mpixel/s", "numpy_all": "Mpixel/s"}


def offer(name="m4", cloud="north", **fields) -> Offer:
    return Offer(cloud, name, SOURCE, **{"vcpus": 4.0, "memory_gib": 16.0, "architecture": "x86_64"} | fields)


def price(amount=0.36, of="m4", cloud="north", region="n1", **fields) -> Price:
    return Price(cloud, region, of, **{"allocation": Allocation.ON_DEMAND, "amount": amount, "currency": "EUR", "source": SOURCE} | fields)


def measured(of="m4", region="n1", rates=RATES, spread=0.1) -> list[Measured]:
    """Values with an interval of so much to either side."""
    at = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    return [
        Measured(
            "north", region, "", of, test, metric, _UNITS.get(test, "MB/s"), {}, "CPU",
            rate, rate * (1 - spread), rate * (1 + spread), 5, at,
        )
        for (test, metric), rate in rates.items()
    ]  # fmt: skip


def samples(of="m4", region="n1", rates=RATES, times=5, day=date(2026, 11, 20)) -> list[Sample]:
    """The same value so many times over, as probes leave it."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    where = {"cloud": "north", "region": region, "offer": of, "cpu_model": "CPU"}
    return [
        Sample(test, metric, rate, _UNITS.get(test, "MB/s"), where, at + number, "run")
        for (test, metric), rate in rates.items()
        for number in range(times)
    ]


def offers(**parts) -> Offers:
    """A cloud with one machine in one region, unless told."""
    return replace(
        Offers(
            clouds=(Cloud("north", "North", SOURCE),),
            regions=(Region("north", "n1", "North 1", SOURCE, country="SE"),),
            offers=(offer(),),
            prices=(price(),),
            storage_prices=(StoragePrice("north", "n1", StorageKind.OBJECT, 0.02, "EUR", SOURCE),),
            egress_prices=(EgressPrice("north", "n1", (Tier(100, 0), Tier(None, 0.05)), "EUR", SOURCE),),
            rates=(Rate("USD", 0.9, SOURCE),),
            certificates=(Certificate("north", "iso-27001", SOURCE),),
            carbon=(Carbon(30.0, SOURCE, country="SE"),),
        ),
        **parts,
    )
