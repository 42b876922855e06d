"""The platform's own database (EARTHSELF_DATABASE_URL): where it is, how SQLite behaves, how each owner's tables are brought up to date.

SQLAlchemy is imported with this module, so it is imported only where a row is written or read; each distribution that has tables
asks for it and for Alembic.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from earthself.data.errors import EarthSelfError
from earthself.data.sqlite import open_shared
from sqlalchemy.engine import Connection, Dialect

BUSY_SECONDS = 30.0
"""How long to wait for others who write to the same SQLite file."""
_UPGRADING = threading.Lock()
"""Alembic's context is the whole process's."""
_UPGRADE_KEY = 0x45535F55
"""Of the lock that PostgreSQL keeps for whoever makes the tables first; a SQLite file is locked as a whole."""


@dataclass(frozen=True)
class Tables:
    """Tables of one owner, with a version of their own."""

    migrations: Path
    """Alembic's folder."""
    version_table: str
    """Where their version stands in the database."""
    head: str
    """Newest migration: asking for it costs a query, Alembic half a second."""
    broken: type[EarthSelfError]
    """What is raised for whatever keeps the database from answering."""


class Instant(sa.TypeDecorator[datetime]):
    """A moment in UTC; SQLite would forget the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Write it in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Read it in UTC."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class PlatformDatabase:
    """Speaks to the database for one owner of tables; migrates them first."""

    def __init__(self, tables: Tables, url: str | None = None) -> None:
        url = url or database_url()
        self._tables = tables
        try:
            self._engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise tables.broken(f"EARTHSELF_DATABASE_URL cannot be used: {type(error).__name__}: {error}".replace(url, "it")) from error
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    def migrate(self) -> None:
        """Bring the tables up to date; raises `broken` for a database that cannot be opened or is newer than this program."""
        with self._speaking():
            self._make_folder()
            with self._engine.connect() as connection:
                if self._version(connection) == self._tables.head:
                    return
            self._upgrade()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection for questions; raises `broken`."""
        with self._speaking(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose changes count together at the end; SQLite lets one write at a time. Raises `broken`."""
        with self._speaking(), self._engine.execution_options(immediate=True).begin() as connection:
            yield connection

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError) as error:
            where = self._engine.url.render_as_string()
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise self._tables.broken(f"the platform's database {where} cannot be used ({reason}); check EARTHSELF_DATABASE_URL") from error

    def _make_folder(self) -> None:
        file = self._engine.url.database
        if self._engine.dialect.name == "sqlite" and file and file != ":memory:":
            Path(file).parent.mkdir(parents=True, exist_ok=True)

    def _version(self, connection: Connection) -> str | None:
        name = self._tables.version_table
        if not sa.inspect(connection).has_table(name):
            return None
        found = connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(name))).scalar()
        return None if found is None else str(found)

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self._tables.migrations).replace("%", "%%"))
        with _UPGRADING, self._engine.execution_options(immediate=True).begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_KEY)))
            found = self._version(connection)
            if found is not None and found > self._tables.head:
                raise self._tables.broken(
                    f"the platform's database is of version {found}, newer than this program ({self._tables.head}); update the program"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


class Kept:
    """What is kept in the tables of one owner: made where they are missing when a `with` block begins, let go when it ends."""

    def __init__(self, tables: Tables, url: str | None = None) -> None:
        self._database = PlatformDatabase(tables, url)

    def __enter__(self) -> Self:
        self._database.migrate()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def run_migrations(metadata: sa.MetaData, version_table: str) -> None:
    """What every owner's `migrations/env.py` does: bring its tables up to date on the connection, and in the transaction, of the caller."""
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table=version_table,
        transactional_ddl=False,  # the caller's transaction holds all changes, or none
    )
    context.run_migrations()


def database_url() -> str:
    """Name the platform's database: EARTHSELF_DATABASE_URL, else a SQLite file in EARTHSELF_HOME."""
    named = os.environ.get("EARTHSELF_DATABASE_URL")
    home = Path(os.environ.get("EARTHSELF_HOME") or ".earthself").expanduser().absolute()
    return named or f"sqlite:///{home / 'earthself.db'}"


def _configure_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - what SQLAlchemy hands over
    open_shared(connection, busy_seconds=BUSY_SECONDS, synchronous="NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("immediate") else "BEGIN")
