"""The database behind EarthSignature: what is known of every product beside its pixels.

SQLite in WAL mode, so that readers go on while a product is written. SQL that only SQLite understands stands here and in the
migrations, nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import shapely
import sqlalchemy as sa
from earthself.data.dates import format_instant
from earthself.signature.errors import SignatureError, StoreBroken
from earthself.signature.filters import Query
from earthself.signature.pairing import Partner
from earthself.signature.product import Product
from earthself.signature.rasters import Grid, Layer
from earthself.signature.tables import LAYER, PRODUCT, PRODUCT_CODE, STORE
from shapely.geometry.base import BaseGeometry
from sqlalchemy.engine import Connection, Engine, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE = 256
_FOOTPRINT = sa.table("footprint", *(sa.column(name) for name in ("west", "east", "south", "north", "product")))


class IdTaken(SignatureError):
    """Another writer stored a product of that id first."""


@dataclass(frozen=True)
class Stored:
    """A product and its layers as the database holds them."""

    product: Product
    """What is said of it."""
    layers: tuple[Layer, ...]
    """In the order of their names; without counts."""
    folder: str
    """Of the rasters, below the store."""
    digest: str
    """Of id, footprint and properties."""
    classes_sha256: str | None
    """Of the polygons, where it came as polygons."""


@dataclass(frozen=True)
class Search:
    """A question that is answered page by page."""

    query: Query
    """The usual filters; its limit is not used."""
    conditions: tuple[sa.ColumnElement[bool], ...] = ()
    """All of them must hold, too."""
    order: tuple[tuple[sa.ColumnElement[Any], bool], ...] = ()
    """Columns and whether they descend; the id decides at the end. None: newest first."""
    after: str | None = None
    """Where the page before ended."""
    limit: int = 100
    """Products on a page."""


@dataclass(frozen=True)
class Page:
    """A part of an answer."""

    found: list[Stored]
    """Products in the order asked for."""
    next: str | None
    """Where the next page begins; None at the end."""
    matched: int | None
    """Of all pages, where it is known."""


@dataclass(frozen=True)
class Statistics:
    """What the whole database holds."""

    products: int
    """Number of products."""
    first: str | None
    """Date and time of the oldest acquisition, UTC."""
    last: str | None
    """Date and time of the newest acquisition, UTC."""
    bytes: int
    """Of all stored rasters."""
    products_with_code: dict[int, int]
    """How many products have each code."""


class Catalog:
    """Reads and writes the tables; safe to share between threads."""

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite:///"):
            raise StoreBroken(f"database {sa.make_url(url).render_as_string()}: only SQLite is supported; give sqlite:////path/to/file")
        self._engine = sa.create_engine(url)
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(immediate=True)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def exists(self) -> bool:
        """Tell whether there is a database at that address; asking otherwise would make one."""
        path = self._engine.url.database or ""
        return path.startswith("file:") or Path(path).is_file()

    def partner(self) -> Partner:
        """Say which store this is the database of, also before the tables are made or brought up to date."""
        store, places = None, set()
        if self.exists():
            with _openable(self._engine), self._engine.connect() as connection:
                tables = set(sa.inspect(connection).get_table_names())
                store = connection.scalar(sa.select(STORE.c.id)) if STORE.name in tables else None
                places = set(connection.scalars(sa.select(PRODUCT.c.folder))) if PRODUCT.name in tables else set()
        return Partner(self._engine.url.render_as_string(), store, places)

    def adopt(self, store: str) -> None:
        """Keep the id of the store that this is the database of."""
        with self._writing.begin() as connection:
            if connection.scalar(sa.select(STORE.c.id)) != store:
                connection.execute(sa.delete(STORE))
                connection.execute(sa.insert(STORE).values(id=store))

    def migrate(self) -> tuple[str | None, str]:
        """Bring the tables up to date, all changes or none; gives the versions before and after."""
        return migrate(self._writing)

    def insert(self, stored: Stored) -> None:
        """Add a product in one transaction; raises `IdTaken` when its id is there already."""
        product = stored.product
        with self._writing.begin() as connection:
            try:
                pk = connection.execute(sa.insert(PRODUCT).values(_columns(stored))).inserted_primary_key[0]  # type: ignore[index]
            except sa.exc.IntegrityError as error:
                raise IdTaken(product.product_id) from error
            connection.execute(sa.insert(LAYER), [_layer_columns(pk, layer) for layer in stored.layers])
            counts = [{"product": pk, "code": code, "pixels": n} for layer in stored.layers for code, n in layer.counts.items()]
            if counts:
                connection.execute(sa.insert(PRODUCT_CODE), counts)
            boxes = [part.bounds for part in getattr(product.footprint, "geoms", [product.footprint])]
            rows = [{"west": b[0], "south": b[1], "east": b[2], "north": b[3], "product": pk} for b in boxes]
            connection.execute(sa.insert(_FOOTPRINT), rows)

    def resize(self, product_id: str, layer: str, size: int) -> None:
        """Note the size of a layer's file that was written anew."""
        of_product = LAYER.c.product == sa.select(PRODUCT.c.pk).where(PRODUCT.c.product_id == product_id).scalar_subquery()
        with self._writing.begin() as connection:
            connection.execute(sa.update(LAYER).where(of_product, LAYER.c.name == layer).values(size=size))

    def get(self, product_id: str) -> Stored | None:
        """Find one product by its id."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(PRODUCT).where(PRODUCT.c.product_id == product_id)).all()
            return next(iter(_with_layers(connection, rows)), None)

    def find(self, query: Query) -> Iterator[Stored]:
        """Give the products that match, newest acquisition first, then by id. No transaction stays open between two of them."""
        prepared, left = query.area, query.limit
        if prepared is not None:
            shapely.prepare(prepared)
        after: tuple[int, str] | None = None
        while left is None or left > 0:
            with self._engine.connect() as connection:
                page = connection.execute(_selection(query, after)).all()
                hits = [row for row in page if prepared is None or prepared.intersects(shapely.from_wkb(row.footprint))]
                found = _with_layers(connection, hits[:left])
            yield from found
            if len(page) < _PAGE:
                return
            after = (page[-1].creation_date, page[-1].product_id)
            left = None if left is None else left - len(found)

    def search(self, search: Search) -> Page:
        """Give one page of an answer."""
        newest = ((PRODUCT.c.creation_date, True),)
        order = (*(search.order or newest), (PRODUCT.c.product_id, False))
        area, after = search.query.area, json.loads(search.after) if search.after else None
        if area is not None:
            shapely.prepare(area)
        found: list[Any] = []
        with self._engine.connect() as connection:
            while True:
                chosen = _selection(search.query, None).where(*search.conditions).order_by(None)
                chosen = chosen.order_by(*(column.desc() if down else column.asc() for column, down in order))
                if after is not None:
                    chosen = chosen.where(_beyond(order, after))
                rows = connection.execute(chosen.add_columns(*(column.label(f"_{i}") for i, (column, _) in enumerate(order)))).all()
                found += [row for row in rows if area is None or area.intersects(shapely.from_wkb(row.footprint))]
                if len(rows) < _PAGE or len(found) > search.limit:
                    break
                after = [getattr(rows[-1], f"_{i}") for i in range(len(order))]
            page = found[: search.limit]
            token = json.dumps([getattr(page[-1], f"_{i}") for i in range(len(order))]) if len(found) > search.limit else None
            return Page(_with_layers(connection, page), token, len(page) if token is None and search.after is None else None)

    def rows(self, chosen: sa.Select[Any]) -> Sequence[Row[Any]]:
        """Give the rows of a question that only reads."""
        with self._engine.connect() as connection:
            return connection.execute(chosen).all()

    def statistics(self) -> Statistics:
        """Count what is there."""
        with self._engine.connect() as connection:
            dates = sa.select(sa.func.count(), sa.func.min(PRODUCT.c.creation_date), sa.func.max(PRODUCT.c.creation_date))
            number, first, last = connection.execute(dates).one()
            size = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(LAYER.c.size), 0)))
            codes = connection.execute(
                sa.select(PRODUCT_CODE.c.code, sa.func.count().label("products")).group_by(PRODUCT_CODE.c.code)
            ).all()
        oldest, newest = (None if micros is None else format_instant(_instant(micros)) for micros in (first, last))
        return Statistics(number, oldest, newest, int(size or 0), {row.code: row.products for row in codes})


def migrate(engine: Engine) -> tuple[str | None, str]:
    """Run the migrations that are still missing; raises `StoreBroken` for a database of a newer EarthSignature."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    with _openable(engine), engine.begin() as connection:
        before = MigrationContext.configure(connection, opts={"version_table": "signature_version"}).get_current_revision()
        if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreBroken(f"the database is of version {before}, newer than this EarthSignature ({head}); update the program")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, str(head)


@contextmanager
def _openable(engine: Engine) -> Iterator[None]:
    try:
        yield
    except sa.exc.DatabaseError as error:
        raise StoreBroken(f"the database {engine.url.database} cannot be opened ({error.orig}); restore it from a backup") from error


def _configure(connection: Any, _record: Any) -> None:  # noqa: ANN401 - what SQLAlchemy hands over
    # We say BEGIN ourselves: Python's driver would leave changes of tables outside of the transaction.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("immediate") else "BEGIN")


def _selection(query: Query, after: tuple[int, str] | None) -> sa.Select[Any]:
    table = PRODUCT.c
    chosen = sa.select(PRODUCT).order_by(table.creation_date.desc(), table.product_id).limit(_PAGE)
    if query.start is not None:
        chosen = chosen.where(table.creation_date >= query.start)
    if query.end is not None:
        chosen = chosen.where(table.creation_date < query.end)
    if query.product_ids:
        chosen = chosen.where(table.product_id.in_(sorted(query.product_ids)))
    if query.codes:
        chosen = chosen.where(table.pk.in_(sa.select(PRODUCT_CODE.c.product).where(PRODUCT_CODE.c.code.in_(sorted(query.codes)))))
    if query.area is not None:
        chosen = chosen.where(table.pk.in_(_near(query.area)))
    if after is not None:
        older = sa.and_(table.creation_date == after[0], table.product_id > after[1])
        chosen = chosen.where(sa.or_(table.creation_date < after[0], older))
    return chosen


def _beyond(order: Sequence[tuple[sa.ColumnElement[Any], bool]], after: Sequence[Any]) -> sa.ColumnElement[bool]:
    options = []
    for i, (column, down) in enumerate(order):
        same = [order[j][0] == after[j] for j in range(i)]
        options.append(sa.and_(*same, column < after[i] if down else column > after[i]))
    return sa.or_(*options)


def _near(area: BaseGeometry) -> sa.Select[Any]:
    """Products with a box that meets the area's: its parts' boxes where they are few, else the one of it all."""
    parts = list(getattr(area, "geoms", [area]))
    boxes = [part.bounds for part in (parts if len(parts) <= 16 else [area])]
    box = _FOOTPRINT.c
    meets = (sa.and_(box.west <= e, box.east >= w, box.south <= n, box.north >= s) for w, s, e, n in boxes)
    return sa.select(box.product).where(sa.or_(*meets))


def _columns(stored: Stored) -> dict[str, Any]:
    product = stored.product
    return {
        "product_id": product.product_id,
        "creation_date": _micros(product.creation_date),
        "publication_date": _micros(product.publication_date),
        "product_type": product.product_type,
        "cloud_cover": product.cloud_cover,
        "properties": dict(product.properties),
        "footprint": shapely.to_wkb(product.footprint),
        "digest": stored.digest,
        "classes_sha256": stored.classes_sha256,
        "folder": stored.folder,
        "stored_at": _micros(datetime.now(UTC)),
    }


def _layer_columns(pk: int, layer: Layer) -> dict[str, Any]:
    grid = layer.grid
    where = {"crs": grid.crs, "transform": list(grid.transform), "width": grid.width, "height": grid.height}
    return {"product": pk, "name": layer.name, **where, "data_type": layer.data_type, "sha256": layer.sha256, "size": layer.size}


def _with_layers(connection: Connection, rows: Sequence[Row[Any]]) -> list[Stored]:
    layers: dict[int, list[Layer]] = {row.pk: [] for row in rows}
    chosen = sa.select(LAYER).where(LAYER.c.product.in_(list(layers))).order_by(LAYER.c.name)
    for row in connection.execute(chosen) if layers else ():
        grid = Grid(row.crs, tuple(row.transform), row.width, row.height)
        layers[row.product].append(Layer(row.name, grid, row.data_type, row.sha256, row.size))
    return [_stored(row, tuple(layers[row.pk])) for row in rows]


def _stored(row: Row[Any], layers: tuple[Layer, ...]) -> Stored:
    product = Product(
        product_id=row.product_id,
        creation_date=_instant(row.creation_date),
        publication_date=_instant(row.publication_date),
        product_type=row.product_type,
        cloud_cover=row.cloud_cover,
        footprint=shapely.from_wkb(row.footprint),
        properties=row.properties,
    )
    return Stored(product, layers, row.folder, row.digest, row.classes_sha256)


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
