"""Products as rows of the tables, and rows as products.

Bulk ingest makes rows in other processes, so that they are plain tuples in the order of the columns, which cost next to nothing to move.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import shapely
from earthself.signature.product import Product, Said
from earthself.signature.rasters import Grid, Layer
from sqlalchemy.engine import Row as SqlRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
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
CODE_COLUMNS = ("code", "pixels", "share", "hectares")
BOX_COLUMNS = ("west", "east", "south", "north", "first", "last")
_NAME, _DIGEST = PRODUCT_COLUMNS.index("product_id"), PRODUCT_COLUMNS.index("digest")
CREATED = PRODUCT_COLUMNS.index("creation_date")
"""Where a product's row has its acquisition."""


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


class Rows(NamedTuple):
    """What the tables hold of some products, but for the keys: other rows begin with the number of their product here, from 0."""

    products: list[tuple[Any, ...]]
    """In the order of `PRODUCT_COLUMNS`, properties as JSON text, the footprint as WKB (little endian)."""
    layers: list[tuple[Any, ...]]
    """In the order of `LAYER_COLUMNS`."""
    codes: list[tuple[Any, ...]]
    """In the order of `CODE_COLUMNS`."""
    boxes: list[tuple[Any, ...]]
    """Of the footprints' parts, in the order of `BOX_COLUMNS`."""

    @property
    def names(self) -> list[str]:
        """The products' ids."""
        return [product[_NAME] for product in self.products]

    @property
    def digests(self) -> list[str]:
        """Of id, footprint and properties."""
        return [product[_DIGEST] for product in self.products]

    def only(self, chosen: Sequence[int]) -> Rows:
        """Give the rows of these products."""
        number = {before: after for after, before in enumerate(chosen)}
        others = ([(number[row[0]], *row[1:]) for row in rows if row[0] in number] for rows in self[1:])
        return Rows([self.products[at] for at in chosen], *others)


def rows_of(stored: Sequence[Stored], now: datetime) -> Rows:
    """Make the rows of products that are stored now."""
    made = Rows([], [], [], [])
    for number, one in enumerate(stored):
        product, footprint = one.product, one.product.footprint
        after = (one.classes_sha256, one.folder, micros(now), one.superseded_by)
        made.products.append(product_row(product, shapely.to_wkb(footprint, byte_order=1), one.digest, after))
        made.layers.extend((number, *row) for row in layer_rows(one.layers))
        made.codes.extend((number, *code) for code in one.codes)
        created = micros(product.creation_date)
        made.boxes.extend(box_row(number, part.bounds, created) for part in getattr(footprint, "geoms", [footprint]))
    return made


def product_row(said: Product | Said, wkb: bytes, digest: str, after: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make the row of a product; `after` is what `PRODUCT_COLUMNS` has after the digest."""
    created, published = micros(said.creation_date), micros(said.publication_date)
    return (said.product_id, created, published, said.product_type, said.cloud_cover, said.text, wkb, digest, *after)


def box_row(number: int, bounds: Sequence[float], created: int) -> tuple[Any, ...]:
    """Make the row of one part of a footprint; west, south, east, north in degrees."""
    west, south, east, north = bounds
    day = created / _DAY
    return number, west, east, south, north, day, day


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
    return (when - _EPOCH) // _MICROSECOND


def instant(count: int) -> datetime:
    """Read microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=count)
