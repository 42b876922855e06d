"""Which offset a fetched product carries: what `earthself.data.radiometry` needs to decide it, gathered from the scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from earthself.data.errors import NotThere
from earthself.data.items import METADATA, PRODUCT

if TYPE_CHECKING:
    import pystac
    from earthself.data.radiometry import Offset
    from earthself.data.sources import Sources
    from earthself.processing.scene import Scene
    from rasterio.windows import Window

_DARK_TARGETS = ("B02", "B03", "B04", "B08", "B11", "B12")
_SIDE = 256
_MOST = 5


def offset_of(scene: Scene, item: pystac.Item, sources: Sources, stated: int | None) -> Offset:
    """Decide the offset by metadata, table and pixels; `stated` is what a person says, or None.

    Raises `earthself.data.radiometry.RadiometryDisagrees` (exit 65) where they differ.
    """
    from earthself.data import radiometry

    product = item.to_dict(include_self_link=False, transform_hrefs=False)
    evidence = radiometry.look_at_pixels(*_sample(scene))
    return radiometry.resolve_offset(product, metadata=_metadata(product, sources), evidence=evidence, override=stated)


def _metadata(product: dict[str, Any], sources: Sources) -> bytes | None:
    """Read the product's own metadata document, unless the catalogue's flag decides anyway and the request can be spared."""
    flagged = any(name.endswith(":boa_offset_applied") for name in product["properties"])
    if flagged or not {METADATA, PRODUCT} & set(product["assets"]):
        return None
    try:
        return sources.metadata(product)
    except NotThere:
        return None


def _sample(scene: Scene) -> tuple[dict[str, Any], Any]:
    """Digital numbers and SCL of up to 25 windows of 256 pixels, spread evenly: enough for a percentile, whatever the scene's size."""
    import numpy as np

    windows = list(_spread(scene.place.width, scene.place.height))
    numbers = {band: np.concatenate([scene.read(band, window).ravel() for window in windows]) for band in _DARK_TARGETS if scene.has(band)}
    scl = np.concatenate([scene.read("SCL", window).ravel() for window in windows]) if scene.has("SCL") else None
    return numbers, scl


def _spread(width: int, height: int) -> Iterator[Window]:
    from rasterio.windows import Window

    for row, rows in _pieces(height):
        for column, columns in _pieces(width):
            yield Window(column, row, columns, rows)


def _pieces(size: int) -> list[tuple[int, int]]:
    """Cut an axis into at most five pieces of at most 256 pixels, at equal distances; all of it where that is no more."""
    if size <= _SIDE * _MOST:
        return [(start, min(_SIDE, size - start)) for start in range(0, size, _SIDE)]
    return [(round(index * (size - _SIDE) / (_MOST - 1)), _SIDE) for index in range(_MOST)]
