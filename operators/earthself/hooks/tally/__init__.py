"""What is counted for the operators of the platform: tasks are over before anybody could ask them, so they add to rows that stay.

One row for each name and set of labels, so the table is as large as the list of what is counted, however many runs there were. What long
processes measure (how many pods wait) is told here, too, with the time, and counts as long as it is told again.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from earthself.data.database import Instant, Kept, Tables
from earthself.data.errors import EarthSelfError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

VERSION_TABLE = "tally_version"
HEAD = "0001"
METADATA = sa.MetaData()
TALLY = sa.Table(
    "tally",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("labels", sa.String(1000), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)
"""Sums that only grow."""
TOLD = sa.Table(
    "told",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("labels", sa.String(1000), primary_key=True),
    sa.Column("teller", sa.String(250), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("at", Instant, nullable=False),
)
"""What a process saw last; of one that is gone nothing comes any more."""
BUCKET = "le"
"""Label of a histogram's row: the upper bound of the bucket, which holds what no smaller one does."""
SUM = "_sum"
"""Ends the name of a histogram's row that holds the sum of what was observed."""
FORGOTTEN = timedelta(days=1)
"""After which the rows of a process that is gone are removed."""


class TallyBroken(EarthSelfError):
    """The table of what is counted cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True


@dataclass(frozen=True)
class Amount:
    """A number of something."""

    name: str
    """What, as Prometheus names it, without `_total`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What tells it from others of the name; few values each, never ids of runs or products."""
    value: float = 1.0
    """How much, in the unit that the name says."""


class Tally(Kept):
    """Adds and reads; makes the tables where they are missing. Every method raises `TallyBroken`."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(_TABLES, url)

    def add(self, amounts: Iterable[Amount]) -> None:
        """Add to what was counted before, all of it or nothing."""
        # In one order everywhere: two tasks that add to the same rows must not wait for each other.
        rows = sorted((each.name, _written(each.labels), each.value) for each in amounts)
        with self._database.writing() as connection:
            for name, labels, value in rows:
                added = _insert(connection, TALLY).values(name=name, labels=labels, value=value)
                connection.execute(
                    added.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": TALLY.c.value + added.excluded.value})
                )

    def counted(self) -> list[Amount]:
        """Give everything that was counted."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(TALLY).order_by(TALLY.c.name, TALLY.c.labels)).all()
        return [Amount(row.name, json.loads(row.labels), row.value) for row in rows]

    def tell(self, name: str, values: Mapping[str, float], label: str, teller: str, now: datetime | None = None) -> None:
        """Say how much a process sees now, by the value of a label, in place of what it said before."""
        at = now or datetime.now(UTC)
        old = sa.or_(TOLD.c.teller == teller, TOLD.c.at < at - FORGOTTEN)
        with self._database.writing() as connection:
            connection.execute(sa.delete(TOLD).where(TOLD.c.name == name, old))
            for key, value in values.items():
                row = {"name": name, "labels": _written({label: key}), "teller": teller, "value": value, "at": at}
                connection.execute(sa.insert(TOLD).values(**row))

    def told(self, since: datetime) -> list[Amount]:
        """Add up what processes said that have spoken since."""
        total = sa.func.sum(TOLD.c.value).label("value")
        query = sa.select(TOLD.c.name, TOLD.c.labels, total).where(TOLD.c.at >= since).group_by(TOLD.c.name, TOLD.c.labels)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(TOLD.c.name, TOLD.c.labels)).all()
        return [Amount(row.name, json.loads(row.labels), row.value) for row in rows]


def observed(name: str, value: float, labels: Mapping[str, str], bounds: Sequence[float]) -> list[Amount]:
    """Put a value into its bucket of a histogram; `bounds` are the upper bounds, rising, without the last, which is infinite."""
    place = bisect_left(bounds, value)
    bound = f"{bounds[place]:g}" if place < len(bounds) else "+Inf"
    return [Amount(name, {**labels, BUCKET: bound}), Amount(name + SUM, labels, value)]


def _written(labels: Mapping[str, str]) -> str:
    return json.dumps({name: str(value)[:250] for name, value in labels.items()}, sort_keys=True, separators=(",", ":"))


def _insert(connection: Connection, table: sa.Table) -> Any:  # noqa: ANN401 - the two dialects' inserts share no public type
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


_TABLES = Tables(Path(__file__).parent / "migrations", VERSION_TABLE, HEAD, TallyBroken)
