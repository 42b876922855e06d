"""The database behind EarthSignature: what is known of every product beside its pixels.

What SQLite and PostgreSQL do in their own ways is in `dialects`; the tables are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from earthself.data.dates import format_instant
from earthself.signature.dialects import dialect_of
from earthself.signature.errors import BadSignature, NotFound, SignatureError, StoreBroken, Unavailable
from earthself.signature.filters import ALL_CODES, Query
from earthself.signature.pairing import Partner
from earthself.signature.rows import Rows, Stored, instant, rows_of, stored_of
from earthself.signature.scan import Scan, Search, possible
from earthself.signature.tables import LAYER, PRODUCT, PRODUCT_CODE, STORE, VERSION
from earthself.signature.waiting import WAITING, check_wanted
from sqlalchemy.engine import Connection
from sqlalchemy.engine import Row as SqlRow

_PAGE = 256
_KEYS = 5000
_SNAPSHOT = 2000
_TRIES = 3
_VERSION: sa.Select[Any] = sa.select(sa.column("version_num")).select_from(sa.table("signature_version"))


@dataclass(frozen=True)
class Page:
    """One page of an answer."""

    found: list[Stored]
    """Products in the order asked for."""
    next: tuple[Any, ...] | None
    """What to ask the next page with: values of the order's columns, then the id. None at the end."""
    matched: int | None
    """How many there are in all; None where they were not counted, or are more than `Search.count`."""


@dataclass(frozen=True)
class Statistics:
    """What the whole database holds."""

    products: int
    """Number of products."""
    segmented: int
    """How many of them have a segmentation."""
    superseded: int
    """How many of them a newer product of the same observation supersedes."""
    first: str | None
    """Date and time of the oldest acquisition, UTC."""
    last: str | None
    """Date and time of the newest acquisition, UTC."""
    bytes: int
    """Of all stored rasters."""
    products_with_code: dict[int, int]
    """How many products have each code."""
    hectares_of_code: dict[int, float]
    """Hectares of each code, added up over the products that know them."""


@dataclass(frozen=True)
class Overview:
    """What there is at a glance, told by indexes rather than by going through everything."""

    products: int
    """Number of products."""
    first: str | None
    """Date and time of the oldest acquisition, UTC."""
    last: str | None
    """Date and time of the newest acquisition, UTC."""
    codes: tuple[int, ...]
    """Codes that any product has."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north in degrees, around all footprints."""


class Known(NamedTuple):
    """What is known of a product that is there already."""

    digest: str
    """Of id, footprint and properties."""
    segmented: bool
    """Whether it has a segmentation."""


class Catalog:
    """Reads and writes the tables; safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Name the database; nothing is opened yet. Raises `StoreBroken` for a kind of database that cannot serve."""
        self._dialect = dialect_of(url)

    def close(self) -> None:
        """Give all connections back."""
        self._dialect.engine.dispose()

    @property
    def name(self) -> str:
        """Its address for messages, without a password."""
        return self._dialect.engine.url.render_as_string()

    def exists(self) -> bool:
        """Tell whether there is a database at that address; asking otherwise would make one."""
        return self._dialect.exists()

    def partner(self) -> Partner:
        """Say which store this is the database of, also before the tables are made or brought up to date."""
        store, places = None, set()
        if self.exists():
            with self._openable(), self._dialect.engine.connect() as connection:
                tables = set(sa.inspect(connection).get_table_names())
                store = connection.scalar(sa.select(STORE.c.id)) if STORE.name in tables else None
                owned = sa.select(PRODUCT.c.folder).where(PRODUCT.c.folder.is_not(None))
                places = set(connection.scalars(owned)) if PRODUCT.name in tables else set()
        return Partner(self.name, store, places)

    def store_id(self) -> str | None:
        """Tell the id of the store that this is the database of; for tables that are up to date."""
        with self._reading() as connection:
            found: str | None = connection.scalar(sa.select(STORE.c.id))
            return found

    def version(self) -> str | None:
        """Tell the version of the tables; None where there are none."""
        with self._openable(), self._dialect.engine.connect() as connection:
            return str(connection.scalar(_VERSION)) if sa.inspect(connection).has_table("signature_version") else None

    def adopt(self, store: str) -> None:
        """Keep the id of the store that this is the database of."""
        with self._writing() as connection:
            if connection.scalar(sa.select(STORE.c.id)) != store:
                connection.execute(sa.delete(STORE))
                connection.execute(sa.insert(STORE).values(id=store))

    def migrate(self) -> tuple[str | None, str]:
        """Bring the tables up to date, all changes or none; gives the versions before and after. Readers go on meanwhile.

        Raises `StoreBroken` for a database of a newer EarthSignature, or one that lacks an extension.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        head = str(scripts.get_current_head())
        with self._openable():
            self._dialect.prepare()
            with self._dialect.writing.begin() as connection:
                before = MigrationContext.configure(connection, opts={"version_table": "signature_version"}).get_current_revision()
                if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
                    raise StoreBroken(f"the database is of version {before}, newer than this EarthSignature ({head}); update the program")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        return before, head

    def put(self, stored: Stored, *, described: bool = False) -> bool:
        """Add a product, or (`described`) put one with rasters in the place of its description, in one transaction.

        False, and nothing is changed, when its id is there already, or when the description has rasters by now or is gone.
        """
        rows = rows_of([stored], datetime.now(UTC))
        table = PRODUCT.c
        try:
            with self._writing() as connection:
                if described:
                    chosen = sa.select(table.pk, table.superseded_by).where(table.product_id == stored.product.product_id)
                    before = connection.execute(chosen.where(table.folder.is_(None)).with_for_update()).one_or_none()
                    if before is None:
                        return False
                    self._dialect.remove(connection, before.pk)
                    rows = rows_of([replace(stored, superseded_by=before.superseded_by)], datetime.now(UTC))
                self._dialect.insert(connection, rows)
        except sa.exc.IntegrityError:
            return False
        return True

    def put_all(self, products: Sequence[Stored]) -> bool:
        """Add products in one transaction; False, and nothing is changed, when the id of one is there already."""
        try:
            with self._writing() as connection:
                self._dialect.insert(connection, rows_of(products, datetime.now(UTC)))
        except sa.exc.IntegrityError:
            return False
        return True

    def ids_of(self, ids: Sequence[str]) -> set[str]:
        """Tell which of these ids are there, with or without a segmentation."""
        with self._reading() as connection:
            return {row.product_id for row in connection.execute(self._known(ids))}

    def insert_new(self, rows: Rows) -> dict[str, Known]:
        """Add those products whose ids are not there, in one transaction; gives what is known of those that are."""
        firsts = {name: number for number, name in reversed([*enumerate(rows.names)])}
        for _ in range(_TRIES):
            with self._reading() as connection:
                known = {row.product_id: Known(row.digest, row.segmented) for row in connection.execute(self._known(list(firsts)))}
            chosen = sorted(number for name, number in firsts.items() if name not in known)
            new = rows if len(chosen) == len(rows.products) else rows.only(chosen)
            try:
                if chosen:
                    with self._writing() as connection:
                        self._dialect.insert(connection, new)
            except sa.exc.IntegrityError:
                continue  # another writer was faster with one of them
            return known
        raise SignatureError("other writers store the same products at the same time; let one of them finish, then try again")

    def _known(self, ids: Sequence[str]) -> sa.Select[Any]:
        table = PRODUCT.c
        chosen = sa.select(table.product_id, table.digest, table.folder.is_not(None).label("segmented"))
        return chosen.where(self._dialect.among(table.product_id, ids))

    def supersede(self, product_id: str, newer: str) -> bool:
        """Note that a newer product of the same observation supersedes one; False when that was known.

        Raises `NotFound`, and `BadSignature` for products that would supersede each other, of which none would be left.
        """
        if product_id == newer:
            raise BadSignature(f"product {newer} cannot supersede itself; name the newer one")
        with self._writing() as connection:
            two = sa.select(PRODUCT.c.product_id, PRODUCT.c.superseded_by).where(PRODUCT.c.product_id.in_(possible([product_id, newer])))
            known = {row.product_id: row.superseded_by for row in connection.execute(two)}
            for name in (product_id, newer):
                if name not in known:
                    raise NotFound(f"product {name!r} is not stored; list what there is with ListProductIds or `earthsignature list`")
            if known[product_id] == newer:
                return False
            self._check_no_ring(connection, product_id, newer)
            connection.execute(sa.update(PRODUCT).where(PRODUCT.c.product_id == product_id).values(superseded_by=newer))
        return True

    @staticmethod
    def _check_no_ring(connection: Connection, product_id: str, newer: str) -> None:
        before: str | None = newer
        seen = {newer}
        while before := connection.scalar(sa.select(PRODUCT.c.superseded_by).where(PRODUCT.c.product_id == before)):
            if before == product_id:
                raise BadSignature(
                    f"product {newer} is superseded by {product_id} already, directly or by way of others, "
                    "which then cannot be superseded by it"
                )
            if before in seen:
                return  # of an older version
            seen.add(before)

    def remove(self, product_id: str, folder: str | None) -> bool:
        """Forget a product, if its rasters still lie in that folder; tells whether it was there."""
        chosen = (PRODUCT.c.product_id == product_id, PRODUCT.c.folder.is_not_distinct_from(folder))
        with self._writing() as connection:
            pk = connection.scalar(sa.select(PRODUCT.c.pk).where(*chosen))
            if pk is None:
                return False
            self._dialect.remove(connection, pk)
        return True

    def resize(self, product_id: str, layer: str, size: int) -> None:
        """Note the size of a layer's file that was written anew."""
        of_product = LAYER.c.product == sa.select(PRODUCT.c.pk).where(PRODUCT.c.product_id == product_id).scalar_subquery()
        with self._writing() as connection:
            connection.execute(sa.update(LAYER).where(of_product, LAYER.c.name == layer).values(size=size))

    def get(self, product_id: str) -> Stored | None:
        """Find one product by its id."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(PRODUCT).where(PRODUCT.c.product_id.in_(possible([product_id])))).all()
            return next(iter(_together(connection, rows, details=True)), None)

    def find(self, query: Query, *, details: bool = True) -> Iterator[Stored]:
        """Give the products that match, newest acquisition first, then by id; without `details` they come without layers and codes.

        No transaction stays open between two of them; where there are many, their keys are kept, so that each page costs the same.
        """
        found = self._find(query, details)
        return found if query.limit is None else islice(found, query.limit)

    def _find(self, query: Query, details: bool) -> Iterator[Stored]:
        first = _PAGE if query.limit is None else min(query.limit, _PAGE)
        with self._reading() as connection:
            scan = Scan(self._dialect, connection, Search(query, first))
            rows = scan.page(connection, first)
            found = _together(connection, rows, details)
        yield from found
        more = len(rows) == first
        while more:
            with self._reading() as connection:
                keys = [row.pk for row in scan.page(connection, _KEYS, keys_only=True)]
            more = len(keys) == _KEYS
            for start in range(0, len(keys), _PAGE):
                yield from self._of_keys(keys[start : start + _PAGE], details)

    def _of_keys(self, keys: list[int], details: bool) -> list[Stored]:
        with self._reading() as connection:
            there = {row.pk: row for row in connection.execute(sa.select(PRODUCT).where(PRODUCT.c.pk.in_(keys)))}
            return _together(connection, [there[pk] for pk in keys if pk in there], details)

    def search(self, search: Search) -> Page:
        """Give one page of the products that match; raises `OverTime`."""
        with self._reading(search.seconds) as connection:
            scan = Scan(self._dialect, connection, search)
            rows = scan.page(connection, search.limit + 1)
            matched = scan.count(connection, search.count) if search.count else None
            found = _together(connection, rows[: search.limit], details=True)
            return Page(found, scan.place_of(rows[search.limit - 1]) if len(rows) > search.limit else None, matched)

    def snapshot(self) -> Iterator[list[Stored]]:
        """Give all products of one moment, in the order in which they came, a few thousand at a time."""
        with self._troubles(), self._dialect.snapshot() as connection:
            last = 0
            while rows := connection.execute(sa.select(PRODUCT).where(PRODUCT.c.pk > last).order_by(PRODUCT.c.pk).limit(_SNAPSHOT)).all():
                yield _together(connection, rows, details=True)
                last = rows[-1].pk

    def overview(self) -> Overview:
        """Say what there is, without counts for each code."""
        date, code = PRODUCT.c.creation_date, PRODUCT_CODE.c.code
        ends = [sa.select(end(date)).scalar_subquery() for end in (sa.func.min, sa.func.max)]
        number = sa.select(sa.func.count()).select_from(PRODUCT).scalar_subquery()
        there = [sa.exists().where(code == one).label(f"code_{one}") for one in sorted(ALL_CODES)]
        with self._reading() as connection:
            total, first, last = connection.execute(sa.select(number, *ends)).one()
            found = connection.execute(sa.select(*there)).one()
            bounds = connection.execute(self._dialect.extent()).one() if total else None
        oldest, newest = (None if when is None else format_instant(instant(when)) for when in (first, last))
        codes = tuple(one for one, has in zip(sorted(ALL_CODES), found, strict=True) if has)
        return Overview(total, oldest, newest, codes, None if bounds is None else tuple(bounds))

    def statistics(self) -> Statistics:
        """Count what is there."""
        table = PRODUCT.c
        counts = sa.select(
            sa.func.count(),
            sa.func.count(table.folder),
            sa.func.count(table.superseded_by),
            sa.func.min(table.creation_date),
            sa.func.max(table.creation_date),
        )
        code = PRODUCT_CODE.c
        per_code = sa.select(
            code.code, sa.func.count().label("products"), sa.func.coalesce(sa.func.sum(code.hectares), 0).label("hectares")
        )
        with self._reading() as connection:
            number, segmented, superseded, first, last = connection.execute(counts).one()
            size = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(LAYER.c.size), 0)))
            codes = connection.execute(per_code.group_by(code.code)).all()
        oldest, newest = (None if when is None else format_instant(instant(when)) for when in (first, last))
        by_code = {row.code: row.products for row in codes}
        return Statistics(
            number, segmented, superseded, oldest, newest, int(size or 0), by_code, {row.code: float(row.hectares) for row in codes}
        )

    @contextmanager
    def _reading(self, seconds: float | None = None) -> Iterator[Connection]:
        check_wanted()
        bounded = self._dialect.bounded
        with self._troubles(), self._dialect.engine.connect() as connection, bounded(connection, seconds, WAITING.get()):
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._troubles(), self._dialect.writing.begin() as connection:
            version = connection.scalar(_VERSION)
            if version != VERSION:
                raise Unavailable(f"the tables were brought to version {version} and this program writes {VERSION}; start it anew")
            yield connection

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            trouble = self._dialect.trouble(error)
            if trouble is None:
                raise
            raise trouble from error

    @contextmanager
    def _openable(self) -> Iterator[None]:
        try:
            with self._troubles():
                yield
        except sa.exc.DatabaseError as error:
            raise StoreBroken(f"the database {self.name} cannot be opened ({error.orig}); restore it from a backup") from error


def _together(connection: Connection, rows: Sequence[SqlRow[Any]], details: bool) -> list[Stored]:
    keys = [row.pk for row in rows]
    if not keys or not details:
        return stored_of(rows, (), ())
    layers = connection.execute(sa.select(LAYER).where(LAYER.c.product.in_(keys)).order_by(LAYER.c.name)).all()
    codes = connection.execute(sa.select(PRODUCT_CODE).where(PRODUCT_CODE.c.product.in_(keys)).order_by(PRODUCT_CODE.c.code)).all()
    return stored_of(rows, layers, codes)
