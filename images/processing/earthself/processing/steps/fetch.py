"""Get of each product the bands and the window that a signature needs, checked and hashed, as local rasters."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import numpy as np
from earthself.data.errors import NotThere
from earthself.data.items import PRODUCT
from earthself.data.manifest import plain_address
from earthself.processing.batch import each_item
from earthself.processing.catalog import safe_name
from earthself.processing.errors import BadInput
from earthself.processing.folders import removed_on_error
from earthself.processing.hashing import PixelHash, strips
from earthself.processing.masks import MaskOptions, Method, needed
from earthself.processing.meter import Meter
from earthself.processing.offsets import offset_of
from earthself.processing.raster import BLOCK, Grid, gdal, nodata_to_zero
from earthself.processing.scene import Place, Scene, place_for
from earthself.processing.step import StepContext, StepResult

if TYPE_CHECKING:
    import pystac
    from earthself.data.area import Area
    from earthself.data.sources import BandReader, Sources
    from earthself.processing.models import ModelCard

DOWNLOADS = "downloads"
"""Folder below the scratch folder for whole products of providers that cannot be read in parts."""
_SIDE_BY_SIDE = 4
"""Bands that are read at the same time."""
_T = TypeVar("_T")
_RASTER_PREFIXES = ("proj:", "raster:", "file:")


@dataclass(frozen=True)
class Needs:
    """What a signature needs of a product."""

    bands: tuple[str, ...]
    """The model's bands."""
    context: int
    """10 m pixels around a pixel that change what the model says of it."""
    mask: MaskOptions
    """How clouds are found; decided for each product."""
    offset: int | None = None
    """Offset to use whatever the product says, or None."""

    @classmethod
    def of(cls, card: ModelCard, mask: MaskOptions, offset: int | None = None) -> Needs:
        """Combine a model's card, a mask and what a person states about the offset."""
        return cls(card.bands, card.context, mask, offset)


def fetch(
    ctx: StepContext,
    *,
    model: Annotated[str, "model whose bands are fetched"] = "baseline",
    mask: Annotated[Method, "mask that is to be used; csmask reads further around the window"] = "auto",
    offset: Annotated[int | None, "what to add to digital numbers, instead of what each product says"] = None,
    retries: Annotated[int, "further attempts after an error that may pass"] = 2,
) -> StepResult:
    """Fetch the bands and the window that the model and the area need of each product; the first part of `sign`."""
    from earthself.processing.models import load_card

    needs, area, meter = Needs.of(load_card(model), MaskOptions(mask), offset), ctx.area(), Meter()
    with open_sources(ctx) as sources:
        fetcher = Fetcher(needs, area, sources, meter, compress=True)

        def work(item: pystac.Item) -> pystac.Item | None:
            with gdal(), meter.phase("reading"):
                scene = fetcher.fetch(item, ctx.output / safe_name(item.id))
            return None if scene is None else scene.item

        return each_item(ctx, work, meter, retries=retries)


def open_sources(ctx: StepContext) -> Sources:
    """Open the configured providers for a step; whole products that must be downloaded go to its scratch folder."""
    from earthself.data.sources import SourceConfig, Sources

    return Sources(SourceConfig.from_env(), downloads=ctx.scratch / DOWNLOADS)


@dataclass(frozen=True)
class Fetcher:
    """Reads what signatures need of products."""

    needs: Needs
    """What is read."""
    area: Area | None
    """Where; None reads whole products."""
    sources: Sources
    """Opens bands."""
    meter: Meter
    """Counts bytes."""
    compress: bool = False
    """Whether the local rasters are compressed; scratch files of `sign` are not."""

    def fetch(self, item: pystac.Item, folder: Path) -> Scene | None:
        """Read one product into `folder`, from another provider where its own fails; None where the area does not touch it.

        Raises `BadInput` for a product without the bands or with bands that do not lie on one grid, and what the
        provider's access or the radiometry raise, of the first provider where all fail; then nothing is left in the folder.
        """
        import pystac

        own = item.to_dict(include_self_link=False, transform_hrefs=False)
        return self.sources.anywhere(own, lambda found: self._fetch(item if found is own else pystac.Item.from_dict(dict(found)), folder))

    def _fetch(self, item: pystac.Item, folder: Path) -> Scene | None:
        """Read one product from its provider."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(removed_on_error(folder))
            source = stack.enter_context(_Product(item, self.sources))
            mask = self.needs.mask.resolved(source.has)
            readers = source.open(tuple(dict.fromkeys((*self.needs.bands, *mask.bands))))
            product = _product_grid(item.id, readers)
            place = place_for(product, self.area, self.needs.context)
            if place is None:
                return None
            extra = needed(mask, source.has, place)
            readers |= source.open(extra.bands)
            _check_grid(item.id, readers, product)
            folder.mkdir(parents=True, exist_ok=True)
            paths = {band: folder / f"{band}.tif" for band in readers}

            def copy(band: str) -> dict[str, Any]:
                wanted = [place.grown(0)] * (band in self.needs.bands) + [extra.window] * (band in extra.bands)
                copied = _copy(readers[band], product, _around(wanted), paths[band], compress=self.compress)
                return copied | _named(item, band)

            inputs = source.side_by_side(copy, list(readers))
            for reader in readers.values():
                self.meter.add("bytes_read", reader.bytes_read)
            scene = Scene.of(_item(item, place, mask, inputs, paths))
            with scene:
                found = offset_of(scene, item, self.sources, self.needs.offset)
            scene.item.properties |= {"earthself:offset": found.value, "earthself:offset_source": found.source}
            if found.cautions:
                scene.item.properties["earthself:cautions"] = list(found.cautions)
        return scene


class _Product:
    """The bands of one product, opened when they are asked for, and worked on side by side: providers answer slowly, not little.

    Each band has a thread of its own, in which it is opened, read and closed: GDAL dies when a file that reads through Python is closed
    in another thread than the one that opened it (rasterio 1.4).
    """

    def __init__(self, item: pystac.Item, sources: Sources) -> None:
        self._item = item.to_dict(include_self_link=False, transform_hrefs=False)
        self._sources = sources
        self._open: dict[str, BandReader] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._slots = threading.BoundedSemaphore(_SIDE_BY_SIDE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        wait([self._threads[band].submit(reader.close) for band, reader in self._open.items()])
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)

    def open(self, bands: Sequence[str]) -> dict[str, BandReader]:
        """Open bands; the first one alone, since a product that is one archive is downloaded then."""
        missing = [band for band in bands if band not in self._open]
        for some in (missing[:1], missing[1:]):
            self.side_by_side(self._open_one, some)
        return {band: self._open[band] for band in bands}

    def has(self, band: str) -> bool:
        """Whether there is such a band; a product that is one archive has to be opened to know."""
        if band in self._item["assets"] or PRODUCT not in self._item["assets"]:
            return band in self._item["assets"]
        try:
            self.open([band])
        except NotThere:
            return False
        return True

    def side_by_side(self, work: Callable[[str], _T], bands: Sequence[str]) -> list[_T]:
        """Do `work` for several bands at once, each in its thread; the first error is raised when none is worked on any more."""

        def in_turn(band: str) -> _T:
            with self._slots:
                return work(band)

        futures = [self._threads.setdefault(band, ThreadPoolExecutor(1)).submit(in_turn, band) for band in bands]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _open_one(self, band: str) -> None:
        self._open[band] = self._sources.open_band(self._item, band)


def _product_grid(product: str, readers: dict[str, BandReader]) -> Grid:
    """Take the grid of the finest band as the product's."""
    finest = min(readers.values(), key=lambda reader: abs(reader.transform.a))
    if finest.transform.b or finest.transform.d or finest.transform.a <= 0 or finest.transform.e >= 0:
        raise BadInput(f"the bands of product {product} are not north-up (transform {tuple(finest.transform)[:6]}); warp them first")
    return Grid(_crs(finest), finest.transform, finest.shape[1], finest.shape[0])


def _check_grid(product: str, readers: dict[str, BandReader], grid: Grid) -> None:
    for band, reader in readers.items():
        ratio = reader.transform.a / grid.resolution
        whole = (
            round(ratio) >= 1
            and math.isclose(ratio, round(ratio), rel_tol=1e-6)
            and math.isclose(reader.transform.e, -reader.transform.a, rel_tol=1e-6)
        )
        corner = max(abs(reader.transform.c - grid.transform.c), abs(reader.transform.f - grid.transform.f))
        rows, columns = reader.shape[0] * ratio, reader.shape[1] * ratio
        fits = grid.height <= rows < grid.height + ratio and grid.width <= columns < grid.width + ratio
        if np.dtype(reader.dtype).kind not in "ui":
            raise BadInput(
                f"{band} of product {product} holds {reader.dtype}, not the digital numbers that the provider's offset belongs to"
            )
        if _crs(reader) != grid.crs or not whole or corner > 0.01 * grid.resolution or not fits:
            raise BadInput(
                f"{band} of product {product} ({_crs(reader)}, {reader.transform.a:g} m, {reader.shape[1]} x {reader.shape[0]}) is not on "
                f"the product's grid ({grid.crs}, {grid.resolution:g} m, {grid.width} x {grid.height}): bands need one corner "
                "and pixel sizes in whole ratios"
            )


def _crs(reader: BandReader) -> str:
    code = reader.crs.to_epsg()
    return f"EPSG:{code}" if code else str(reader.crs.to_wkt())


def _around(wanted: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    left, top = min(each[0] for each in wanted), min(each[1] for each in wanted)
    return left, top, max(each[0] + each[2] for each in wanted) - left, max(each[1] + each[3] for each in wanted) - top


def _copy(reader: BandReader, product: Grid, wanted: tuple[int, int, int, int], path: Path, *, compress: bool) -> dict[str, Any]:
    """Copy the band's pixels under a window (10 m pixels of the product) to a tiled GeoTIFF and hash them, in strips."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    ratio = round(reader.transform.a / product.resolution)
    left, top = wanted[0] // ratio, wanted[1] // ratio
    width = min(reader.shape[1], -(-(wanted[0] + wanted[2]) // ratio)) - left
    height = min(reader.shape[0], -(-(wanted[1] + wanted[3]) // ratio)) - top
    size: dict[str, Any] = {"width": width, "height": height, "count": 1, "dtype": reader.dtype, "nodata": 0}
    place = {"crs": reader.crs, "transform": reader.transform @ Affine.translation(left, top)}
    layout: dict[str, Any] = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "bigtiff": "IF_SAFER"}
    if compress:
        layout |= {"compress": "ZSTD", "zstd_level": 1}
    digest = PixelHash()
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **layout) as dataset:
        for row, pixels in strips(reader, left, top, width, height):
            digest.update(pixels)
            nodata_to_zero(pixels, reader.nodata)
            dataset.write(pixels, 1, window=Window(0, row - top, width, len(pixels)))
    item_size = np.dtype(reader.dtype).itemsize
    return {"sha256": digest.hexdigest(), "bytes": width * height * item_size, "window": [left, top, width, height]}


def _named(item: pystac.Item, band: str) -> dict[str, str]:
    """Name the source of a band without what may be a secret in its address."""
    return {"asset": band, "href": plain_address((item.assets.get(band) or item.assets[PRODUCT]).href)}


def _item(item: pystac.Item, place: Place, mask: MaskOptions, inputs: list[dict[str, Any]], paths: dict[str, Path]) -> pystac.Item:
    import pystac

    kept = {name: value for name, value in item.properties.items() if not name.startswith(_RASTER_PREFIXES) and name != "datetime"}
    properties = kept | {
        "earthself:product": item.id,
        "earthself:place": place.to_json(),
        "earthself:mask": mask.method,
        "earthself:inputs": sorted(inputs, key=lambda each: str(each["asset"])),
    }
    made = pystac.Item(place.id(item.id), item.geometry, item.bbox, item.datetime, properties)
    for band, path in paths.items():
        made.add_asset(band, pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF, roles=["data"], title=band))
    return made
