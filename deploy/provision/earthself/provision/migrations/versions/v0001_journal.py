"""Environments, and each resource that was ever meant to be made for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "provision_environment",
        sa.Column("request", sa.String(40), primary_key=True),
        sa.Column("engine", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("order", sa.JSON, nullable=False),
        sa.Column("until", sa.Date, nullable=False),
        sa.Column("begun", moment, nullable=False),
        sa.Column("gone", moment),
    )
    op.create_index("provision_environment_until", "provision_environment", ["gone", "until"])
    op.create_table(
        "provision_resource",
        sa.Column("request", sa.String(40), sa.ForeignKey("provision_environment.request"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("needs", sa.JSON, nullable=False),
        sa.Column("stage", sa.String(10), nullable=False),
        sa.Column("id", sa.String(250), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("hopeless", sa.Boolean, nullable=False),
        sa.Column("changed", moment, nullable=False),
    )
    op.create_index("provision_resource_stage", "provision_resource", ["stage", "request"])
