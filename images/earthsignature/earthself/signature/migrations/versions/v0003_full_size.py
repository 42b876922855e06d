"""Products without rasters, shares and hectares of codes, who supersedes whom, and an index over place and time.

SQLite cannot take a NOT NULL away, so that its tables are made anew beside the old ones; readers see the old ones until the commit.
PostgreSQL never served before this version: there are no rows to take along.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op
from earthself.signature.rasters import Grid
from earthself.signature.tables import FOOTPRINT

revision = "0003"
down_revision = "0002"
_OLD = ("layer", "product_code", "product")
_BATCH = 1000


def upgrade() -> None:
    """Make the tables of this version and fill them from those of the one before."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    _create()
    if on_sqlite:
        op.execute("CREATE VIRTUAL TABLE place USING rtree(pk, west, east, south, north, first, last, +product INTEGER)")
        _copy()
        op.execute("DROP TABLE footprint")
    for name in _OLD:
        op.drop_table(name)
    for name in reversed(_OLD):
        op.rename_table(f"{name}_next", name)
    op.create_index("product_newest", "product", ["creation_date", "product_id"])
    segmented = sa.text("folder IS NOT NULL")
    op.create_index("product_segmented", "product", ["creation_date", "product_id"], sqlite_where=segmented, postgresql_where=segmented)
    op.create_index("product_code_code", "product_code", ["code", "product"])
    if not on_sqlite:
        op.create_index("product_place", "product", ["footprint", "creation_date"], postgresql_using="gist")


def _create() -> None:
    op.create_table(
        "product_next",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("product_id", sa.String(255), nullable=False, unique=True),
        sa.Column("creation_date", sa.BigInteger, nullable=False),
        sa.Column("publication_date", sa.BigInteger, nullable=False),
        sa.Column("product_type", sa.String, nullable=False),
        sa.Column("cloud_cover", sa.Float, nullable=False),
        sa.Column("properties", sa.JSON, nullable=False),
        sa.Column("footprint", FOOTPRINT, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("classes_sha256", sa.String(64), nullable=True),
        sa.Column("folder", sa.String, nullable=True, unique=True),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("superseded_by", sa.String(255), nullable=True),
    )
    op.create_table(
        "layer_next",
        sa.Column("product", sa.Integer, sa.ForeignKey("product_next.pk", ondelete="CASCADE"), primary_key=True),
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
        "product_code_next",
        sa.Column("product", sa.Integer, sa.ForeignKey("product_next.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("code", sa.Integer, primary_key=True),
        sa.Column("pixels", sa.BigInteger, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("hectares", sa.Float, nullable=True),
        sqlite_with_rowid=False,
    )


def _copy() -> None:
    columns = (
        "pk, product_id, creation_date, publication_date, product_type, cloud_cover, properties, footprint, digest, classes_sha256, folder"
    )
    op.execute(f"INSERT INTO product_next ({columns}, stored_at) SELECT {columns}, stored_at FROM product")  # noqa: S608 - names of ours
    op.execute("INSERT INTO layer_next SELECT product, name, crs, transform, width, height, data_type, sha256, size FROM layer")
    op.execute(
        "INSERT INTO product_code_next (product, code, pixels, share) SELECT product, code, pixels, "
        "coalesce(1.0 * pixels / nullif(sum(pixels) OVER (PARTITION BY product), 0), 0) FROM product_code"
    )
    op.execute(
        "INSERT INTO place SELECT f.pk, f.west, f.east, f.south, f.north, p.creation_date / 86400e6, p.creation_date / 86400e6, f.product "
        "FROM footprint f JOIN product p ON p.pk = f.product"
    )
    connection = op.get_bind()
    grids = connection.execute(sa.text("SELECT product, crs, transform, width, height FROM layer WHERE name = 'segmentation'"))
    for rows in grids.partitions(_BATCH):
        sizes = [
            {"product": row.product, "size": Grid(row.crs, tuple(json.loads(row.transform)), row.width, row.height).pixel_ha}
            for row in rows
        ]
        connection.execute(sa.text("UPDATE product_code_next SET hectares = pixels * :size WHERE product = :product"), sizes)
