"""The tables of services, needs, requests, comments and the audit; a version of their own in the platform's database."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from earthself.data.database import Instant, Tables
from earthself.helpdesk.errors import RecordsBroken

VERSION_TABLE = "helpdesk_version"
HEAD = "0001"
METADATA = sa.MetaData()

SERVICE = sa.Table(
    "helpdesk_service",
    METADATA,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("team", sa.String(50), nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("owner", sa.String(250), nullable=False),
    sa.Column("repository", sa.String(500), nullable=False),
    sa.Column("contact", sa.String(254), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.UniqueConstraint("team", "name", name="helpdesk_service_once"),
)
NEED = sa.Table(
    "helpdesk_need",
    METADATA,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("service", sa.String(20), sa.ForeignKey("helpdesk_service.id"), nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("by", sa.String(250), nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.Index("helpdesk_need_service", "service", "created"),
)
REQUEST = sa.Table(
    "helpdesk_request",
    METADATA,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("service", sa.String(20), sa.ForeignKey("helpdesk_service.id"), nullable=False),
    sa.Column("team", sa.String(50), nullable=False),
    sa.Column("need", sa.String(20), sa.ForeignKey("helpdesk_need.id"), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("cloud", sa.String(100), nullable=False),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.String(250), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.Column("changed", Instant, nullable=False),
    sa.Index("helpdesk_request_team", "team", "changed"),
    sa.Index("helpdesk_request_state", "state", "changed"),
)
COMMENT = sa.Table(
    "helpdesk_comment",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("request", sa.String(20), sa.ForeignKey("helpdesk_request.id"), nullable=False),
    sa.Column("by", sa.String(250), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Index("helpdesk_comment_request", "request", "number"),
)
AUDIT = sa.Table(
    "helpdesk_audit",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("who", sa.String(250), nullable=False),
    sa.Column("run", sa.String(510), nullable=False),
    sa.Column("team", sa.String(50), nullable=False),
    sa.Column("what", sa.String(50), nullable=False),
    sa.Column("subject", sa.String(20), nullable=False),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Index("helpdesk_audit_subject", "subject", "number"),
    sa.Index("helpdesk_audit_team", "team", "number"),
)
"""Rows are added only: the database itself refuses to change or delete one."""
TABLES = Tables(Path(__file__).with_name("migrations"), VERSION_TABLE, HEAD, RecordsBroken)
