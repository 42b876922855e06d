"""What all samples of a place say together: kept beside them, so that an answer reads thousands of rows and not millions.

Adding samples marks their places; whoever asks for the summaries makes those of the marked places first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from earthself.benchmark.samples import FAILED
from earthself.benchmark.statistics import summary
from earthself.benchmark.tables import PLACES, REVISION, SAMPLE, STALE, SUMMARY
from sqlalchemy.engine import Connection

NEWEST = 200
"""So many samples of one metric count, the newest; what a machine did before says less about what it does today."""
ENVIRONMENT = frozenset({*PLACES, "cpu_model", "cpu_cores", "memory_bytes", "kernel", "machine", "image", "machine_type"})
"""Labels that say where it was measured; the others say how."""
ADDRESSES = frozenset({"storage", "server", "raster", "jp2"})
"""Parameters that differ from place to place by their nature."""
_BATCH = 500
_PART = "samples"


@dataclass(frozen=True)
class Measured:
    """The median of one metric at one place."""

    cloud: str
    region: str
    zone: str
    offer: str
    test: str
    metric: str
    unit: str
    parameters: Mapping[str, str]
    """How it was measured; values of other parameters are left out."""
    cpu_model: str
    median: float
    low: float | None
    """End of the interval; None with fewer than five values."""
    high: float | None
    count: int
    newest: float
    """When the newest value was measured, seconds since 1970."""

    @property
    def day(self) -> date:
        """When the newest value was measured, UTC."""
        return datetime.fromtimestamp(self.newest, UTC).date()


def mark(connection: Connection, places: Iterable[tuple[str, ...]]) -> None:
    """Mark places whose samples have changed."""
    wanted = sorted(set(places))
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        columns = sa.tuple_(*(STALE.c[name] for name in PLACES))
        there = set(map(tuple, connection.execute(sa.select(STALE).where(columns.in_(part)))))
        if new := [dict(zip(PLACES, place, strict=True)) for place in part if place not in there]:
            connection.execute(STALE.insert(), new)


def due(connection: Connection) -> bool:
    """Tell whether a place is marked."""
    return connection.execute(sa.select(STALE).limit(1)).first() is not None


def revision(connection: Connection) -> int:
    """Tell how often the summaries have changed."""
    return int(connection.execute(sa.select(REVISION.c.number).where(REVISION.c.part == _PART)).scalar() or 0)


def refresh(connection: Connection) -> None:
    """Make the summaries of all marked places anew."""
    for place in [tuple(row) for row in connection.execute(sa.select(STALE))]:
        here = [SUMMARY.c[name] == value for name, value in zip(PLACES, place, strict=True)]
        connection.execute(SUMMARY.delete().where(*here))
        if rows := list(_summaries(connection, place)):
            connection.execute(SUMMARY.insert(), rows)
    connection.execute(STALE.delete())
    if not connection.execute(sa.update(REVISION).where(REVISION.c.part == _PART).values(number=REVISION.c.number + 1)).rowcount:
        connection.execute(REVISION.insert().values(part=_PART, number=1))


def read(connection: Connection) -> list[Measured]:
    """Give all summaries, in the order of their keys."""
    found = connection.execute(sa.select(SUMMARY))
    return sorted(
        (Measured(**row) for row in found.mappings()), key=lambda one: (one.cloud, one.region, one.zone, one.offer, one.test, one.metric)
    )


def state(measured: Sequence[Measured]) -> str:
    """Name what was measured: the same for the same summaries, another for others."""
    digest = hashlib.sha256()
    for one in measured:
        digest.update(json.dumps(asdict(one), sort_keys=True).encode())
    return digest.hexdigest()[:12]


def _summaries(connection: Connection, place: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    here = [SAMPLE.c[name] == value for name, value in zip(PLACES, place, strict=True)]
    newest_first = sa.func.row_number().over(
        partition_by=[SAMPLE.c.test, SAMPLE.c.metric], order_by=[SAMPLE.c.timestamp.desc(), SAMPLE.c.sample_uri]
    )
    columns = [SAMPLE.c[name] for name in ("test", "metric", "unit", "value", "timestamp", "labels")]
    numbered = sa.select(*columns, newest_first.label("number")).where(*here, SAMPLE.c.metric != FAILED).subquery()
    query = sa.select(numbered).where(numbered.c.number <= NEWEST).order_by(numbered.c.test, numbered.c.metric, numbered.c.number)
    for (test, metric), group in groupby(connection.execute(query), lambda row: (row.test, row.metric)):
        rows = list(group)
        first = rows[0]
        how, unit = _parameters(first.labels), first.unit
        values = [row.value for row in rows if row.unit == unit and _comparable(row.labels) == _comparable(first.labels)]
        found = summary(values)
        yield dict(zip(PLACES, place, strict=True)) | {
            "test": test, "metric": metric, "unit": unit, "parameters": how, "cpu_model": str(first.labels.get("cpu_model", ""))[:250],
            "median": found.median, "low": found.low if math.isfinite(found.low) else None,
            "high": found.high if math.isfinite(found.high) else None, "count": found.count, "newest": first.timestamp,
        }  # fmt: skip


def _parameters(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in ENVIRONMENT}


def _comparable(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in _parameters(labels).items() if name not in ADDRESSES}
