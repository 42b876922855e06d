"""What clouds offer, for which price: a row for each fact, source and day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
Column = sa.Column[Any]


def _text(*names: str, length: int = 250, empty: bool = False) -> list[Column]:
    return [sa.Column(name, sa.String(length), nullable=empty) for name in names]


def _numbers(*names: str, empty: bool = False) -> list[Column]:
    return [sa.Column(name, sa.Double, nullable=empty) for name in names]


def _until() -> Column:
    return sa.Column("valid_until", sa.Date, nullable=True)


def _table(name: str, key: str, *columns: Column) -> None:
    op.create_table(
        name,
        *columns,
        *_text("source_name"),
        sa.Column("source_day", sa.Date, nullable=False),
        *_text("source_url"),
        *_text("digest", length=32),
        sa.Column("newest", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint(*key.split(), "source_name", "source_day"),
    )
    op.create_index(f"{name}_newest", name, ["newest"])


def upgrade() -> None:
    """Make the catalogue's tables, and the one row that names its state."""
    _table("benchmark_cloud", "cloud", *_text("cloud", "name", "homepage"), *_text("country", empty=True))
    _table(
        "benchmark_region", "cloud region", *_text("cloud", "region", "name"), *_text("country", "city", empty=True),
        *_numbers("longitude", "latitude", empty=True), sa.Column("zones", sa.JSON, nullable=False),
    )  # fmt: skip
    _table(
        "benchmark_offer", "cloud offer", *_text("cloud", "offer"), *_numbers("vcpus", "memory_gib", empty=True),
        *_text("architecture", "cpu_model", empty=True), *_numbers("gpus", empty=True), *_text("gpu_model", empty=True),
        *_numbers("gpu_memory_gib", "disk_gb", empty=True), *_text("disk_kind", empty=True), *_numbers("network_gbps", empty=True),
    )  # fmt: skip
    _table(
        "benchmark_price", "cloud region zone offer allocation term_months", *_text("cloud", "region", "offer"),
        *_text("allocation", length=20), *_numbers("amount"), *_text("currency", "zone"), *_numbers("upfront"),
        sa.Column("term_months", sa.Integer, nullable=False), _until(),
    )  # fmt: skip
    _table(
        "benchmark_storage_price", "cloud region kind name", *_text("cloud", "region"), *_text("kind", length=20), *_numbers("amount"),
        *_text("currency", "name"), _until(),
    )  # fmt: skip
    tiers = sa.Column("tiers", sa.JSON, nullable=False)
    _table("benchmark_egress_price", "cloud region", *_text("cloud", "region"), tiers, *_text("currency"), _until())
    _table("benchmark_rate", "currency", *_text("currency"), *_numbers("euros"))
    _table("benchmark_certificate", "cloud region name", *_text("cloud", "name", "region"), _until())
    _table("benchmark_carbon", "cloud region country", *_numbers("grams_per_kwh"), *_text("cloud", "region", "country"))
    state = op.create_table(
        "benchmark_catalogue",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.String(32), nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "revision": "0" * 32}])
