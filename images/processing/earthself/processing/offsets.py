"""Which offset a product carries: what `earthself.data.radiometry` needs to decide it, gathered from a scene or from files on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earthself.data.errors import NotThere
from earthself.data.items import METADATA, PRODUCT

if TYPE_CHECKING:
    import pystac
    from earthself.data.radiometry import Offset, PixelEvidence
    from earthself.data.sources import Sources
    from earthself.processing.scene import Scene
    from rasterio.windows import Window

_DARK_TARGETS = ("B02", "B03", "B04", "B08", "B11", "B12")
_SIDE = 256
_MOST = 5
_THINNED = 512
"""Pixels a side of the thinned copy of a file on disk that is looked at."""


@dataclass(frozen=True)
class Decided:
    """The offset of one product."""

    value: int
    """To be added to digital numbers that are not 0."""
    source: str
    """Who says it."""
    cautions: Sequence[str] = ()
    """What a reader of the result must know: that no pixel could confirm it."""

    @classmethod
    def of(cls, offset: Offset, evidence: PixelEvidence, stated: int | None) -> Decided:
        """Take what the witnesses agreed on, and say where the pixels kept silent; what a person stated needs no witness."""
        silent = stated is None and evidence.value is None
        caution = f"no dark pixels confirm the offset {offset.value} that products state; if it is wrong, their reflectance is off by 0.1"
        return cls(offset.value, offset.source, (caution,) if silent else ())


def offset_of(scene: Scene, item: pystac.Item, sources: Sources, stated: int | None) -> Decided:
    """Decide the offset by metadata, table and pixels; `stated` is what a person says, or None.

    Raises `earthself.data.radiometry.RadiometryDisagrees` (exit 65) where they differ.
    """
    from earthself.data import radiometry

    product = item.to_dict(include_self_link=False, transform_hrefs=False)
    evidence = radiometry.look_at_pixels(*_sample(scene))
    found = radiometry.resolve_offset(product, metadata=_metadata(product, sources), evidence=evidence, override=stated)
    return Decided.of(found, evidence, stated)


def item_offset(item: pystac.Item, stated: int | None = None) -> Decided:
    """Decide the offset of an item with assets by band, as fetching found it, or by its metadata held against its own dark pixels.

    Raises what `earthself.data.radiometry.resolve_offset` raises where it cannot be told, or where two witnesses disagree.
    """
    from earthself.data import radiometry

    known = item.properties.get("earthself:offset")
    if stated is None and isinstance(known, int):
        return Decided(known, str(item.properties.get("earthself:offset_source")), item.properties.get("earthself:cautions") or ())
    evidence = radiometry.look_at_pixels(*_thinned(item))
    product = item.to_dict(include_self_link=False, transform_hrefs=False)
    return Decided.of(radiometry.resolve_offset(product, evidence=evidence, override=stated), evidence, stated)


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


def _thinned(item: pystac.Item) -> tuple[dict[str, Any], Any]:
    """Bands and scene classes, thinned to the same number of pixels."""
    import rasterio
    from earthself.processing.raster import nodata_to_zero, readable

    present = [name for name in (*_DARK_TARGETS, "SCL") if name in item.assets]
    read: dict[str, Any] = {}
    shape = None
    for name in present:
        with readable(f"item {item.id}: {name}"), rasterio.open(item.assets[name].href) as dataset:
            shape = shape or (min(_THINNED, dataset.height), min(_THINNED, dataset.width))
            read[name] = dataset.read(1, out_shape=shape)
            nodata_to_zero(read[name], dataset.nodata)
    classes = read.pop("SCL", None)
    return read, classes
