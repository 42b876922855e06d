"""The Cloud Suggest Engine with 5,000 offers and 1,000,000 samples in the database: how long an answer takes once it is warm."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

OFFERS, SAMPLES, CLOUDS, REGIONS = 5_000, 1_000_000, 10, 10
METRICS = [
    ("numpy_one", "pixels", "Mpixel/s", 200.0), ("numpy_all", "pixels", "Mpixel/s", 800.0), ("object_store", "read", "MB/s", 100.0),
    ("object_store", "read_8", "MB/s", 400.0), ("object_store", "write", "MB/s", 80.0),
]  # fmt: skip
ANSWERS = 40
TODAY = date(2026, 11, 23)


def place(number: int) -> tuple[str, str, str]:
    """Cloud, region and name of an offer."""
    return f"cloud{number % CLOUDS}", f"r{number // CLOUDS % REGIONS}", f"o{number}"


def offers() -> Iterator[Any]:
    """Machines of many sizes, each with a price in one region."""
    from earthself.benchmark.offers.model import Allocation, Cloud, Offer, Price, Region, Source

    source, draw = Source("made", "", date(2026, 11, 1)), np.random.default_rng(0)
    for cloud in range(CLOUDS):
        yield Cloud(f"cloud{cloud}", f"Cloud {cloud}", source)
        for region in range(REGIONS):
            yield Region(f"cloud{cloud}", f"r{region}", f"Region {region}", source, country="DE" if region % 2 else "SE")
    for number in range(OFFERS):
        cloud, region, name = place(number)
        cores = float(2 ** draw.integers(1, 7))
        yield Offer(cloud, name, source, vcpus=cores, memory_gib=cores * 4, architecture="x86_64")
        yield Price(cloud, region, name, Allocation.ON_DEMAND, cores * float(draw.uniform(0.02, 0.06)), "EUR", source)


def samples() -> Iterator[Any]:
    """As many values of each metric of each offer."""
    from earthself.benchmark.samples import Sample

    draw, at = np.random.default_rng(1), datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    times = SAMPLES // OFFERS // len(METRICS)
    for number in range(OFFERS):
        cloud, region, name = place(number)
        labels = {"cloud": cloud, "region": region, "offer": name, "cpu_model": f"model {number % 50}"}
        for test, metric, unit, middle in METRICS:
            for again, value in enumerate(draw.normal(middle, middle / 20, times)):
                yield Sample(test, metric, float(value), unit, labels, at + again, "run", f"{number}-{test}-{metric}-{again}")


def run() -> list[dict[str, Any]]:
    """Fill a SQLite database, ask once cold, then differently many times."""
    from earthself.benchmark import suggest
    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.tables import Samples

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        started = time.perf_counter()
        with Catalogue(url) as catalogue:
            catalogue.add(offers())
        with Samples(url) as kept:
            kept.add(samples())
            print(f"filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
            started = time.perf_counter()
            kept.revision()
        print(f"summed up in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        need = {
            "work": {"tiles": 400}, "machines": 4,
            "profile": {"cpu_seconds": 150, "memory_gib": 3, "read_gb": 1.2, "write_gb": 0.1, "speed": 150},
        }  # fmt: skip
        started = time.perf_counter()
        answer = suggest(need, database_url=url, today=TODAY)
        cold = time.perf_counter() - started
        taken = []
        for number in range(ANSWERS):
            started = time.perf_counter()
            suggest(need | {"work": {"tiles": 100 + number}}, database_url=url, today=TODAY)
            taken.append(time.perf_counter() - started)
    if answer.best is None:
        raise AssertionError("the bench has no ranking")
    return [
        {"name": "suggest: a warm answer, median", "value": float(np.median(taken)) * 1000, "unit": "ms"},
        {"name": "suggest: a warm answer, p95", "value": float(np.quantile(taken, 0.95)) * 1000, "unit": "ms", "goal": "500"},
        {"name": "suggest: the first answer", "value": cold * 1000, "unit": "ms"},
    ]
