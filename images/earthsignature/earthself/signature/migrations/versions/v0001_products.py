"""Products, their layers, their codes and the boxes of their footprints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "product",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("product_id", sa.String(255), nullable=False, unique=True),
        sa.Column("creation_date", sa.BigInteger, nullable=False),
        sa.Column("publication_date", sa.BigInteger, nullable=False),
        sa.Column("product_type", sa.String, nullable=False),
        sa.Column("cloud_cover", sa.Float, nullable=False),
        sa.Column("properties", sa.JSON, nullable=False),
        sa.Column("footprint", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("classes_sha256", sa.String(64), nullable=True),
        sa.Column("folder", sa.String, nullable=False, unique=True),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
    )
    op.create_index("product_newest", "product", ["creation_date", "product_id"])
    op.create_table(
        "layer",
        sa.Column("product", sa.Integer, sa.ForeignKey("product.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("crs", sa.String, nullable=False),
        sa.Column("transform", sa.JSON, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("data_type", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "product_code",
        sa.Column("code", sa.Integer, primary_key=True),
        sa.Column("product", sa.Integer, sa.ForeignKey("product.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("pixels", sa.BigInteger, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE footprint USING rtree(pk, west, east, south, north, +product INTEGER)")
