"""The catalogue: keeps what sources say about clouds, and gives the newest of it.

Every fact stays for the record under its source and day. What counts is the newest day of each key, of whichever source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import blake2b
from itertools import islice
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from earthself.benchmark.offers.checks import check
from earthself.benchmark.offers.model import Offers, Row, Source
from earthself.benchmark.offers.tables import DIGEST, KINDS, NEWEST, OFFER_TABLES, REVISION, SOURCE, Kind
from earthself.data.database import Kept
from sqlalchemy.engine import Connection

_BATCH = 5000
_BITS = 128


@dataclass(frozen=True)
class Added:
    """What came of rows that were to be kept."""

    read: int
    new: int
    replaced: int
    """Said otherwise before by the same source about the same day."""


@dataclass(frozen=True)
class State:
    """All that counts at one moment, and the name of that state."""

    revision: str
    offers: Offers


class Catalogue(Kept):
    """What clouds offer, for which price, as far as somebody has said so."""

    def __init__(self, url: str | None = None) -> None:
        """Use the platform's database unless another one is named."""
        super().__init__(OFFER_TABLES, url)

    def add(self, rows: Iterable[Row]) -> Added:
        """Keep rows, all of them or none; raises `BadOffers` for one that cannot be, and whatever reading them raises."""
        found: dict[type[Any], list[Row]] = defaultdict(list)
        for row in rows:
            check(row)
            found[type(row)].append(row)
        new = replaced = 0
        with self._database.writing() as connection:
            state = _sum(connection, lock=True)
            before = state
            for made, group in found.items():
                for batch in _changes(connection, KINDS[made], group):
                    new += batch.new
                    replaced += len(batch.gone)
                    state += batch.difference
                    _write(connection, KINDS[made], batch)
                if state != before:
                    _mark(connection, KINDS[made])
            if state % 2**_BITS != before:
                connection.execute(REVISION.update().values(revision=f"{state % 2**_BITS:032x}"))
        return Added(sum(map(len, found.values())), new, replaced)

    def revision(self) -> str:
        """Name the state of the catalogue: the same for the same facts, wherever and in whatever order they were added."""
        with self._database.reading() as connection:
            return f"{_sum(connection):032x}"

    def snapshot(self) -> Offers:
        """Give the newest of each key; of several sources of that day, the first by name."""
        return self.state().offers

    def state(self) -> State:
        """Give the same with the name of the state that it is of, both of one moment."""
        with self._database.reading() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901 - the same one
            revision = f"{_sum(connection):032x}"
            found: dict[str, Any] = {kind.name: tuple(_newest(connection, kind)) for kind in KINDS.values()}
            return State(revision, Offers(**found))


@dataclass
class _Changes:
    rows: list[dict[str, Any]]
    gone: list[dict[str, Any]]
    """Identities of the rows that make room."""
    difference: int

    @property
    def new(self) -> int:
        return len(self.rows) - len(self.gone)


def _changes(connection: Connection, kind: Kind, rows: Sequence[Row]) -> Iterator[_Changes]:
    """Compare rows with those that are kept; the state is the sum of all digests, so that their order does not matter."""
    columns = (*kind.columns, *SOURCE)
    identify = itemgetter(*map(columns.index, kind.identity))
    kept = _kept(connection, kind, rows)
    for batch in _batches(rows):
        said = {identify(values): values for values in map(kind.values, batch)}
        digests = {key: blake2b(repr((kind.name, values)).encode(), digest_size=_BITS // 8).hexdigest() for key, values in said.items()}
        changed = [key for key, digest in digests.items() if kept.get(key) != digest]
        gone = [key for key in changed if key in kept]
        difference = sum(int(digests[key], 16) for key in changed) - sum(int(kept[key], 16) for key in gone)
        kept.update(digests)
        yield _Changes(
            [dict(zip(columns, said[key], strict=True)) | {DIGEST: digests[key], NEWEST: False} for key in changed],
            [{f"old_{name}": value for name, value in zip(kind.identity, key, strict=True)} for key in gone],
            difference,
        )


def _kept(connection: Connection, kind: Kind, rows: Sequence[Row]) -> dict[tuple[Any, ...], str]:
    days = [row.source.day for row in rows]
    columns = kind.table.c
    query = sa.select(*(columns[name] for name in kind.identity), columns[DIGEST]).where(
        columns.source_name.in_({row.source.name for row in rows}), columns.source_day.between(min(days), max(days))
    )
    return {tuple(row[:-1]): row[-1] for row in connection.execute(query)}


def _write(connection: Connection, kind: Kind, changes: _Changes) -> None:
    if changes.gone:
        same = sa.and_(*(kind.table.c[name.removeprefix("old_")] == sa.bindparam(name) for name in changes.gone[0]))
        connection.execute(kind.table.delete().where(same), changes.gone)
    if changes.rows:
        connection.execute(kind.table.insert(), changes.rows)


def _mark(connection: Connection, kind: Kind) -> None:
    """Note which row of each key is the newest; of several sources of that day, the first by name, as bytes compare in any database."""
    this, other = kind.table, kind.table.alias()
    names: list[sa.ColumnElement[str]] = [column.c.source_name for column in (other, this)]
    if connection.dialect.name == "postgresql":
        names = [name.collate("C") for name in names]
    later = sa.or_(other.c.source_day > this.c.source_day, sa.and_(other.c.source_day == this.c.source_day, names[0] < names[1]))
    newest = ~sa.exists().where(*(other.c[name] == this.c[name] for name in kind.key), later).correlate(this)
    connection.execute(this.update().where(this.c[NEWEST] != newest).values({NEWEST: newest}))


def _sum(connection: Connection, *, lock: bool = False) -> int:
    query = sa.select(REVISION.c.revision)
    return int(connection.execute(query.with_for_update() if lock else query).scalar_one(), 16)


def _newest(connection: Connection, kind: Kind) -> Iterator[Row]:
    """Give what counts, in the order of the keys."""
    columns = kind.table.c
    query = sa.select(*(columns[each] for each in (*kind.columns, *SOURCE))).where(columns[NEWEST])
    found = sorted(connection.execute(query).all(), key=itemgetter(*map(kind.columns.index, kind.key)))
    source = cache(_source)
    for *values, name, day, url in found:
        yield kind.row(values, source(name, day, url))


def _source(name: str, day: date, url: str) -> Source:
    return Source(name, url, day)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch
