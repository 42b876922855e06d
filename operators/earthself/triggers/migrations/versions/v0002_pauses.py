"""When a product that was lost may be taken again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the moment; what was lost before may be taken at once."""
    op.add_column("sighting", sa.Column("not_before", sa.DateTime(timezone=True)))
