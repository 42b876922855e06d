"""Products as rows of the tables, and rows as products.

Bulk ingest makes rows in other processes, so that they are plain tuples in the order of the columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import shapely
from earthself.signature.product import Product, Said
from earthself.signature.rasters import Grid, Layer
from sqlalchemy.engine import Row as SqlRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
PRODUCT_COLUMNS = (
    "product_id",
    "creation_date",
    "publication_date",
    "product_type",
    "cloud_cover",
    "properties",
    "footprint",
    "digest",
    "classes_sha256",
    "folder",
    "stored_at",
    "superseded_by",
)
LAYER_COLUMNS = ("name", "crs", "transform", "width", "height", "data_type", "sha256", "size")
_DIGEST = PRODUCT_COLUMNS.index("digest")
CODE_COLUMNS = ("code", "pixels", "share", "hectares")
Box: TypeAlias = tuple[float, float, float, float]
"""West, south, east, north in degrees."""


class CodeShare(NamedTuple):
    """How much of a product has one code."""

    code: int
    """CORINE code."""
    pixels: int
    """Pixels that have it."""
    share: float
    """Of the pixels that have any code, 0 to 1."""
    hectares: float | None
    """On the ellipsoid; None where the size of the pixels is not known."""


@dataclass(frozen=True)
class Stored:
    """A product and its layers as the database holds them."""

    product: Product
    """What is said of it."""
    layers: tuple[Layer, ...]
    """In the order of their names; without counts. None where there is no segmentation."""
    folder: str | None
    """Of the rasters, below the store; None where there is no segmentation."""
    digest: str
    """Of id, footprint and properties."""
    classes_sha256: str | None
    """Of the polygons, where it came as polygons."""
    codes: tuple[CodeShare, ...] = ()
    """Its histogram, by code."""
    superseded_by: str | None = None
    """Id of the newer product of the same observation."""


class Row(NamedTuple):
    """What the tables hold of one product, but for the key."""

    product: tuple[Any, ...]
    """In the order of `PRODUCT_COLUMNS`, properties as JSON text, the footprint as WKB (little endian)."""
    layers: tuple[tuple[Any, ...], ...]
    """In the order of `LAYER_COLUMNS`."""
    codes: tuple[CodeShare, ...]
    """In the order of `CODE_COLUMNS`."""
    boxes: tuple[Box, ...]
    """Of the footprint's parts."""

    @property
    def name(self) -> str:
        """The product's id."""
        return str(self.product[0])

    @property
    def digest(self) -> str:
        """Of id, footprint and properties."""
        return str(self.product[_DIGEST])

    @property
    def day(self) -> float:
        """Days since 1970 of the acquisition."""
        return float(self.product[1]) / _DAY


Rows: TypeAlias = Sequence[Row]


class Outline(NamedTuple):
    """A footprint as the tables hold it."""

    wkb: bytes
    """Little endian, longitude and latitude."""
    boxes: tuple[Box, ...]
    """Of its parts."""


def row_of(stored: Stored, now: datetime) -> Row:
    """Make the row of a product that is stored now."""
    product, footprint = stored.product, stored.product.footprint
    boxes = tuple(part.bounds for part in getattr(footprint, "geoms", [footprint]))
    said = (*_said(product), json.dumps(dict(product.properties)), shapely.to_wkb(footprint, byte_order=1), stored.digest)
    last = (stored.classes_sha256, stored.folder, micros(now), stored.superseded_by)
    return Row((*said, *last), layer_rows(stored.layers), stored.codes, boxes)


def described_row(said: Said, outline: Outline, digest: str, codes: tuple[CodeShare, ...], now: datetime) -> Row:
    """Make the row of a product without rasters, of parts that were made for many at once."""
    product = (*_said(said), said.text, outline.wkb, digest, None, None, micros(now), None)
    return Row(product, (), codes, outline.boxes)


def _said(product: Product | Said) -> tuple[Any, ...]:
    created, published = micros(product.creation_date), micros(product.publication_date)
    return product.product_id, created, published, product.product_type, product.cloud_cover


def layer_rows(layers: Sequence[Layer]) -> tuple[tuple[Any, ...], ...]:
    """Make the rows of rasters, in the order of `LAYER_COLUMNS`."""
    return tuple(
        (la.name, la.grid.crs, json.dumps(list(la.grid.transform)), la.grid.width, la.grid.height, la.data_type, la.sha256, la.size)
        for la in layers
    )


def code_shares(counts: dict[int, int], pixel_ha: float | None) -> tuple[CodeShare, ...]:
    """Make a histogram of the pixels of each code, and the size of a pixel in hectares where it is known."""
    coded = sum(counts.values())
    return tuple(
        CodeShare(code, pixels, pixels / coded if coded else 0.0, None if pixel_ha is None else pixels * pixel_ha)
        for code, pixels in sorted(counts.items())
    )


def stored_of(rows: Sequence[SqlRow[Any]], layers: Sequence[SqlRow[Any]], codes: Sequence[SqlRow[Any]]) -> list[Stored]:
    """Put rows of `product`, `layer` and `product_code` together, in the order of the first."""
    layers_of: dict[int, list[Layer]] = {row.pk: [] for row in rows}
    for row in layers:
        grid = Grid(row.crs, tuple(row.transform), row.width, row.height)
        layers_of[row.product].append(Layer(row.name, grid, row.data_type, row.sha256, row.size))
    codes_of: dict[int, list[CodeShare]] = {row.pk: [] for row in rows}
    for row in codes:
        codes_of[row.product].append(CodeShare(row.code, row.pixels, row.share, row.hectares))
    footprints = shapely.from_wkb([row.footprint for row in rows])
    return [
        Stored(
            _product(row, footprint),
            tuple(layers_of[row.pk]),
            row.folder,
            row.digest,
            row.classes_sha256,
            tuple(codes_of[row.pk]),
            row.superseded_by,
        )
        for row, footprint in zip(rows, footprints, strict=True)
    ]


def _product(row: SqlRow[Any], footprint: Any) -> Product:  # noqa: ANN401 - a polygon or several
    return Product(
        product_id=row.product_id,
        creation_date=instant(row.creation_date),
        publication_date=instant(row.publication_date),
        product_type=row.product_type,
        cloud_cover=row.cloud_cover,
        footprint=footprint,
        properties=row.properties,
    )


def micros(when: datetime) -> int:
    """Count microseconds since 1970 UTC."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def instant(count: int) -> datetime:
    """Read microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=count)
