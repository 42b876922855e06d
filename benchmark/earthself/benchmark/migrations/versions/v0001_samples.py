"""What the probes measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first table."""
    op.create_table(
        "benchmark_sample",
        sa.Column("sample_uri", sa.String(250), primary_key=True),
        sa.Column("run_uri", sa.String(250), nullable=False),
        sa.Column("test", sa.String(250), nullable=False),
        sa.Column("metric", sa.String(250), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.String(100), nullable=False),
        sa.Column("timestamp", sa.Double, nullable=False),
        *(sa.Column(name, sa.String(250), nullable=False) for name in ("cloud", "region", "zone", "offer")),
        sa.Column("labels", sa.JSON, nullable=False),
    )
    op.create_index("benchmark_sample_measured", "benchmark_sample", ["test", "metric", "cloud", "offer", "timestamp"])
    op.create_index("benchmark_sample_run", "benchmark_sample", ["run_uri"])
