"""One pass through the products that match, page by page: what the database can decide is decided there, the rest by shapely.

A page goes on after the last row of the page before (keyset), so that products which come or go meanwhile shift nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import shapely
import sqlalchemy as sa
from earthself.signature.dialects import Dialect
from earthself.signature.filters import Query
from earthself.signature.tables import PRODUCT, PRODUCT_CODE
from earthself.signature.waiting import check_wanted
from sqlalchemy.engine import Connection
from sqlalchemy.engine import Row as SqlRow

Order: TypeAlias = tuple[tuple[sa.ColumnElement[Any], bool], ...]
"""Columns without nulls, each with whether it descends; the product's id follows by itself."""
NEWEST: Order = ((PRODUCT.c.creation_date, True),)
_LEAST = 64
_MOST = 5000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Search:
    """A question to the catalogue that wants one page of the answer."""

    query: Query
    """Filters; its limit does not count here."""
    limit: int
    """Products of a page, at least 1."""
    conditions: tuple[sa.ColumnElement[bool], ...] = ()
    """Further ones, over the columns of `PRODUCT`; all must hold."""
    order: Order = NEWEST
    """How to sort."""
    after: tuple[Any, ...] | None = None
    """Where the page before ended: values of the order's columns, then the id."""
    count: int = 0
    """Count the matches up to so many; 0 does not count."""
    seconds: float | None = None
    """The longest that the database may take; None: as long as it wants."""


class Scan:
    """The products that one search matches, in its order."""

    def __init__(self, dialect: Dialect, connection: Connection, search: Search) -> None:
        """Look for the few products that can match at all, where they are few."""
        area = search.query.area
        self.after = search.after
        self._order = [*search.order, (PRODUCT.c.product_id, False)]
        meets = None if area is None else dialect.meets(area)
        self._area = None if area is None or meets is not None else area
        if self._area is not None:
            shapely.prepare(self._area)
        conditions = [*_conditions(search.query), *search.conditions]
        if meets is not None:
            conditions.append(meets)
        candidates = dialect.candidates(connection, search.query)
        self.known_to_be_few = candidates is not None or self._area is None
        if candidates is not None:
            conditions.append(candidates)
        self._conditions = conditions

    def page(self, connection: Connection, most: int, *, keys_only: bool = False) -> list[SqlRow[Any]]:
        """Give the next rows of `PRODUCT`, at most so many; fewer only at the end. `keys_only`: with `pk`, and what the scan needs."""
        found: list[SqlRow[Any]] = []
        while len(found) < most:
            check_wanted()  # an area that meets next to nothing goes through everything
            # Where shapely decides, a good part of the rows may not count.
            batch = most - len(found) if self._area is None else max(_LEAST, min(_MOST, 2 * (most - len(found))))
            rows = connection.execute(self._selection(batch, keys_only)).all()
            hits = self._meeting(rows)[: most - len(found)]
            found += hits
            if len(found) == most:
                self.after = self.place_of(found[-1])
            elif rows:
                self.after = self.place_of(rows[-1])
            if len(rows) < batch:
                break
        return found

    def count(self, connection: Connection, most: int) -> int | None:
        """Count all that match from the beginning; None for more than so many, or where counting would go through everything."""
        if not self.known_to_be_few:
            return None
        if self._area is None:
            some = sa.select(sa.literal(1)).select_from(PRODUCT).where(*self._conditions).limit(most + 1).subquery()
            number = int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)
        else:
            footprints = connection.scalars(sa.select(PRODUCT.c.footprint).where(*self._conditions)).all()
            number = int(shapely.intersects(self._area, shapely.from_wkb(footprints)).sum()) if footprints else 0
        return number if number <= most else None

    def _selection(self, limit: int, keys_only: bool) -> sa.Select[Any]:
        columns: Sequence[sa.ColumnElement[Any]] = tuple(PRODUCT.c)
        if keys_only:
            columns = (PRODUCT.c.pk, *((PRODUCT.c.footprint,) if self._area is not None else ()))
        places = [column.label(f"order_{n}") for n, (column, _) in enumerate(self._order)]
        sorted_by = (column.desc() if descending else column.asc() for column, descending in self._order)
        chosen = sa.select(*columns, *places).where(*self._conditions).order_by(*sorted_by).limit(limit)
        return chosen if self.after is None else chosen.where(self._beyond(self.after))

    def _beyond(self, after: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Rows that follow: further in the first column, or alike in it and further in the next, and so on."""
        ways = []
        for n, (column, descending) in enumerate(self._order):
            alike = [before == value for (before, _), value in zip(self._order[:n], after, strict=False)]
            ways.append(sa.and_(*alike, column < after[n] if descending else column > after[n]))
        first, descending = self._order[0]
        # Said once more on its own, since databases do not see a range of their index in a list of ways.
        return sa.and_(first <= after[0] if descending else first >= after[0], sa.or_(*ways))

    def _meeting(self, rows: Sequence[SqlRow[Any]]) -> list[SqlRow[Any]]:
        if self._area is None or not rows:
            return list(rows)
        hits = shapely.intersects(self._area, shapely.from_wkb([row.footprint for row in rows]))
        return [row for row, hit in zip(rows, hits, strict=True) if hit]

    def place_of(self, row: SqlRow[Any]) -> tuple[Any, ...]:
        """Say where that row lies in the order, for the search of the next page."""
        return tuple(row._mapping[f"order_{n}"] for n in range(len(self._order)))  # noqa: SLF001 - SQLAlchemy's public name


def possible(ids: Iterable[str]) -> list[str]:
    """Leave out the ids that no product has: PostgreSQL refuses to look for text with a NUL."""
    return [name for name in ids if "\0" not in name]


def _conditions(query: Query) -> list[sa.ColumnElement[bool]]:
    table, conditions = PRODUCT.c, []
    if query.start is not None:
        conditions.append(table.creation_date >= query.start)
    if query.end is not None:
        conditions.append(table.creation_date < query.end)
    if query.product_ids:
        conditions.append(table.product_id.in_(possible(sorted(query.product_ids))))
    if query.segmented:
        conditions.append(table.folder.is_not(None))
    if query.current:
        conditions.append(table.superseded_by.is_(None))
    if query.codes:
        code = PRODUCT_CODE.c
        of_it = sa.and_(code.product == table.pk, code.code.in_(sorted(query.codes)))
        if query.least_share:
            share = sa.select(sa.func.sum(code.share)).where(of_it).scalar_subquery()
            conditions.append(share >= query.least_share - _ROUNDING)
        else:
            conditions.append(sa.exists().where(of_it))
    return conditions
