"""From what was sent to what a store keeps: the rasters of one product, made in a folder, and all that its row will say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import rasterio
from earthself.data.area import Area
from earthself.signature import geobuf, rasters, vectors
from earthself.signature.errors import BadSignature
from earthself.signature.filters import check_legend
from earthself.signature.product import Product
from earthself.signature.rasters import Layer
from earthself.signature.rows import Stored, code_shares

V1_LAYERS = ("segmentation", "cloud_mask")
"""What every product has."""
CLASSES = "classes.geobuf"
"""File of the polygons that a product came as."""


def made_of_rasters(product: Product, sources: Mapping[str, Path], folder: Path) -> Stored:
    """Make a product of GeoTIFFs, layer by layer; the folder of the row is not known yet. Raises `BadSignature`."""
    missing = [name for name in V1_LAYERS if name not in sources]
    if missing:
        raise BadSignature(f"{missing[0]} is missing; send a GeoTIFF ({rasters.LAYERS[missing[0]].meaning})")
    # One environment for all files, since GDAL's is costly to make; and what lies beside a file says nothing about it.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        layers = tuple(rasters.store_layer(sources[name], name, folder) for name in sorted(sources))
    _check_together(product, layers)
    return _finished(product, layers, None)


def made_of_classes(product: Product, classes: list[vectors.ClassPolygon], folder: Path) -> Stored:
    """Make a product of polygons, with the rasters that v1 readers get; scratch files beside the folder. Raises `BadSignature`."""
    if "legend" in product.properties:
        check_legend(product.properties["legend"], {c.category for c in classes})
    if not any(product.footprint.intersects(c.geometry) for c in classes):
        raise BadSignature(f"product {product.product_id}: no polygon lies in its footprint; send theirs, or none")
    drawn = {name: folder.with_name(f"drawn-{name}") for name in V1_LAYERS}
    vectors.rasterize_classes(classes, drawn["segmentation"], drawn["cloud_mask"])
    layers = tuple(rasters.store_layer(drawn[name], name, folder) for name in sorted(V1_LAYERS))
    # A polygon smaller than a pixel has no pixels, but its category is found all the same.
    none = dict.fromkeys((c.category for c in classes), 0)
    layers = tuple(replace(layer, counts=none | layer.counts) if layer.name == "segmentation" else layer for layer in layers)
    features = [c.feature(product.product_id) for c in classes]
    collection = vectors.collection(product.product_id, product.properties, features)
    (folder / CLASSES).write_bytes(geobuf.encode(collection).SerializeToString())
    return _finished(product, layers, vectors.classes_digest(classes))


def _finished(product: Product, layers: tuple[Layer, ...], classes_sha256: str | None) -> Stored:
    """Put together what the row will say; the folder is not known yet."""
    segmentation = next(layer for layer in layers if layer.name == "segmentation")
    codes = code_shares(segmentation.counts, segmentation.grid.pixel_ha)
    return Stored(product, layers, "", product.digest(), classes_sha256, codes)


def _check_together(product: Product, layers: tuple[Layer, ...]) -> None:
    first = next(layer for layer in layers if layer.name == "segmentation")
    for layer in layers:
        if layer.grid != first.grid:
            raise BadSignature(f"{layer.name} has {layer.grid}, but segmentation has {first.grid}; send all layers on the same grid")
    if "legend" in product.properties:
        check_legend(product.properties["legend"], first.counts)
    covered = Area.from_conf(first.grid.outline()).geometry.intersection(product.footprint).area / product.footprint.area
    if covered < 0.5:
        raise BadSignature(
            f"the rasters ({first.grid}) cover {100 * covered:.0f} % of the product's footprint; "
            "check their CRS, transform and size, and that the footprint is longitude, latitude"
        )
