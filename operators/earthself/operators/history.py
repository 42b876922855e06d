"""What steps and runs took, kept so that the next request can be told what it will cost.

A table of the platform's own database (EARTHSELF_DATABASE_URL); SQLAlchemy is imported only where a row is written or read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from earthself.operators.errors import OperatorError
from sqlalchemy.engine import Connection, Engine

RUN = "run"
"""Stands in the column `step` for a whole run, from trigger to result."""
VERSION_TABLE = "operators_version"
HEAD = "0002"
"""Newest migration: asking for it costs a query, Alembic half a second."""
_BUSY_SECONDS = 30.0
"""How long to wait for others who write to the same SQLite file."""
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


class History:
    """Writes and reads the table; makes it where it is missing."""

    def __init__(self, url: str | None = None) -> None:
        url = url or database_url()
        try:
            self._engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise HistoryBroken(f"EARTHSELF_DATABASE_URL cannot be used: {type(error).__name__}: {error}".replace(url, "it")) from error
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    def __enter__(self) -> Self:
        self.migrate()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def migrate(self) -> None:
        """Bring the table up to date; raises `HistoryBroken` for a database that cannot be opened or is newer than this program."""
        with self._speaking():
            self._make_folder()
            with self._engine.connect() as connection:
                if _version(connection) == HEAD:
                    return
            _upgrade(self._engine)

    def add(self, record: Record, now: datetime | None = None) -> None:
        """Add a row; raises `HistoryBroken`."""
        with self._speaking(), self._engine.begin() as connection:
            _insert(connection, record, now)

    def replace(self, record: Record, now: datetime | None = None) -> None:
        """Add a row in place of those of the same step and run; raises `HistoryBroken`."""
        same = [STEP_HISTORY.c[name] == getattr(record, name) for name in ("step", "dag_id", "run_id")]
        with self._speaking(), self._engine.execution_options(immediate=True).begin() as connection:
            connection.execute(sa.delete(STEP_HISTORY).where(*same))
            _insert(connection, record, now)

    def recent(self, step: str, limit: int = 50) -> list[Record]:
        """Give the newest rows of a step, newest first; raises `HistoryBroken`."""
        columns = [STEP_HISTORY.c[field.name] for field in fields(Record)]
        query = sa.select(*columns).where(STEP_HISTORY.c.step == step).order_by(STEP_HISTORY.c.pk.desc()).limit(limit)
        with self._speaking(), self._engine.connect() as connection:
            return [Record(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn whatever keeps the database from answering into `HistoryBroken`, which callers can live with."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError) as error:
            where = self._engine.url.render_as_string()
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise HistoryBroken(f"the platform's database {where} cannot be used ({reason}); check EARTHSELF_DATABASE_URL") from error

    def _make_folder(self) -> None:
        file = self._engine.url.database
        if self._engine.dialect.name == "sqlite" and file and file != ":memory:":
            Path(file).parent.mkdir(parents=True, exist_ok=True)


def _insert(connection: Connection, record: Record, now: datetime | None) -> None:
    connection.execute(sa.insert(STEP_HISTORY).values(**asdict(record), recorded_at=now or datetime.now(UTC)))


def database_url() -> str:
    """Name the platform's database: EARTHSELF_DATABASE_URL, else a SQLite file in EARTHSELF_HOME."""
    named = os.environ.get("EARTHSELF_DATABASE_URL")
    home = Path(os.environ.get("EARTHSELF_HOME") or ".earthself").expanduser().absolute()
    return named or f"sqlite:///{home / 'earthself.db'}"


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))).scalar()
    return None if found is None else str(found)


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.execution_options(immediate=True).begin() as connection:
        found = _version(connection)
        if found is not None and found > HEAD:
            raise HistoryBroken(f"the platform's database is of version {found}, newer than this program ({HEAD}); update the program")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _configure_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - what SQLAlchemy hands over
    # We say BEGIN ourselves: Python's driver would leave changes of tables outside of the transaction.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={1000 * _BUSY_SECONDS:.0f}", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("immediate") else "BEGIN")
