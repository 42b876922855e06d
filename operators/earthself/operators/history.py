"""What steps and runs took, kept so that the next request can be told what it will cost.

A table of the platform's own database (EARTHSELF_DATABASE_URL); SQLAlchemy is imported only where a row is written or read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from earthself.data.database import Kept, Tables
from earthself.operators.errors import OperatorError
from sqlalchemy.engine import Connection

RUN = "run"
"""Stands in the column `step` for a whole run, from trigger to result."""
VERSION_TABLE = "operators_version"
HEAD = "0002"
"""Newest migration."""
METADATA = sa.MetaData()
STEP_HISTORY = sa.Table(
    "step_history",
    METADATA,
    sa.Column("pk", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("step", sa.String(250), nullable=False),
    sa.Column("version", sa.String(100), nullable=False),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Column("products", sa.BigInteger, nullable=False),
    sa.Column("pixels", sa.BigInteger, nullable=False),
    sa.Column("bytes_read", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
    sa.Column("peak_memory", sa.BigInteger, nullable=False),
    sa.Column("guessed_pixels", sa.BigInteger, nullable=False),
    sa.Column("area_pixels", sa.BigInteger, nullable=False),
    sa.Index("step_history_newest", "step", "pk"),
)


class HistoryBroken(OperatorError):
    """The table of earlier steps cannot be used."""


@dataclass(frozen=True)
class Record:
    """One step, or one whole run (`RUN`), that ended well."""

    step: str
    """Name of the step or program."""
    version: str
    """Version of the distribution that offers it, or empty."""
    dag_id: str
    """Workflow."""
    run_id: str
    """Run."""
    products: int
    """Items that it worked on."""
    pixels: int
    """10 m pixels that it worked on, 0 where it does not say."""
    bytes_read: int
    """Bytes that it read from providers."""
    seconds: float
    """Wall-clock time."""
    cpu_seconds: float
    """Processor time."""
    peak_memory: int
    """Bytes at most, 0 where unknown."""
    guessed_pixels: int = 0
    """10 m pixels of each product that the run's own estimate thought to be needed; 0 for a step."""
    area_pixels: int = 0
    """10 m pixels of the box round the run's area; 0 for a step."""


class History(Kept):
    """Writes and reads the table; makes it where it is missing."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(_TABLES, url)

    def add(self, record: Record, now: datetime | None = None) -> None:
        """Add a row; raises `HistoryBroken`."""
        with self._database.writing() as connection:
            _insert(connection, record, now)

    def replace(self, record: Record, now: datetime | None = None) -> None:
        """Add a row in place of those of the same step and run; raises `HistoryBroken`."""
        same = [STEP_HISTORY.c[name] == getattr(record, name) for name in ("step", "dag_id", "run_id")]
        with self._database.writing() as connection:
            connection.execute(sa.delete(STEP_HISTORY).where(*same))
            _insert(connection, record, now)

    def recent(self, step: str, limit: int = 50) -> list[Record]:
        """Give the newest rows of a step, newest first; raises `HistoryBroken`."""
        columns = [STEP_HISTORY.c[field.name] for field in fields(Record)]
        query = sa.select(*columns).where(STEP_HISTORY.c.step == step).order_by(STEP_HISTORY.c.pk.desc()).limit(limit)
        with self._database.reading() as connection:
            return [Record(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name


def _insert(connection: Connection, record: Record, now: datetime | None) -> None:
    connection.execute(sa.insert(STEP_HISTORY).values(**asdict(record), recorded_at=now or datetime.now(UTC)))


_TABLES = Tables(Path(__file__).parent / "migrations", VERSION_TABLE, HEAD, HistoryBroken)
