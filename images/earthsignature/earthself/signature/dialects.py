"""What differs between SQLite and PostgreSQL: how to connect, to look for places, and to write many rows at once.

SQLite finds boxes and days in an R*Tree, and shapely decides; PostGIS does both. SQL that only one of them understands stands here and
in the migrations, nowhere else.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import shapely
import sqlalchemy as sa
from earthself.data.sqlite import open_shared
from earthself.signature.errors import BadSignature, OverTime, SignatureError, StoreBroken, StoreFull, Unavailable
from earthself.signature.filters import Query
from earthself.signature.rows import BOX_COLUMNS, CODE_COLUMNS, LAYER_COLUMNS, PRODUCT_COLUMNS, Rows
from earthself.signature.tables import PLACE, PRODUCT, PRODUCT_CODE, SRID
from earthself.signature.waiting import Waiting
from shapely.geometry.base import BaseGeometry
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection, Engine

_MOST_CANDIDATES = 20_000  # are looked up one by one; where a place has more, the newest of all are gone through instead
_MICROS_PER_DAY = 86_400_000_000
_MOST_BOXES = 16
_OVER_TIME = "the question takes the database too long; narrow it by place, time or ids"
_BULK = 1000
_STEPS = 10_000  # of SQLite's machine, some 250 µs
_CANCEL_SECONDS = 5.0
_EWKB_SRID = 0x20000000


class Dialect(Protocol):
    """One kind of database."""

    @property
    def engine(self) -> Engine:
        """Connections for reading."""

    @property
    def writing(self) -> Engine:
        """The same, for transactions that write: on SQLite they wait for each other at their beginning."""

    def snapshot(self) -> Connection:
        """Open a connection whose one transaction sees one moment."""

    def exists(self) -> bool:
        """Tell whether there is a database at that address; asking otherwise would make one."""

    def prepare(self) -> None:
        """Make what the migrations need."""

    def candidates(self, connection: Connection, query: Query) -> sa.ColumnElement[bool] | None:
        """The condition that a product is one of the few that can match at all; None where they are many, or the planner knows best."""

    def meets(self, area: BaseGeometry) -> sa.ColumnElement[bool] | None:
        """The condition that a footprint meets the area exactly; None where shapely has to tell."""

    def bounded(self, connection: Connection, seconds: float | None, waiting: Waiting | None) -> AbstractContextManager[None]:
        """End what is asked inside once the time is over or the caller gives up: it raises what `trouble` calls `OverTime`."""

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """The condition that a column has one of these values, which may be many."""

    def extent(self) -> sa.Select[Any]:
        """The box around all footprints: west, south, east, north."""

    def insert(self, connection: Connection, rows: Rows) -> None:
        """Write new products, with keys that this gives them; raises `sqlalchemy.exc.IntegrityError` when an id is there already."""

    def remove(self, connection: Connection, pk: int) -> None:
        """Delete a product's rows."""

    def trouble(self, error: sa.exc.DBAPIError) -> SignatureError | None:
        """Tell a database that is full, busy or away from one that was asked wrongly."""


def dialect_of(url: str) -> Dialect:
    """Choose by the URL; raises `StoreBroken` for another kind of database."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreBroken(f"database {url.split(':', maxsplit=1)[0]}:...: no URL of a database ({error}); {_URLS}") from error
    kind = parsed.get_backend_name()
    if kind == "sqlite" and url.startswith("sqlite:///"):
        return Sqlite(parsed)
    if kind == "postgresql":
        return Postgres(parsed.set(drivername="postgresql+psycopg"))
    raise StoreBroken(f"database {parsed.render_as_string()}: {_URLS}")


_URLS = "give sqlite:////path/to/file, or postgresql://user@host/database for a PostgreSQL with PostGIS"


class Sqlite:
    """A file in WAL mode, so that readers go on while a product is written."""

    def __init__(self, url: sa.URL) -> None:
        self.engine = sa.create_engine(url)
        sa.event.listen(self.engine, "connect", _configure)
        sa.event.listen(self.engine, "begin", _begin)
        self.writing = self.engine.execution_options(immediate=True)

    def snapshot(self) -> Connection:
        """Every transaction of SQLite sees the moment of its first question."""
        return self.engine.connect()

    def exists(self) -> bool:
        """Look for the file."""
        path = self.engine.url.database or ""
        return path.startswith("file:") or Path(path).is_file()

    def prepare(self) -> None:
        """Nothing: R*Trees are built in."""

    def candidates(self, connection: Connection, query: Query) -> sa.ColumnElement[bool] | None:
        """Ask the R*Tree for a place, the index of codes for rare ones."""
        if query.area is not None:
            return _few(connection, sa.select(PLACE.c.product).where(_overlaps(query)))
        if query.codes:
            coded = sa.select(PRODUCT_CODE.c.product).where(PRODUCT_CODE.c.code.in_(sorted(query.codes)))
            return _few(connection, coded)
        return None

    def meets(self, area: BaseGeometry) -> None:  # noqa: ARG002
        """Leave it to shapely: there is no geometry in SQLite."""
        return

    @contextmanager
    def bounded(self, connection: Connection, seconds: float | None, waiting: Waiting | None) -> Iterator[None]:
        """Look at clock and caller between steps, over all questions together."""
        if seconds is None and waiting is None:
            yield
            return
        driver: Any = connection.connection.dbapi_connection
        until = math.inf if seconds is None else time.monotonic() + seconds
        driver.set_progress_handler(lambda: time.monotonic() > until or (waiting is not None and waiting.over), _STEPS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Send them as one JSON text."""
        return _among(column, values)

    def extent(self) -> sa.Select[Any]:
        """Ask the boxes."""
        box = PLACE.c
        return sa.select(sa.func.min(box.west), sa.func.min(box.south), sa.func.max(box.east), sa.func.max(box.north))

    def insert(self, connection: Connection, rows: Rows) -> None:
        """Let keys follow on the last one, which is how SQLite gives them; the transaction holds the only pen."""
        if len(rows.products) > _BULK:
            connection.exec_driver_sql("PRAGMA cache_size=-262144")  # KiB; the indexes of a million products have their paths in it
        last = int(connection.scalar(sa.select(sa.func.coalesce(sa.func.max(PRODUCT.c.pk), 0))) or 0)
        _many(connection, PRODUCT.name, PRODUCT_COLUMNS, rows.products)
        for table, columns, values in (
            ("layer", LAYER_COLUMNS, rows.layers),
            (PRODUCT_CODE.name, CODE_COLUMNS, rows.codes),
            # Neighbours together: an R*Tree of a million boxes takes them in a third less time.
            (PLACE.name, BOX_COLUMNS, sorted(rows.boxes, key=_tile)),
        ):
            _many(connection, table, ("product", *columns), values, f"? + {last + 1}")

    def remove(self, connection: Connection, pk: int) -> None:
        """Delete the boxes, too; an R*Tree has no index over products, but its box finds them."""
        footprint = connection.scalar(sa.select(PRODUCT.c.footprint).where(PRODUCT.c.pk == pk))
        west, south, east, north = shapely.total_bounds(shapely.from_wkb([footprint]))
        around = sa.and_(PLACE.c.west >= west - 1, PLACE.c.east <= east + 1, PLACE.c.south >= south - 1, PLACE.c.north <= north + 1)
        connection.execute(sa.delete(PLACE).where(around, PLACE.c.product == pk))
        connection.execute(sa.delete(PRODUCT).where(PRODUCT.c.pk == pk))

    def trouble(self, error: sa.exc.DBAPIError) -> SignatureError | None:
        """Read SQLite's own names."""
        name = getattr(error.orig, "sqlite_errorname", "")
        if name == "SQLITE_INTERRUPT":
            return OverTime(_OVER_TIME)
        if name == "SQLITE_FULL":
            return StoreFull("the database's disk is full; nothing was stored, try again when there is room")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Unavailable("the database is busy; try again")
        if isinstance(error, sa.exc.OperationalError):
            return Unavailable(f"the database cannot be read or written for now ({error.orig}); try again")
        return None


class Postgres:
    """A PostgreSQL with PostGIS; one index over footprint and time (btree_gist) finds a place in a month at once."""

    def __init__(self, url: sa.URL) -> None:
        self.engine = sa.create_engine(url, pool_pre_ping=True)
        self.writing = self.engine

    def snapshot(self) -> Connection:
        """Ask for it."""
        return self.engine.connect().execution_options(isolation_level="REPEATABLE READ")

    def exists(self) -> bool:
        """Take it that there is one: connecting never makes one."""
        return True

    def prepare(self) -> None:
        """Make the extensions, where an administrator has not; raises `StoreBroken` where that is not allowed."""
        with self.engine.begin() as connection:
            there = set(connection.scalars(sa.text("SELECT extname FROM pg_extension")))
        for name in ("postgis", "btree_gist"):
            if name in there:
                continue
            try:
                with self.engine.begin() as connection:
                    connection.execute(sa.text(f"CREATE EXTENSION IF NOT EXISTS {name}"))
            except sa.exc.DBAPIError as error:
                raise StoreBroken(
                    f"the database {self.engine.url.render_as_string()} has no extension {name} ({str(error.orig).strip()}); "
                    f"let an administrator install it and say CREATE EXTENSION {name} there"
                ) from error

    def candidates(self, connection: Connection, query: Query) -> None:  # noqa: ARG002
        """Leave it to the planner, which knows how many there are."""
        return

    def meets(self, area: BaseGeometry) -> sa.ColumnElement[bool]:
        """Ask PostGIS, which has the same geometry engine as shapely."""
        return sa.func.ST_Intersects(PRODUCT.c.footprint, sa.func.ST_GeomFromWKB(area.wkb, SRID), type_=sa.Boolean)

    @contextmanager
    def bounded(self, connection: Connection, seconds: float | None, waiting: Waiting | None) -> Iterator[None]:
        """Let PostgreSQL look at the clock, at each question (the transaction's end forgets it), and cancel for a caller who gives up."""
        import psycopg

        if seconds is not None:
            connection.execute(sa.select(sa.func.set_config("statement_timeout", str(max(1, round(1000 * seconds))), True)))
        driver: Any = connection.connection.dbapi_connection

        def cancel() -> None:
            with suppress(psycopg.Error):  # away: then nothing is at work, either
                driver.cancel_safe(timeout=_CANCEL_SECONDS)

        with nullcontext() if waiting is None else waiting.ended_by(cancel):
            yield

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Send them as one array."""
        return column == sa.any_(sa.bindparam(None, list(values), type_=ARRAY(column.type)))

    def extent(self) -> sa.Select[Any]:
        """Ask PostGIS."""
        around = sa.select(sa.func.ST_Extent(PRODUCT.c.footprint, type_=sa.Text).label("box")).subquery().c.box
        return sa.select(*(getattr(sa.func, f"ST_{corner}")(around) for corner in ("XMin", "YMin", "XMax", "YMax")))

    def insert(self, connection: Connection, rows: Rows) -> None:
        """Copy, with keys from the sequence; a unique index stands between two writers."""
        numbers = sa.text("SELECT nextval(pg_get_serial_sequence('product', 'pk')) FROM generate_series(1, :n)")
        keys = list(connection.scalars(numbers, {"n": len(rows.products)}))
        products = ((key, *row[:_AT], _ewkb_hex(row[_AT]), *row[_AT + 1 :]) for key, row in zip(keys, rows.products, strict=True))
        _copy(connection, PRODUCT.name, ("pk", *PRODUCT_COLUMNS), products)
        for table, columns, values in (("layer", LAYER_COLUMNS, rows.layers), (PRODUCT_CODE.name, CODE_COLUMNS, rows.codes)):
            _copy(connection, table, ("product", *columns), ((keys[number], *row) for number, *row in values))

    def remove(self, connection: Connection, pk: int) -> None:
        """Delete the row; layers and codes follow."""
        connection.execute(sa.delete(PRODUCT).where(PRODUCT.c.pk == pk))

    def trouble(self, error: sa.exc.DBAPIError) -> SignatureError | None:
        """Read the SQLSTATE's class."""
        if isinstance(error, sa.exc.DataError):
            return BadSignature(f"the database cannot hold or look for that ({str(error.orig).strip()}); send other text")
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == "57014":
            return OverTime(_OVER_TIME)
        if state in ("53100", "53200"):
            return StoreFull("the database has no room; nothing was stored, try again when there is")
        if error.connection_invalidated or state[:2] in ("08", "40", "53", "57") or isinstance(error, sa.exc.OperationalError):
            away = Unavailable("the database does not answer; try again")
            # For the operator, in logs and on the terminal: callers from elsewhere get the message alone.
            away.add_note(f"{self.engine.url.render_as_string()}: {' '.join(str(error.orig).split())}")
            return away
        return None


_AT = PRODUCT_COLUMNS.index("footprint")


def _few(connection: Connection, chosen: sa.Select[Any]) -> sa.ColumnElement[bool] | None:
    found = list(connection.scalars(chosen.limit(_MOST_CANDIDATES + 1)))
    if len(found) > _MOST_CANDIDATES:
        return None
    return _among(PRODUCT.c.pk, sorted(set(found)))


def _among(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(sa.select(each.c.value))


def _overlaps(query: Query) -> sa.ColumnElement[bool]:
    """Boxes that meet the area's: its parts' where they are few, else the one of it all; and days that lie in the period."""
    parts: list[Any] = list(getattr(query.area, "geoms", [query.area]))
    boxes = [tuple(part.bounds) for part in parts] if len(parts) <= _MOST_BOXES else [tuple(shapely.total_bounds(parts))]
    box = PLACE.c
    near = sa.or_(*(sa.and_(box.west <= e, box.east >= w, box.south <= n, box.north >= s) for w, s, e, n in boxes))
    when = []
    if query.end is not None:
        when.append(box.first <= query.end / _MICROS_PER_DAY)
    if query.start is not None:
        when.append(box.last >= query.start / _MICROS_PER_DAY)
    return sa.and_(near, *when)


def _configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - what SQLAlchemy hands over
    open_shared(connection, busy_seconds=30, synchronous="FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("immediate") else "BEGIN")


def _many(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], first: str = "?") -> None:
    """Write rows; `first` is what becomes of the first value of each."""
    if rows:
        marks = ", ".join([first, *"?" * (len(columns) - 1)])
        connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - names of ours


def _tile(box: tuple[Any, ...]) -> tuple[float, float]:
    _, west, _, south, *_ = box
    return west // 2, south // 2


def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    import psycopg

    cursor, statement = connection.connection.cursor(), f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    try:
        with cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        # SQLAlchemy does not see what is said to the driver itself: told apart as it would.
        raise sa.exc.DBAPIError.instance(statement, None, error, psycopg.Error, dialect=connection.dialect) from error


def _ewkb_hex(wkb: bytes) -> str:
    """Add the SRID to little-endian WKB."""
    (kind,) = struct.unpack_from("<I", wkb, 1)
    return (wkb[:1] + struct.pack("<II", kind | _EWKB_SRID, SRID) + wkb[5:]).hex()
