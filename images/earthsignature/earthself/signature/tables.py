"""The tables of EarthSignature. What the migrations make must equal this; a test compares them.

On SQLite the boxes of footprints lie beside these tables in an R*Tree, which SQLAlchemy cannot describe: `footprint` has one
box for each part of a footprint, so that one over the antimeridian is not as wide as the world.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table

METADATA = MetaData()

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
    Column("footprint", LargeBinary, nullable=False, comment="WKB, longitude and latitude"),
    Column("digest", String(64), nullable=False, comment="SHA-256 of id, footprint and properties"),
    Column("classes_sha256", String(64), nullable=True, comment="of the polygons, for a product that came as polygons"),
    Column("folder", String, nullable=False, unique=True, comment="of the rasters, below the store"),
    Column("stored_at", BigInteger, nullable=False, comment="microseconds since 1970 UTC"),
    Index("product_newest", "creation_date", "product_id"),
)

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
    Column("code", Integer, primary_key=True),
    Column("product", Integer, ForeignKey("product.pk", ondelete="CASCADE"), primary_key=True),
    Column("pixels", BigInteger, nullable=False),
)
