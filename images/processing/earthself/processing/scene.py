"""A scene is what was fetched of a product: local rasters of the bands that are needed, at their own resolution, and one 10 m grid.

20 m and 60 m bands are brought to 10 m by repeating pixels: every value was measured, a window holds the same pixels as
the whole product would, and it is what models are trained on (docs/decisions/sign-repeats-pixels.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from earthself.processing.errors import BadInput
from earthself.processing.raster import BLOCK, Grid, readable

if TYPE_CHECKING:
    import numpy as np
    import pystac
    from earthself.data.area import Area
    from numpy.typing import NDArray
    from rasterio.windows import Window


@dataclass(frozen=True)
class Place:
    """Where a signature lies in its product; everything in pixels of the product's finest grid (10 m)."""

    product: Grid
    """Grid of the whole product."""
    column: int
    """First column of the signature."""
    row: int
    """First row of the signature."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    rim: int = 0
    """Pixels at those edges of the signature that are not the product's, of which the model could not see all neighbours: no data."""

    @property
    def grid(self) -> Grid:
        """Grid of the signature."""
        return self.product.window_grid(self.window)

    @property
    def inner(self) -> Window:
        """The signature without its rim, as a window of the signature's grid."""
        from rasterio.windows import Window

        left, top = self.rim * (self.column > 0), self.rim * (self.row > 0)
        right = self.rim * (self.column + self.width < self.product.width)
        bottom = self.rim * (self.row + self.height < self.product.height)
        return Window(left, top, self.width - left - right, self.height - top - bottom)

    @property
    def window(self) -> Window:
        """The signature as a window of the product."""
        from rasterio.windows import Window

        return Window(self.column, self.row, self.width, self.height)

    @property
    def whole(self) -> bool:
        """Whether it is the whole product."""
        return (self.column, self.row, self.width, self.height) == (0, 0, self.product.width, self.product.height)

    def grown(self, margin: int) -> tuple[int, int, int, int]:
        """Grow the signature's window, inside the product: first column, first row, width, height."""
        left, top = max(0, self.column - margin), max(0, self.row - margin)
        right, bottom = (
            min(self.product.width, self.column + self.width + margin),
            min(self.product.height, self.row + self.height + margin),
        )
        return left, top, right - left, bottom - top

    def id(self, product_id: str) -> str:
        """Id of the signature (docs/architecture.md)."""
        return product_id if self.whole else f"{product_id}_W{self.column}-{self.row}-{self.width}-{self.height}"

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the property `earthself:place`."""
        t = self.product.transform
        return {
            "window": [self.column, self.row, self.width, self.height],
            "rim": self.rim,
            "product": {
                "crs": self.product.crs,
                "transform": [t.a, t.b, t.c, t.d, t.e, t.f],
                "shape": [self.product.height, self.product.width],
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Place:
        """Rebuild what `to_json` made; raises `BadInput`."""
        from affine import Affine

        try:
            product = value["product"]
            height, width = product["shape"]
            left, top, columns, rows = value["window"]
            return cls(Grid(product["crs"], Affine(*product["transform"]), width, height), left, top, columns, rows, value["rim"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{value!r} does not say where a scene lies in its product; make it with the step fetch") from error


def place_for(product: Grid, area: Area | None, rim: int = 0) -> Place | None:
    """Find the window of `product` that the area needs, aligned to 512-pixel blocks; None where they do not meet.

    The area lies inside the window's rim: a model that looks `rim` pixels around sees all that it needs without a byte of the next block.
    """
    if area is None:
        return Place(product, 0, 0, product.width, product.height, rim)
    bounds = _bounds_on(product, area)
    if bounds is None:
        return None
    left, bottom, right, top = bounds
    t = product.transform
    first_column, last_column = _blocks((left - t.c) / t.a - rim, (right - t.c) / t.a + rim, product.width)
    first_row, last_row = _blocks((top - t.f) / t.e - rim, (bottom - t.f) / t.e + rim, product.height)
    return Place(product, first_column, first_row, last_column - first_column, last_row - first_row, rim)


def _blocks(first: float, last: float, size: int) -> tuple[int, int]:
    start = math.floor(first / BLOCK + 1e-9) * BLOCK
    end = math.ceil(last / BLOCK - 1e-9) * BLOCK
    return max(0, start), min(size, max(end, start + BLOCK))


def _bounds_on(grid: Grid, area: Area) -> tuple[float, float, float, float] | None:
    """Bounds of what of the area lies on the grid, in the grid's CRS; the edges bend as the projection bends them."""
    import shapely
    from pyproj import Transformer

    left, bottom, right, top = grid.bounds
    west, south, east, north = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform_bounds(
        left, bottom, right, top, densify_pts=21
    )
    around = [(west, 180.0), (-180.0, east)] if west > east else [(west, east)]
    near = shapely.union_all([shapely.box(w - 0.1, south - 0.1, e + 0.1, north + 0.1) for w, e in around])
    part = shapely.intersection(area.geometry, near)
    if part.is_empty:
        return None
    to_grid = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    outline = shapely.transform(shapely.segmentize(part, 0.01), lambda x, y: to_grid.transform(x, y, errcheck=True), interleaved=False)
    met = shapely.intersection(shapely.make_valid(outline), shapely.box(left, bottom, right, top))
    return None if met.area == 0 else tuple(float(value) for value in met.bounds)  # type: ignore[return-value]


def is_l1c(item: pystac.Item) -> bool:
    """Whether a product, or what was made of it, is top-of-atmosphere reflectance (L1C) rather than surface reflectance (L2A)."""
    said = [item.properties.get(name) for name in ("processing:level", "earthself:collection", "earthself:product")]
    return "L1C" in next((str(text).upper() for text in said if text), item.id.upper())


@dataclass(frozen=True)
class Scene:
    """The fetched part of one product."""

    item: pystac.Item
    """The product's properties, those of docs/architecture.md, and an asset for each fetched band (local files)."""
    place: Place
    """Where the signature lies in the product."""
    _open: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, item: pystac.Item) -> Scene:
        """Take an item that `fetch` wrote; raises `BadInput` for any other."""
        if "earthself:place" not in item.properties:
            raise BadInput(f"item {item.id} has no property earthself:place; it must come from the step fetch")
        return cls(item, Place.from_json(item.properties["earthself:place"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    @property
    def grid(self) -> Grid:
        """The signature's grid."""
        return self.place.grid

    @property
    def product_id(self) -> str:
        """Id of the product."""
        return str(self.item.properties["earthself:product"])

    def has(self, band: str) -> bool:
        """Whether the band was fetched."""
        return band in self.item.assets

    def ratio(self, band: str) -> int:
        """How many 10 m pixels a pixel of the band is wide."""
        return round(float(self._dataset(band).transform.a) / self.grid.resolution)

    def extent(self, band: str) -> tuple[int, int, int, int]:
        """Say what was fetched of the band: first column, first row, width, height in 10 m pixels of the product."""
        dataset, ratio, origin = self._dataset(band), self.ratio(band), self.place.product.transform
        return (
            round((dataset.transform.c - origin.c) / origin.a),
            round((dataset.transform.f - origin.f) / origin.e),
            dataset.width * ratio,
            dataset.height * ratio,
        )

    def read(self, band: str, window: Window, margin: int = 0) -> NDArray[Any]:
        """Read `window` of the signature's grid, `margin` 10 m pixels wider on each side, at 10 m; 0 where nothing was fetched."""
        first_column, first_row = self.place.column + int(window.col_off) - margin, self.place.row + int(window.row_off) - margin
        return self.read_product(band, first_column, first_row, int(window.width) + 2 * margin, int(window.height) + 2 * margin)

    def read_product(self, band: str, column: int, row: int, width: int, height: int) -> NDArray[Any]:
        """Read a window given in 10 m pixels of the product, at 10 m; 0 where nothing was fetched."""
        ratio, (left, top, _, _) = self.ratio(band), self.extent(band)
        c0, r0 = math.floor((column - left) / ratio), math.floor((row - top) / ratio)
        c1, r1 = math.ceil((column + width - left) / ratio), math.ceil((row + height - top) / ratio)
        native = self._clipped(band, c0, r0, c1, r1)
        if ratio == 1:
            return native
        dc, dr = column - left - c0 * ratio, row - top - r0 * ratio
        return native.repeat(ratio, 0).repeat(ratio, 1)[dr : dr + height, dc : dc + width]

    def reflectance(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Turn digital numbers of this product into reflectance, NaN where there are no data."""
        from earthself.data.radiometry import to_reflectance

        made: NDArray[np.float32] = to_reflectance(numbers, self.item.properties["earthself:offset"])
        return made

    def _clipped(self, band: str, c0: int, r0: int, c1: int, r1: int) -> NDArray[Any]:
        """Read native pixels, 0 outside of the file."""
        import numpy as np
        from rasterio.windows import Window

        dataset = self._dataset(band)
        ic0, ir0, ic1, ir1 = max(c0, 0), max(r0, 0), min(c1, dataset.width), min(r1, dataset.height)
        inside = ic1 > ic0 and ir1 > ir0
        if inside and (ic0, ir0, ic1, ir1) == (c0, r0, c1, r1):
            whole: NDArray[Any] = dataset.read(1, window=Window(c0, r0, c1 - c0, r1 - r0))
            return whole
        out = np.zeros((r1 - r0, c1 - c0), dataset.dtypes[0])
        if inside:
            out[ir0 - r0 : ir1 - r0, ic0 - c0 : ic1 - c0] = dataset.read(1, window=Window(ic0, ir0, ic1 - ic0, ir1 - ir0))
        return out

    def _dataset(self, band: str) -> Any:  # noqa: ANN401 (a rasterio dataset, which has no types)
        if band not in self._open:
            import rasterio

            asset = self.item.assets.get(band)
            if asset is None:
                raise BadInput(f"{band} of {self.product_id} was not fetched; run fetch with the same --model and --mask")
            with readable(f"{band} of {self.product_id}"):
                self._open[band] = rasterio.open(asset.href)
        return self._open[band]
