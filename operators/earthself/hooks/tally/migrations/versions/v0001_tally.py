"""What is counted, and what processes tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "tally",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("labels", sa.String(1000), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
    op.create_table(
        "told",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("labels", sa.String(1000), primary_key=True),
        sa.Column("teller", sa.String(250), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
