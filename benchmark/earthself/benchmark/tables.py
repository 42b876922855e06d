"""The table of samples, in the platform's database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from earthself.benchmark.errors import SamplesBroken
from earthself.benchmark.samples import Sample
from earthself.data.database import Kept, Tables
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

VERSION_TABLE = "benchmark_version"
HEAD = "0001"
METADATA = sa.MetaData()
PLACES = ("cloud", "region", "zone", "offer")
"""Labels with columns of their own; PerfKitBenchmarker calls the last `machine_type`."""
SAMPLE = sa.Table(
    "benchmark_sample",
    METADATA,
    sa.Column("sample_uri", sa.String(250), primary_key=True),
    sa.Column("run_uri", sa.String(250), nullable=False),
    sa.Column("test", sa.String(250), nullable=False),
    sa.Column("metric", sa.String(250), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("unit", sa.String(100), nullable=False),
    sa.Column("timestamp", sa.Double, nullable=False),
    *(sa.Column(name, sa.String(250), nullable=False) for name in PLACES),
    sa.Column("labels", sa.JSON, nullable=False),
)
_TABLES = Tables(Path(__file__).with_name("migrations"), VERSION_TABLE, HEAD, SamplesBroken)
_BATCH = 1000


@dataclass(frozen=True)
class Wanted:
    """Which samples: all that agree with every field that is given."""

    test: str | None = None
    metric: str | None = None
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    offer: str | None = None
    run_uri: str | None = None
    since: datetime | None = None


class Samples(Kept):
    """All samples that were ever measured here, or brought in."""

    def __init__(self, url: str | None = None) -> None:
        """Use the platform's database unless another one is named."""
        super().__init__(_TABLES, url)

    def add(self, samples: Iterable[Sample]) -> int:
        """Keep samples, all of them or none; those that are kept already are left as they are. Gives how many are new."""
        rows = [_row(sample) for sample in samples]
        with self._database.writing() as connection:
            return sum(_insert(connection, rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH))

    def find(self, wanted: Wanted = Wanted()) -> Iterator[Sample]:
        """Give samples in the order of their time."""
        query = sa.select(SAMPLE).order_by(SAMPLE.c.timestamp, SAMPLE.c.sample_uri)
        for name in ("test", "metric", "run_uri", *PLACES):
            if (value := getattr(wanted, name)) is not None:
                query = query.where(SAMPLE.c[name] == value)
        if wanted.since is not None:
            query = query.where(SAMPLE.c.timestamp >= wanted.since.timestamp())
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=_BATCH).execute(query):
                yield Sample(row.test, row.metric, row.value, row.unit, row.labels, row.timestamp, row.run_uri, row.sample_uri)


def _row(sample: Sample) -> dict[str, object]:
    labels = dict(sample.labels)
    places = {name: labels.get(name, "") for name in PLACES}
    places["cloud"] = places["cloud"].lower()  # that program writes GCP, AWS, Azure
    places["offer"] = places["offer"] or labels.get("machine_type", "")
    return {
        "sample_uri": sample.sample_uri, "run_uri": sample.run_uri, "test": sample.test, "metric": sample.metric, "value": sample.value,
        "unit": sample.unit, "timestamp": sample.timestamp, "labels": labels, **places,
    }  # fmt: skip


def _insert(connection: Connection, rows: list[dict[str, object]]) -> int:
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = kind.insert(SAMPLE).values(rows).on_conflict_do_nothing().returning(SAMPLE.c.sample_uri)
    return len(connection.execute(new).all())
