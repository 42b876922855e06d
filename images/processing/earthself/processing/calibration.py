"""Which offset a product on disk carries: what fetching found out, or else its metadata held against its own dark pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pystac

_SIDE = 512
"""Pixels a side of the thinned copy that is looked at."""
_DARK_TARGETS = ("B02", "B03", "B04", "B08", "B11", "B12")


def item_offset(item: pystac.Item, stated: int | None = None) -> int:
    """Return what to add to the digital numbers of an item with assets by band; `stated` is what a person says.

    Raises what `earthself.data.radiometry.resolve_offset` raises where it cannot be told, or where two witnesses disagree.
    """
    from earthself.data import radiometry

    known = item.properties.get("earthself:offset")
    if stated is None and isinstance(known, int):
        return known
    evidence = radiometry.look_at_pixels(*_sample(item))
    product = item.to_dict(include_self_link=False, transform_hrefs=False)
    return int(radiometry.resolve_offset(product, evidence=evidence, override=stated).value)


def _sample(item: pystac.Item) -> tuple[dict[str, Any], Any]:
    """Bands and scene classes, thinned to the same number of pixels."""
    import rasterio
    from earthself.processing.raster import nodata_to_zero, readable

    present = [name for name in (*_DARK_TARGETS, "SCL") if name in item.assets]
    read: dict[str, Any] = {}
    shape = None
    for name in present:
        with readable(f"item {item.id}: {name}"), rasterio.open(item.assets[name].href) as dataset:
            shape = shape or (min(_SIDE, dataset.height), min(_SIDE, dataset.width))
            read[name] = dataset.read(1, out_shape=shape)
            nodata_to_zero(read[name], dataset.nodata)
    classes = read.pop("SCL", None)
    return read, classes
