"""The tables of what was watched, asked, seen and decided; a version of their own in the platform's database."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from earthself.data.database import Instant, Tables
from earthself.triggers.errors import MemoryBroken

VERSION_TABLE = "watching_version"
HEAD = "0002"
METADATA = sa.MetaData()

WATCH = sa.Table(
    "watch",
    METADATA,
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("collection", sa.String(100), nullable=False),
    sa.Column("provider", sa.String(100)),
    sa.Column("area", sa.Text, nullable=False),
    sa.Column("max_cloud_cover", sa.Float),
    sa.Column("lookback_hours", sa.Float, nullable=False),
    sa.Column("every_seconds", sa.Float, nullable=False),
    sa.Column("goal_hours", sa.Float),
    sa.Column("goal_share", sa.Float),
    sa.Column("since", Instant, nullable=False),
    sa.Column("answered", Instant),
    sa.Column("ended", Instant),
)
"""One row a watch; `answered` is when the last question began that a provider answered."""

ASKING = sa.Table(
    "asking",
    METADATA,
    sa.Column("pk", sa.Integer, primary_key=True),
    sa.Column("watch", sa.String(250), nullable=False),
    sa.Column("provider", sa.String(100), nullable=False),
    sa.Column("first", Instant, nullable=False),
    sa.Column("last", Instant, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("well", sa.Boolean, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
    sa.Index("asking_newest", "watch", "pk"),
)
"""Spans of questions that went the same way: an outage is one row, and so is a quiet week."""

SIGHTING = sa.Table(
    "sighting",
    METADATA,
    sa.Column("pk", sa.Integer, primary_key=True),
    sa.Column("watch", sa.String(250), nullable=False),
    sa.Column("product", sa.String(250), nullable=False),
    sa.Column("observation", sa.String(250), nullable=False),
    sa.Column("baseline", sa.String(20)),
    sa.Column("provider", sa.String(100), nullable=False),
    sa.Column("acquired", Instant, nullable=False),
    sa.Column("published", Instant),
    sa.Column("seen", Instant, nullable=False),
    sa.Column("announced", Instant),
    sa.Column("claimed", Instant),
    sa.Column("signed", Instant),
    sa.Column("stored", Instant),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("superseded_by", sa.String(250)),
    sa.Column("cloud_cover", sa.Float),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("not_before", Instant),
    sa.UniqueConstraint("watch", "product", name="sighting_once"),
    sa.Index("sighting_acquired", "watch", "acquired"),
    sa.Index("sighting_state", "state", "acquired"),
    sa.Index("sighting_run", "dag_id", "run_id"),
)
"""How each product stands for each watch; `not_before` is when one that was lost may be taken again."""

DECISION = sa.Table(
    "decision",
    METADATA,
    sa.Column("pk", sa.Integer, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("watch", sa.String(250), nullable=False),
    sa.Column("product", sa.String(250), nullable=False),
    sa.Column("what", sa.String(20), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("dag_id", sa.String(250), nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Index("decision_product", "watch", "product", "pk"),
)
"""Everything that was ever decided about a product, in order."""

ALERT = sa.Table(
    "alert",
    METADATA,
    sa.Column("pk", sa.Integer, primary_key=True),
    sa.Column("watch", sa.String(250), nullable=False),
    sa.Column("first", Instant, nullable=False),
    sa.Column("last", Instant, nullable=False),
    sa.Column("ended", Instant),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("alert_newest", "watch", "pk"),
)
"""When an area was less fresh than promised, and why."""

TABLES = Tables(Path(__file__).parent / "migrations", VERSION_TABLE, HEAD, MemoryBroken)
