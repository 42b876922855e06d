"""Classify fetched and masked products with a model, and write their signatures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from earthself.data.flags import CLOUD, NODATA, NOT_CLEAR
from earthself.processing.batch import each_item
from earthself.processing.catalog import safe_name
from earthself.processing.errors import BadInput
from earthself.processing.folders import removed_on_error
from earthself.processing.masks import Mask
from earthself.processing.meter import Meter
from earthself.processing.raster import BLOCK, CogWriter, Grid, gdal, windows
from earthself.processing.scene import Scene
from earthself.processing.step import StepContext, StepResult
from earthself.processing.steps.mask import ASSET, WINDOW

if TYPE_CHECKING:
    import pystac
    from earthself.processing.models import Model
    from numpy.typing import NDArray
    from rasterio.windows import Window

_ONLY_SCENE = ("earthself:place", "datetime")


def segment(ctx: StepContext, *, model: Annotated[str, "name in the model registry"] = "baseline") -> StepResult:
    """Classify what `mask` left and write signatures (segmentation, confidence, flags, cloud mask); the last part of `sign`."""
    from earthself.processing.models import load_model

    network, meter = load_model(model, threads=max(1, int(ctx.cpus))), Meter()

    def work(item: pystac.Item) -> pystac.Item:
        with Scene.of(item) as scene, gdal():
            return segment_scene(scene, _RasterMask(scene), network, ctx.output / safe_name(item.id), meter)

    return each_item(ctx, work, meter, retries=0)


def segment_scene(scene: Scene, mask: Mask, model: Model, folder: Path, meter: Meter) -> pystac.Item:
    """Write the signature of one scene into `folder` and describe it (docs/architecture.md, "A signature").

    A pixel is nodata when any band of the model is, or when the model cannot see all of its neighbours; what is masked is not shown to
    the model and has code 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = np.zeros(256, np.int64)
    with removed_on_error(folder), _Rasters.open(folder, scene.grid, model) as rasters:
        for window in windows(scene.grid, WINDOW):
            with meter.phase("pixels"):
                flags, reflectance = _look(scene, mask, model, window)
            with meter.phase("inference"):
                codes, confidence = _classify(model, reflectance, flags)
            with meter.phase("writing"):
                rasters.write(codes, confidence, flags, window)
            seen += np.bincount(flags.ravel(), minlength=256)
            meter.add("pixels", flags.size)
        with meter.phase("writing"):
            rasters.close()
    with meter.phase("writing"):
        return _signature(scene, model, folder, seen)


def _look(scene: Scene, mask: Mask, model: Model, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read the flags of the window before the model has spoken, and reflectance with the model's context around it."""
    margin = model.card.context
    numbers = np.stack([scene.read(band, window, margin) for band in model.card.bands])
    reflectance = scene.reflectance(numbers)
    missing = numbers.min(axis=0) == 0
    rows, columns = int(window.height), int(window.width)
    flags = mask.read(window)
    flags[missing[margin : margin + rows, margin : margin + columns] | _on_rim(scene, window)] |= NODATA
    return flags, reflectance


def _on_rim(scene: Scene, window: Window) -> NDArray[np.bool_]:
    """Pixels of the window whose neighbours lie in blocks that were not read; the model cannot speak about them."""
    inner, first_row, first_column = scene.place.inner, int(window.row_off), int(window.col_off)
    rows, columns = np.arange(first_row, first_row + int(window.height)), np.arange(first_column, first_column + int(window.width))
    inside_rows = (rows >= inner.row_off) & (rows < inner.row_off + inner.height)
    inside_columns = (columns >= inner.col_off) & (columns < inner.col_off + inner.width)
    outside: NDArray[np.bool_] = ~(inside_rows[:, None] & inside_columns[None, :])
    return outside


def _classify(model: Model, reflectance: NDArray[np.float32], flags: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Codes and confidence of the window; adds the model's bits to `flags`."""
    margin = model.card.context
    rows, columns = flags.shape
    inner = (slice(margin, margin + rows), slice(margin, margin + columns))
    valid = np.zeros(reflectance.shape[1:], np.bool_)
    valid[inner] = (flags & NOT_CLEAR) == 0
    if not valid.any():
        return np.zeros(flags.shape, np.uint16), np.zeros(flags.shape, np.uint8)
    said = model.predict(reflectance, valid)
    flags |= said.flags[inner]
    return said.codes[inner], said.confidence[inner]


@dataclass
class _Rasters:
    """The four rasters of a signature while they are written."""

    stack: contextlib.ExitStack
    segmentation: CogWriter
    confidence: CogWriter
    flags: CogWriter
    cloud_mask: Any

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, grid: Grid, model: Model) -> Iterator[_Rasters]:
        from earthself.data import legends

        colors = legends.legend(model.card.legend).colors()
        with contextlib.ExitStack() as stack:
            yield cls(
                stack,
                stack.enter_context(
                    CogWriter(folder / "segmentation.tif", grid, 1, "uint16", 0, categorical=True, descriptions=("code",), colors=colors)
                ),
                stack.enter_context(
                    CogWriter(folder / "confidence.tif", grid, 1, "uint8", None, categorical=False, descriptions=("confidence",))
                ),
                stack.enter_context(CogWriter(folder / "flags.tif", grid, 1, "uint8", None, categorical=True, descriptions=("flags",))),
                stack.enter_context(_one_bit(folder / "cloud_mask.tif", grid)),
            )

    def write(self, codes: NDArray[np.uint16], confidence: NDArray[np.uint8], flags: NDArray[np.uint8], window: Window) -> None:
        self.segmentation.write(codes, window)
        self.confidence.write(confidence, window)
        self.flags.write(flags, window)
        self.cloud_mask.write(((flags & CLOUD) != 0).astype(np.uint8), 1, window=window)

    def close(self) -> None:
        """Finish the files here, so that the copies to COG are counted as writing."""
        self.stack.close()


def _one_bit(path: Path, grid: Grid) -> Any:  # noqa: ANN401 (a rasterio dataset, which has no types)
    import rasterio

    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=grid.width,
        height=grid.height,
        count=1,
        dtype="uint8",
        nbits=1,
        crs=grid.crs,
        transform=grid.transform,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        compress="DEFLATE",
    )


class _RasterMask:
    """The flag bits that the step `mask` wrote."""

    version = ""

    def __init__(self, scene: Scene) -> None:
        if not scene.has(ASSET) or "earthself:preprocessing" not in scene.item.properties:
            raise BadInput(f"item {scene.item.id} has no asset {ASSET!r}; run the step mask on what fetch left, then segment")
        self._scene = scene

    def read(self, window: Window) -> NDArray[np.uint8]:
        flags: NDArray[np.uint8] = self._scene.read(ASSET, window)
        return flags


def _signature(scene: Scene, model: Model, folder: Path, seen: NDArray[np.int64]) -> pystac.Item:
    from earthself.data import legends
    from earthself.processing.items import declare_extensions, raster_asset, raster_item

    card, total = model.card, int(seen.sum())
    clear = int(sum(count for flags, count in enumerate(seen) if not flags & NOT_CLEAR))
    missing = int(sum(count for flags, count in enumerate(seen) if flags & NODATA))
    kept = {name: value for name, value in scene.item.properties.items() if name not in _ONLY_SCENE}
    properties = kept | {
        "earthself:model": model.id,
        "earthself:legend": card.legend,
        "earthself:validated_level": card.validated_level,
        "earthself:clear_fraction": round(clear / (total - missing), 6) if total > missing else 0.0,
        "earthself:nodata_fraction": round(missing / total, 6),
    }
    seasonal = card.cautions(scene.item.datetime.month) if scene.item.datetime else ()
    if cautions := [*kept.get("earthself:cautions", ()), *seasonal]:
        properties["earthself:cautions"] = cautions
    item = raster_item(scene.item.id, scene.grid, scene.item.datetime, _footprint(scene), properties)
    legend = legends.legend(card.legend)
    bits = "bits: 1 nodata, 2 cloud, 4 shadow, 8 snow, 16 outside the training, 32 no class that the model can emit, 64 water by rule"
    for key, roles, title, more in (
        ("segmentation", ["data"], f"CORINE Land Cover codes, {card.legend}; 0 has no class", {"legend": legend}),
        ("confidence", ["metadata"], "Confidence of the code, 0 to 100", {"bands": [{"unit": "%"}]}),
        ("flags", ["metadata", "cloud", "cloud-shadow", "snow-ice"], "What was seen and what was not", {"description": bits}),
        ("cloud_mask", ["metadata", "cloud"], "1 is cloud", {}),
    ):
        item.add_asset(key, raster_asset(folder / f"{key}.tif", roles, title, **more))
    return declare_extensions(item)


def _footprint(scene: Scene) -> dict[str, Any] | None:
    """Cut the product's footprint to the signature's window without its rim, or take the window's outline where the product has none."""
    import shapely
    import shapely.geometry

    if scene.item.geometry is None or scene.place.whole:
        return scene.item.geometry
    from earthself.processing.items import raster_item

    outline = shapely.geometry.shape(
        raster_item("outline", scene.grid.window_grid(scene.place.inner), scene.item.datetime, None, {}).geometry
    )
    met = shapely.intersection(shapely.make_valid(shapely.geometry.shape(scene.item.geometry)), outline)
    parts = [part for part in getattr(met, "geoms", [met]) if part.geom_type in {"Polygon", "MultiPolygon"} and part.area > 0]
    if not parts:
        return dict(shapely.geometry.mapping(outline))
    return dict(shapely.geometry.mapping(shapely.set_precision(shapely.union_all(parts), 1e-7)))
