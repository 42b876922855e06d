"""What a run's own estimate rested on: an estimate compares like with like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the guess; what was kept before has none, and runs without it are not used."""
    for name in ("guessed_pixels", "area_pixels"):
        op.add_column("step_history", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
