"""The id of the store that the database belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make a table of one row."""
    op.create_table("store", sa.Column("id", sa.String(32), primary_key=True))
