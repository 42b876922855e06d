"""What was watched, asked, seen and decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "watch",
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("collection", sa.String(100), nullable=False),
        sa.Column("provider", sa.String(100)),
        sa.Column("area", sa.Text, nullable=False),
        sa.Column("max_cloud_cover", sa.Float),
        sa.Column("lookback_hours", sa.Float, nullable=False),
        sa.Column("every_seconds", sa.Float, nullable=False),
        sa.Column("goal_hours", sa.Float),
        sa.Column("goal_share", sa.Float),
        sa.Column("since", moment, nullable=False),
        sa.Column("answered", moment),
        sa.Column("ended", moment),
    )
    op.create_table(
        "asking",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("watch", sa.String(250), nullable=False),
        sa.Column("provider", sa.String(100), nullable=False),
        sa.Column("first", moment, nullable=False),
        sa.Column("last", moment, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("well", sa.Boolean, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
    )
    op.create_index("asking_newest", "asking", ["watch", "pk"])
    op.create_table(
        "sighting",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("watch", sa.String(250), nullable=False),
        sa.Column("product", sa.String(250), nullable=False),
        sa.Column("observation", sa.String(250), nullable=False),
        sa.Column("baseline", sa.String(20)),
        sa.Column("provider", sa.String(100), nullable=False),
        sa.Column("acquired", moment, nullable=False),
        sa.Column("published", moment),
        sa.Column("seen", moment, nullable=False),
        sa.Column("announced", moment),
        sa.Column("claimed", moment),
        sa.Column("signed", moment),
        sa.Column("stored", moment),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("superseded_by", sa.String(250)),
        sa.Column("cloud_cover", sa.Float),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.UniqueConstraint("watch", "product", name="sighting_once"),
    )
    op.create_index("sighting_acquired", "sighting", ["watch", "acquired"])
    op.create_index("sighting_state", "sighting", ["state", "acquired"])
    op.create_index("sighting_run", "sighting", ["dag_id", "run_id"])
    op.create_table(
        "decision",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("watch", sa.String(250), nullable=False),
        sa.Column("product", sa.String(250), nullable=False),
        sa.Column("what", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
    )
    op.create_index("decision_product", "decision", ["watch", "product", "pk"])
    op.create_table(
        "alert",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("watch", sa.String(250), nullable=False),
        sa.Column("first", moment, nullable=False),
        sa.Column("last", moment, nullable=False),
        sa.Column("ended", moment),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("alert_newest", "alert", ["watch", "pk"])
