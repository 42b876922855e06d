"""The one place of the web server that knows the tables: what a request asks for becomes pages of the catalogue's answers.

What a filter asks beyond the columns is checked product by product, up to a bound, so that an answer is right or refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
from earthself.data.legends import matches
from earthself.signature.catalog import Page, Search, Statistics, Stored
from earthself.signature.errors import BadSignature, NotFound, Unavailable
from earthself.signature.filters import ALL_CODES, Query
from earthself.signature.store import Store
from earthself.signature.tables import PRODUCT, PRODUCT_CODE
from earthself.signature.web import items
from earthself.signature.web.addresses import COLLECTION, candidates
from earthself.signature.web.cql import Column, Columns, Filter, narrowed
from shapely.geometry.base import BaseGeometry

_T = TypeVar("_T")
MOST_SCANNED = 20_000
"""Products that one request may check one by one."""
_CHUNK = 500
_PRODUCT = PRODUCT.c
_FRESH = 30.0


def _having(codes: frozenset[int]) -> sa.ColumnElement[bool]:
    wanted = sorted(code for code in ALL_CODES for asked in codes if asked in ALL_CODES and matches(code, asked))
    return _PRODUCT.pk.in_(sa.select(PRODUCT_CODE.c.product).where(PRODUCT_CODE.c.code.in_(wanted)))


COLUMNS = Columns(
    properties={
        "id": Column(_PRODUCT.product_id, "text"),
        "collection": Column(sa.literal(COLLECTION), "text"),
        "datetime": Column(_PRODUCT.creation_date, "instant"),
        "published": Column(_PRODUCT.publication_date, "instant"),
        "eo:cloud_cover": Column(_PRODUCT.cloud_cover, "number"),
        "product:type": Column(_PRODUCT.product_type, "text"),
    },
    classes=_having,
    classes_name="earthself:classes",
)
"""What filters and sorting find in columns; all else is checked product by product."""


@dataclass(frozen=True)
class Wanted:
    """A search, checked."""

    query: Query
    """Area, period and ids."""
    filter: Filter | None = None
    """What the filter and query extensions ask."""
    order: tuple[tuple[str, bool], ...] = ()
    """Names of columns, and whether they descend; empty: newest first."""
    token: str | None = None
    """Of the page before."""
    limit: int = 10
    """Products on a page."""


@dataclass(frozen=True)
class Answer:
    """One page of an answer."""

    found: list[Stored]
    """Products in the order asked for."""
    token: str | None
    """Of the next page; None at the end."""
    matched: int | None
    """Products on all pages, where that is known."""


class Products:
    """The stored products, as the web server asks for them; threads may share it."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """Point at a store, which another process may be making just now."""
        self.store = store
        self._clock = clock
        self._counted: tuple[float, Statistics] | None = None
        self._lock = threading.Lock()

    def search(self, wanted: Wanted) -> Answer:
        """Give a page; raises `BadSignature` for a wrong token or a filter that would have to look at too many products."""
        order = tuple((COLUMNS.properties[name].expression, down) for name, down in wanted.order)
        if wanted.filter is None:
            page = self._page(Search(wanted.query, (), order, _read_token(wanted.token).after, wanted.limit))
            return Answer(page.found, _token(page.next), page.matched)
        narrow = narrowed(wanted.filter.tree, COLUMNS)
        query, exact = wanted.query, narrow.exact
        if narrow.area is not None:
            query, exact = _with_area(query, narrow.area), exact and query.area is None
        conditions = () if narrow.condition is None else (narrow.condition,)
        if exact:
            page = self._page(Search(query, conditions, order, _read_token(wanted.token).after, wanted.limit))
            return Answer(page.found, _token(page.next), page.matched)
        return self._scan(Search(query, conditions, order, None, _CHUNK), wanted.filter, wanted)

    def get(self, part: str) -> Stored:
        """Find a product by its id as a path has it; raises `NotFound`."""
        for name in candidates(part):
            stored = self._asked(partial(self.store.catalog.get, name))
            if stored is not None:
                return stored
        raise NotFound(f"product {part[:255]!r} is not stored; /search finds what there is")

    def codes(self, found: Sequence[Stored]) -> dict[str, list[int]]:
        """The codes that each of these products has, by product id."""
        if not found:
            return {}
        ids = [stored.product.product_id for stored in found]
        chosen = (
            sa.select(_PRODUCT.product_id, PRODUCT_CODE.c.code)
            .join(PRODUCT, PRODUCT_CODE.c.product == _PRODUCT.pk)
            # The codes are named, since the key of that table begins with them.
            .where(_PRODUCT.product_id.in_(ids), PRODUCT_CODE.c.code.in_(sorted(ALL_CODES)))
        )
        codes: dict[str, list[int]] = {name: [] for name in ids}
        for row in self._asked(lambda: self.store.catalog.rows(chosen)):
            codes[row.product_id].append(row.code)
        return codes

    def statistics(self) -> Statistics:
        """What the whole store holds, at most half a minute ago."""
        with self._lock:
            now = self._clock()
            if self._counted is None or now - self._counted[0] > _FRESH:
                self._counted = (now, self._asked(self.store.statistics))
            return self._counted[1]

    def _scan(self, search: Search, wanted_filter: Filter, wanted: Wanted) -> Answer:
        found: list[Stored] = []
        start, scanned = _read_token(wanted.token), 0
        after, skip_to = start.after, start.last
        while True:
            page = self._page(Search(search.query, search.conditions, search.order, after, _CHUNK))
            for stored in self._matching(wanted_filter, _beyond(page.found, skip_to)):
                if len(found) == wanted.limit:
                    return Answer(found, _token(after, found[-1].product.product_id), None)
                found.append(stored)
            scanned += len(page.found)
            if page.next is None:
                return Answer(found, None, len(found) if wanted.token is None else None)
            if scanned >= MOST_SCANNED:
                raise BadSignature(
                    f"the filter asks for {', '.join(sorted(wanted_filter.names))} of more than {MOST_SCANNED} products, which are checked "
                    f"one by one; narrow it by bbox, datetime, ids, or by {', '.join([*COLUMNS.properties, COLUMNS.classes_name])}"
                )
            after, skip_to = page.next, None

    def _matching(self, wanted: Filter, candidates: Sequence[Stored]) -> Iterator[Stored]:
        codes = self.codes(candidates) if COLUMNS.classes_name in wanted.names else {}
        for stored in candidates:
            name = stored.product.product_id
            said = {"type": "Feature", "id": name, "collection": COLLECTION, "properties": items.properties(stored, codes.get(name))}
            if wanted.matches({**said, **items.place(stored)} if "geometry" in wanted.names else said):
                yield stored

    def _page(self, search: Search) -> Page:
        try:
            return self._asked(lambda: self.store.catalog.search(search))
        except (sa.exc.StatementError, ValueError, TypeError, LookupError) as error:
            if search.after is None:
                raise
            raise BadSignature("the token is not one of this search; follow the link `next` as it stands") from error

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Ask the database; raises `Unavailable` while it is being made or changed."""
        if not self.store.catalog.exists():
            raise Unavailable("the store is not made yet; start `earthsignature serve`, or try again in a moment")
        try:
            return ask()
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            raise Unavailable("the database is busy or being brought up to date; try again in a moment") from error


@dataclass(frozen=True)
class _Token:
    after: str | None
    """Where the catalogue goes on."""
    last: str | None
    """The product after which the page begins, where it lies within the catalogue's."""


def _token(after: str | None, last: str | None = None) -> str | None:
    if after is None and last is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([after, last]).encode()).decode().rstrip("=")


def _read_token(token: str | None) -> _Token:
    if not token:
        return _Token(None, None)
    try:
        after, last = json.loads(base64.urlsafe_b64decode(token[:4096] + "=" * (-len(token[:4096]) % 4)))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        after, last = 0, 0
    if not (isinstance(after, str | None) and isinstance(last, str | None)):
        raise BadSignature(f"token {token[:40]!r} is not one of this server; follow the link `next` as it stands")
    return _Token(after, last)


def _beyond(found: Sequence[Stored], last: str | None) -> Sequence[Stored]:
    """What comes after that product; all where it is gone."""
    names = [stored.product.product_id for stored in found]
    return found[names.index(last) + 1 if last in names else 0 :]


def _with_area(query: Query, area: BaseGeometry) -> Query:
    return Query(query.area or area, query.start, query.end, query.product_ids, query.codes, None)
