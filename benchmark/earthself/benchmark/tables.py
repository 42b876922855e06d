"""The table of samples, in the platform's database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from earthself.benchmark.errors import SamplesBroken
from earthself.benchmark.samples import Sample
from earthself.data.database import Kept, Tables
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from earthself.benchmark.summaries import Measured

VERSION_TABLE = "benchmark_version"
HEAD = "0003"
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
SUMMARY = sa.Table(
    "benchmark_summary",
    METADATA,
    *(sa.Column(name, sa.String(250), primary_key=True) for name in (*PLACES, "test", "metric")),
    sa.Column("unit", sa.String(100), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("cpu_model", sa.String(250), nullable=False),
    sa.Column("median", sa.Double, nullable=False),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("newest", sa.Double, nullable=False),
)
"""What the newest samples of a place say together (`earthself.benchmark.summaries`)."""
STALE = sa.Table("benchmark_stale", METADATA, *(sa.Column(name, sa.String(250), primary_key=True) for name in PLACES))
"""Places whose summaries are older than their samples."""
REVISION = sa.Table(
    "benchmark_revision", METADATA, sa.Column("part", sa.String(50), primary_key=True), sa.Column("number", sa.BigInteger, nullable=False)
)
"""How often a part of what answers rest on has changed."""
MIGRATIONS = Path(__file__).with_name("migrations")
TABLES = Tables(MIGRATIONS, VERSION_TABLE, HEAD, SamplesBroken)
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
        super().__init__(TABLES, url)

    def add(self, samples: Iterable[Sample]) -> int:
        """Keep samples, all of them or none; those that are kept already are left as they are. Gives how many are new."""
        from earthself.benchmark.summaries import mark

        rows = [_row(sample) for sample in samples]
        with self._database.writing() as connection:
            new = sum(_insert(connection, rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH))
            if new:
                mark(connection, (tuple(str(row[name]) for name in PLACES) for row in rows))
            return new

    def revision(self) -> int:
        """Tell how often the summaries have changed, after those that are due were made."""
        from earthself.benchmark.summaries import due, refresh, revision

        with self._database.reading() as connection:
            if not due(connection):
                return revision(connection)
        with self._database.writing() as connection:
            refresh(connection)
            return revision(connection)

    def measured(self) -> list[Measured]:
        """Give what the samples of each place say together."""
        from earthself.benchmark.summaries import read

        self.revision()
        with self._database.reading() as connection:
            return read(connection)

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

    def newest(self) -> dict[tuple[str, ...], float]:
        """Tell of each place (cloud, region, zone, offer) when its newest sample was measured, seconds since 1970."""
        columns = [SAMPLE.c[name] for name in PLACES]
        query = sa.select(*columns, sa.func.max(SAMPLE.c.timestamp)).group_by(*columns)
        with self._database.reading() as connection:
            return {tuple(row[:-1]): float(row[-1]) for row in connection.execute(query)}


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
