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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from earthself.data.legends import matches
from earthself.signature.catalog import Overview
from earthself.signature.errors import BadSignature, NotFound, OverTime, Unavailable
from earthself.signature.filters import ALL_CODES, Query
from earthself.signature.rows import Stored, micros
from earthself.signature.scan import Order, Search
from earthself.signature.store import Store
from earthself.signature.tables import PRODUCT, PRODUCT_CODE
from earthself.signature.web import items
from earthself.signature.web.addresses import COLLECTION, candidates
from earthself.signature.web.cql import Filter
from earthself.signature.web.narrowing import Column, Columns, Narrowed, narrowed

_T = TypeVar("_T")
MOST_SCANNED = 5_000
"""Products that one request may check one by one."""
MOST_COUNTED = 10_000
"""Matches up to which answers say how many there are."""
_SECONDS = 20.0
"""That one request may take, in the database and product by product."""
_CHUNK = 500
_PRODUCT = PRODUCT.c
_PATIENCE = 50
_LONGEST_TOKEN = 2_048


def _having(codes: frozenset[int]) -> sa.ColumnElement[bool]:
    wanted = sorted({code for code in ALL_CODES for asked in codes if asked in ALL_CODES and matches(code, asked)})
    return sa.exists().where(PRODUCT_CODE.c.product == _PRODUCT.pk, PRODUCT_CODE.c.code.in_(wanted))


COLUMNS = Columns(
    properties={
        "id": Column(_PRODUCT.product_id, "text"),
        "collection": Column(sa.literal(COLLECTION), "text"),
        "datetime": Column(_PRODUCT.creation_date, "instant"),
        "published": Column(_PRODUCT.publication_date, "instant"),
        "eo:cloud_cover": Column(_PRODUCT.cloud_cover, "number"),
        "product:type": Column(_PRODUCT.product_type, "text"),
        "earthself:segmented": Column(sa.case((_PRODUCT.folder.is_not(None), 1), else_=0), "truth"),
        "deprecated": Column(sa.case((_PRODUCT.superseded_by.is_not(None), 1), else_=0), "truth"),
    },
    classes=_having,
    classes_name="earthself:classes",
)
"""What filters and sorting find in columns; all else is checked product by product."""

_VALUES: dict[str, Callable[[Stored], Any]] = {
    "id": lambda stored: stored.product.product_id,
    "collection": lambda _: COLLECTION,
    "datetime": lambda stored: micros(stored.product.creation_date),
    "published": lambda stored: micros(stored.product.publication_date),
    "eo:cloud_cover": lambda stored: stored.product.cloud_cover,
    "product:type": lambda stored: stored.product.product_type,
    "earthself:segmented": lambda stored: int(stored.folder is not None),
    "deprecated": lambda stored: int(stored.superseded_by is not None),
}
NEWEST = (("datetime", True),)
"""How answers are sorted unless a search says otherwise."""


@dataclass(frozen=True)
class Wanted:
    """A search, checked."""

    query: Query
    """Area, period and ids."""
    filter: Filter | None = None
    """What the filter and query extensions ask."""
    order: tuple[tuple[str, bool], ...] = NEWEST
    """Names of columns, and whether they descend."""
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
        self._known: tuple[float, Overview] | None = None
        self._looking = threading.Lock()

    def search(self, wanted: Wanted) -> Answer:
        """Give a page; raises `BadSignature` for a wrong token or a filter that would look at too many products, `OverTime`."""
        order: Order = tuple((COLUMNS.properties[name].expression, down) for name, down in wanted.order)
        after = _read_token(wanted.token, wanted.order)
        search = Search(wanted.query, wanted.limit, order=order, after=after, count=MOST_COUNTED, seconds=_SECONDS)
        if wanted.filter is None:
            return self._answer(search)
        narrow = narrowed(wanted.filter.tree, COLUMNS)
        exact = narrow.exact and (narrow.area is None or wanted.query.area is None)
        conditions = () if narrow.condition is None else (narrow.condition,)
        query = _within(wanted.query, narrow)
        # Where nothing but columns without an index narrows, counting would go through all products once more.
        count = MOST_COUNTED if query.area is not None or query.product_ids or not conditions else 0
        search = replace(search, query=query, conditions=conditions, count=count)
        return self._answer(search) if exact else self._scan(search, wanted.filter, wanted)

    def get(self, part: str) -> Stored:
        """Find a product by its id as a path has it; raises `NotFound`."""
        for name in candidates(part):
            stored = self._asked(partial(self.store.catalog.get, name))
            if stored is not None:
                return stored
        raise NotFound(f"product {part[:255]!r} is not stored; /search finds what there is")

    def overview(self) -> Overview:
        """What the whole store holds. It is kept for fifty times as long as it took to find out, and one request at a time finds out."""
        known, now = self._known, self._clock()
        if known is not None and (now < known[0] or not self._looking.acquire(blocking=False)):
            return known[1]
        if known is None:
            self._looking.acquire()
        try:
            began = self._clock()
            found = self._asked(self.store.catalog.overview)
            self._known = (self._clock() + _PATIENCE * (self._clock() - began), found)
            return found
        finally:
            self._looking.release()

    def _answer(self, search: Search) -> Answer:
        page = self._asked(partial(self.store.catalog.search, search))
        return Answer(page.found, None if page.next is None else _token(page.next), page.matched)

    def _scan(self, search: Search, asked: Filter, wanted: Wanted) -> Answer:
        found: list[Stored] = []
        scanned, until = 0, self._clock() + _SECONDS
        search = replace(search, limit=_CHUNK, count=0)
        while True:
            page = self._asked(partial(self.store.catalog.search, search))
            for stored in self._matching(asked, page.found, until):
                if len(found) == wanted.limit:
                    last = found[-1]
                    return Answer(found, _token((*(_VALUES[name](last) for name, _ in wanted.order), last.product.product_id)), None)
                found.append(stored)
            scanned += len(page.found)
            if page.next is None:
                return Answer(found, None, len(found) if wanted.token is None else None)
            if scanned >= MOST_SCANNED:
                raise BadSignature(
                    f"the filter asks for {', '.join(sorted(asked.names))} of more than {MOST_SCANNED} products, which are checked "
                    f"one by one; narrow it by bbox, datetime, ids, or by {', '.join([*COLUMNS.properties, COLUMNS.classes_name])}"
                )
            search = replace(search, after=page.next, seconds=max(0.0, until - self._clock()))

    def _matching(self, asked: Filter, candidates: Sequence[Stored], until: float) -> Iterator[Stored]:
        for stored in candidates:
            if self._clock() > until:
                raise OverTime("the filter takes too long to check product by product; narrow it, or send a simpler area")
            said = {"type": "Feature", "id": stored.product.product_id, "collection": COLLECTION, "properties": items.properties(stored)}
            if asked.matches({**said, **items.place(stored)} if "geometry" in asked.names else said):
                yield stored

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Ask the database; raises `Unavailable` while it is being made or changed."""
        if not self.store.catalog.exists():
            raise Unavailable("the store is not made yet; start `earthsignature serve`, or try again in a moment")
        try:
            return ask()
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            raise Unavailable("the database is being made or brought up to date; try again in a moment") from error


def _within(query: Query, narrow: Narrowed) -> Query:
    """Narrow a question by what the filter says of place and time: that is what the database's index is made of."""
    starts = [start for start in (query.start, narrow.start) if start is not None]
    ends = [end for end in (query.end, narrow.end) if end is not None]
    return replace(query, area=query.area or narrow.area, start=max(starts, default=None), end=min(ends, default=None))


def _token(after: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(after)).encode()).decode().rstrip("=")


def _read_token(token: str | None, order: Sequence[tuple[str, bool]]) -> tuple[Any, ...] | None:
    if not token:
        return None
    try:
        after = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))) if len(token) <= _LONGEST_TOKEN else None
    except (ValueError, binascii.Error, RecursionError):
        after = None
    kinds = [*(COLUMNS.properties[name].kind for name, _ in order), "text"]
    if (
        not isinstance(after, list)
        or len(after) != len(kinds)
        or not all(_is_of(kind, value) for kind, value in zip(kinds, after, strict=True))
    ):
        raise BadSignature(f"token {token[:40]!r} is not one of this search; follow the link `next` as it stands")
    return tuple(after)


def _is_of(kind: str, value: Any) -> bool:  # noqa: ANN401 - what a stranger sent
    if kind == "text":
        return isinstance(value, str)
    numbers = (int, float) if kind == "number" else (int,)
    return isinstance(value, numbers) and not isinstance(value, bool) and abs(value) < 2**63
