"""The tables of what clouds offer, in the platform's database: one for each class of `model`, a row for each key, source and day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from dataclasses import replace as changed
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from earthself.benchmark.errors import CatalogueBroken
from earthself.benchmark.offers.checks import LONGEST
from earthself.benchmark.offers.model import (
    Allocation,
    Carbon,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Price,
    Rate,
    Region,
    Row,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip
from earthself.benchmark.tables import METADATA, TABLES

OFFER_TABLES = changed(TABLES, broken=CatalogueBroken)
REVISION = sa.Table(
    "benchmark_catalogue",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.String(32), nullable=False),
)
SOURCE = ("source_name", "source_day", "source_url")
"""Columns that say where a row is from; they stand behind a class's own."""
DIGEST = "digest"
NEWEST = "newest"
_TYPES: Mapping[str, Any] = {
    "str": sa.String(LONGEST), "float": sa.Double(), "int": sa.Integer(), "date": sa.Date(), "Allocation": sa.String(20),
    "StorageKind": sa.String(20), "Sequence[str]": sa.JSON(), "Sequence[Tier]": sa.JSON(),
}  # fmt: skip
_TO: Mapping[str, Callable[[Any], Any]] = {
    "float": lambda value: None if value is None else float(value),
    "int": lambda value: value or 0,
    "Allocation": str,
    "StorageKind": str,
    "Sequence[str]": list,
    "Sequence[Tier]": lambda tiers: [[tier.up_to_gb, tier.amount] for tier in tiers],
}
"""By a field's type: what its column holds where that is something else."""
_FROM: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda value: value or None,
    "Allocation": {each.value: each for each in Allocation}.__getitem__,
    "StorageKind": {each.value: each for each in StorageKind}.__getitem__,
    "Sequence[str]": tuple,
    "Sequence[Tier]": lambda tiers: tuple(Tier(up_to, amount) for up_to, amount in tiers),
}


class Kind:
    """How one class of rows is kept."""

    def __init__(self, made: type[Any], name: str, key: str) -> None:
        """Keep `made` under the field `name` of `Offers`; `key` names the columns that say what a fact is about."""
        own = [(each.name, str(each.type)) for each in fields(made) if each.name != "source"]
        types = [kind.removesuffix(" | None") for _, kind in own]
        self.name, self.key, self.columns = name, key.split(), [name for name, _ in own]
        self.identity = (*self.key, "source_name", "source_day")
        self._made, self._of = made, attrgetter(*self.columns)
        self._source_at = [each.name for each in fields(made)].index("source")
        self._to = [(index, _TO[kind]) for index, kind in enumerate(types) if kind in _TO]
        self._from = [(index, _FROM[kind]) for index, kind in enumerate(types) if kind in _FROM]
        columns: list[sa.Column[Any]] = [
            sa.Column(name, _TYPES[kind], nullable="None" in said and name not in self.key)
            for (name, said), kind in zip(own, types, strict=True)
        ]
        self.table = sa.Table(
            "benchmark_" + name.removesuffix("s"),
            METADATA,
            *columns,
            sa.Column("source_name", sa.String(LONGEST), nullable=False),
            sa.Column("source_day", sa.Date, nullable=False),
            sa.Column("source_url", sa.String(LONGEST), nullable=False),
            sa.Column(DIGEST, sa.String(32), nullable=False),
            sa.Column(NEWEST, sa.Boolean, nullable=False),
            sa.PrimaryKeyConstraint(*self.identity),
        )

    def values(self, row: Row) -> list[Any]:
        """Give a row's `columns` and those of its source, as the database holds them."""
        found = list(self._of(row))
        for index, to in self._to:
            found[index] = to(found[index])
        return [*found, row.source.name, row.source.day, row.source.url]

    def row(self, values: list[Any], source: Source) -> Row:
        """Make a row of its `columns`, a list that is used up."""
        for index, of in self._from:
            values[index] = of(values[index])
        values.insert(self._source_at, source)
        made: Row = self._made(*values)
        return made


KINDS: dict[type[Any], Kind] = {
    made: Kind(made, name, key)
    for made, name, key in (
        (Cloud, "clouds", "cloud"),
        (Region, "regions", "cloud region"),
        (Offer, "offers", "cloud offer"),
        (Price, "prices", "cloud region zone offer allocation term_months"),
        (StoragePrice, "storage_prices", "cloud region kind name"),
        (EgressPrice, "egress_prices", "cloud region"),
        (Rate, "rates", "currency"),
        (Certificate, "certificates", "cloud region name"),
        (Carbon, "carbon", "cloud region country"),
    )
}
