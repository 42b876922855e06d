"""Services, needs, requests, comments, and an audit that the database itself keeps as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_KEPT = "rows of the audit are never changed"


def upgrade() -> None:
    """Make the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "helpdesk_service",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("team", sa.String(50), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(250), nullable=False),
        sa.Column("repository", sa.String(500), nullable=False),
        sa.Column("contact", sa.String(254), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.UniqueConstraint("team", "name", name="helpdesk_service_once"),
    )
    op.create_table(
        "helpdesk_need",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("service", sa.String(20), sa.ForeignKey("helpdesk_service.id"), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("by", sa.String(250), nullable=False),
        sa.Column("created", moment, nullable=False),
    )
    op.create_index("helpdesk_need_service", "helpdesk_need", ["service", "created"])
    op.create_table(
        "helpdesk_request",
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
        sa.Column("created", moment, nullable=False),
        sa.Column("changed", moment, nullable=False),
    )
    op.create_index("helpdesk_request_team", "helpdesk_request", ["team", "changed"])
    op.create_index("helpdesk_request_state", "helpdesk_request", ["state", "changed"])
    op.create_table(
        "helpdesk_comment",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("request", sa.String(20), sa.ForeignKey("helpdesk_request.id"), nullable=False),
        sa.Column("by", sa.String(250), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_index("helpdesk_comment_request", "helpdesk_comment", ["request", "number"])
    op.create_table(
        "helpdesk_audit",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("who", sa.String(250), nullable=False),
        sa.Column("run", sa.String(510), nullable=False),
        sa.Column("team", sa.String(50), nullable=False),
        sa.Column("what", sa.String(50), nullable=False),
        sa.Column("subject", sa.String(20), nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
    )
    op.create_index("helpdesk_audit_subject", "helpdesk_audit", ["subject", "number"])
    op.create_index("helpdesk_audit_team", "helpdesk_audit", ["team", "number"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE FUNCTION helpdesk_audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_KEPT}'; END $$")
        op.execute(
            "CREATE TRIGGER helpdesk_audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON helpdesk_audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION helpdesk_audit_kept()"
        )
    else:
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER helpdesk_audit_kept_{event.lower()} BEFORE {event} ON helpdesk_audit "
                f"BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
            )
