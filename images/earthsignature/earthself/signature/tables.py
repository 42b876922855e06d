"""The tables of EarthSignature. What the migrations make must equal this; a test compares them, on SQLite and on PostgreSQL.

On SQLite the boxes and days of footprints lie beside these tables in an R*Tree, which SQLAlchemy cannot describe: `place` has one
box for each part of a footprint, so that one over the antimeridian is not as wide as the world. On PostgreSQL footprints are PostGIS
geometries, with one index over place and time.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.types import UserDefinedType

METADATA = MetaData()
SRID = 4326
VERSION = "0003"
"""Of these tables: the last migration."""


class _Geometry(UserDefinedType[bytes]):
    """PostGIS's geometry, as WKB outside of the database."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:  # noqa: ANN401 - SQLAlchemy's signature
        return f"geometry(Geometry,{SRID})"

    def bind_expression(self, bindvalue: sa.BindParameter[bytes]) -> sa.ColumnElement[bytes]:
        return sa.func.ST_GeomFromWKB(bindvalue, SRID, type_=self)

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
        return sa.func.ST_AsBinary(colexpr, type_=LargeBinary)


FOOTPRINT = LargeBinary().with_variant(_Geometry(), "postgresql")
"""WKB in Python; a blob on SQLite, a geometry on PostgreSQL."""

STORE = Table("store", METADATA, Column("id", String(32), primary_key=True, comment="one row; the folder of the rasters keeps it, too"))

PRODUCT = Table(
    "product",
    METADATA,
    Column("pk", Integer, primary_key=True),
    Column("product_id", String(255), nullable=False, unique=True),
    Column("creation_date", BigInteger, nullable=False, comment="acquisition, microseconds since 1970 UTC"),
    Column("publication_date", BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    Column("product_type", String, nullable=False),
    Column("cloud_cover", Float, nullable=False, comment="percent"),
    Column("properties", JSON, nullable=False),
    Column("footprint", FOOTPRINT, nullable=False, comment="longitude and latitude"),
    Column("digest", String(64), nullable=False, comment="SHA-256 of id, footprint and properties"),
    Column("classes_sha256", String(64), nullable=True, comment="of the polygons, for a product that came as polygons"),
    Column("folder", String, nullable=True, unique=True, comment="of the rasters, below the store; none: no segmentation"),
    Column("stored_at", BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    Column("superseded_by", String(255), nullable=True, comment="product_id of the newer product of the same observation"),
    Index("product_newest", "creation_date", "product_id"),
)
_SEGMENTED = PRODUCT.c.folder.is_not(None)
Index("product_segmented", PRODUCT.c.creation_date, PRODUCT.c.product_id, sqlite_where=_SEGMENTED, postgresql_where=_SEGMENTED)
Index("product_place", PRODUCT.c.footprint, PRODUCT.c.creation_date, postgresql_using="gist").ddl_if(dialect="postgresql")

LAYER = Table(
    "layer",
    METADATA,
    Column("product", Integer, ForeignKey("product.pk", ondelete="CASCADE"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("crs", String, nullable=False),
    Column("transform", JSON, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("data_type", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, comment="of georeference and pixels"),
    Column("size", BigInteger, nullable=False, comment="bytes of the file"),
)

PRODUCT_CODE = Table(
    "product_code",
    METADATA,
    Column("product", Integer, ForeignKey("product.pk", ondelete="CASCADE"), primary_key=True),
    Column("code", Integer, primary_key=True),
    Column("pixels", BigInteger, nullable=False),
    Column("share", Float, nullable=False, comment="of the pixels that have a code, 0 to 1"),
    Column("hectares", Float, nullable=True, comment="none where the size of the pixels is not known"),
    Index("product_code_code", "code", "product"),
    sqlite_with_rowid=False,
)

PLACE = sa.table("place", *(sa.column(name) for name in ("pk", "west", "east", "south", "north", "first", "last", "product")))
"""SQLite only: an R*Tree of boxes (degrees) and days since 1970 of the acquisition."""
