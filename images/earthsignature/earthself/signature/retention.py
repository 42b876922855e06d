"""Which products a store need not keep any more, by a rule; and removing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from earthself.signature import filters
from earthself.signature.errors import BadSignature, NotFound
from earthself.signature.rows import Stored, micros
from earthself.signature.scan import Search
from earthself.signature.store import Store
from earthself.signature.tables import PRODUCT

_PAGE = 500
_MOST_DAYS = 100_000


@dataclass(frozen=True)
class Rule:
    """All that is said must hold of a product that goes; at least one thing must be said."""

    acquired_before: timedelta | None = None
    """Its acquisition lies so long ago."""
    cloudier_than: float | None = None
    """Its cloud cover is above so many percent."""
    superseded: bool = False
    """A newer product of the same observation is there."""
    product_type: str | None = None
    """It is of that type, such as S2MSI1C."""
    without_segmentation: bool = False
    """It is only described."""

    def conditions(self, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
        """Say it to the database; raises `BadSignature` for a rule that says nothing, or what cannot be."""
        if self == Rule():
            raise BadSignature("the rule would remove everything; say which products go, such as --superseded or --acquired-before 1825")
        if self.acquired_before is not None and self.acquired_before <= timedelta():
            raise BadSignature(f"acquired before {self.acquired_before.days} days ago is no rule; give a number of days above 0")
        if self.cloudier_than is not None and not 0 <= self.cloudier_than <= 100:
            raise BadSignature(f"cloudier than {self.cloudier_than:g} % is no rule; give a percentage from 0 to 100")
        table, found = PRODUCT.c, []
        if self.acquired_before is not None:
            found.append(table.creation_date < micros(now - self.acquired_before))
        if self.cloudier_than is not None:
            found.append(table.cloud_cover > self.cloudier_than)
        if self.superseded:
            newer = PRODUCT.alias("newer")
            # A newer product that is gone by now supersedes nothing.
            found.append(sa.exists().where(newer.c.product_id == table.superseded_by))
        if self.product_type is not None:
            found.append(table.product_type == self.product_type)
        if self.without_segmentation:
            found.append(table.folder.is_(None))
        return tuple(found)


def days(number: float) -> timedelta:
    """Read an age; raises `BadSignature` for what is none."""
    if not 0 < number <= _MOST_DAYS:
        raise BadSignature(f"acquired before {number:g} days ago is no rule; give a number of days above 0, at most {_MOST_DAYS}")
    return timedelta(days=number)


def expired(store: Store, rule: Rule, now: datetime) -> Iterator[Stored]:
    """Give the products that the rule lets go, newest first."""
    conditions, after = rule.conditions(now), None
    while True:
        page = store.catalog.search(Search(filters.query(), _PAGE, conditions, after=after))
        yield from page.found
        if page.next is None:
            return
        after = page.next


def remove(store: Store, rule: Rule, now: datetime, progress: Callable[[int], None]) -> int:
    """Remove them, beside a running server; gives how many. Raises `Unavailable` while a backup is made."""
    removed = 0
    # All that the rule lets go now, and older ones first: without B, which C supersedes, nothing would supersede A any more.
    going = sorted((stored.product.publication_date, stored.product.product_id) for stored in expired(store, rule, now))
    for _, name in going:
        try:
            store.delete(name)
        except NotFound:
            continue
        removed += 1
        progress(removed)
    return removed
