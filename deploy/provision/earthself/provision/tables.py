"""The journal's tables; a version of their own in the platform's database."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from earthself.data.database import Instant, Tables
from earthself.provision.errors import JournalBroken

VERSION_TABLE = "provision_version"
HEAD = "0001"
METADATA = sa.MetaData()

ENVIRONMENT = sa.Table(
    "provision_environment",
    METADATA,
    sa.Column("request", sa.String(40), primary_key=True),
    sa.Column("engine", sa.String(40), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("order", sa.JSON, nullable=False),
    sa.Column("until", sa.Date, nullable=False),
    sa.Column("begun", Instant, nullable=False),
    sa.Column("gone", Instant),
    sa.Index("provision_environment_until", "gone", "until"),
)
RESOURCE = sa.Table(
    "provision_resource",
    METADATA,
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
    sa.Column("changed", Instant, nullable=False),
    sa.Index("provision_resource_stage", "stage", "request"),
)
TABLES = Tables(Path(__file__).with_name("migrations"), VERSION_TABLE, HEAD, JournalBroken)
