"""What the samples of a place say together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of summaries, and let those of what is there be made when they are asked for."""
    places = ("cloud", "region", "zone", "offer")
    op.create_table(
        "benchmark_summary",
        *(sa.Column(name, sa.String(250), primary_key=True) for name in (*places, "test", "metric")),
        sa.Column("unit", sa.String(100), nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("cpu_model", sa.String(250), nullable=False),
        sa.Column("median", sa.Double, nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("newest", sa.Double, nullable=False),
    )
    stale = op.create_table("benchmark_stale", *(sa.Column(name, sa.String(250), primary_key=True) for name in places))
    sample = sa.table("benchmark_sample", *(sa.column(name) for name in places))
    op.execute(stale.insert().from_select(list(places), sa.select(*(sample.c[name] for name in places)).distinct()))
    op.create_table(
        "benchmark_revision", sa.Column("part", sa.String(50), primary_key=True), sa.Column("number", sa.BigInteger, nullable=False)
    )
    op.create_index("benchmark_sample_place", "benchmark_sample", [*places, "test", "metric", "timestamp"])
