"""Find clouds and shadows of fetched products, and write them as flag bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from earthself.processing.batch import each_item
from earthself.processing.catalog import safe_name
from earthself.processing.masks import Mask, MaskOptions, open_mask
from earthself.processing.meter import Meter
from earthself.processing.raster import CogWriter, gdal, windows
from earthself.processing.scene import Scene
from earthself.processing.step import StepContext, StepResult

if TYPE_CHECKING:
    import pystac

ASSET = "mask"
"""Key of the flag bits that this step adds to a fetched item."""
WINDOW = 1024
"""Side of the windows that are worked on, pixels: about 100 MB with ten bands."""


def mask(
    ctx: StepContext,
    *,
    dilate: Annotated[float, "metres by which clouds and shadows grow, 0 to 300"] = 60.0,
    mask_dark: Annotated[bool, "SCL class 2 (dark area) counts as shadow"] = False,
    mask_snow: Annotated[bool, "SCL class 11 (snow or ice) is masked"] = False,
) -> StepResult:
    """Mask clouds and shadows of what `fetch` left, by the mask that it was fetched for; the second part of `sign`."""
    options, meter = MaskOptions("auto", dilate, mask_dark, mask_snow), Meter()

    def work(item: pystac.Item) -> pystac.Item:
        with Scene.of(item) as scene, gdal(), meter.phase("mask"):
            found = mask_scene(scene, options, ctx.scratch, threads=max(1, int(ctx.cpus)))
            path = ctx.output / f"{safe_name(item.id)}.mask.tif"
            _write(found, scene, path)
        return _with_mask(item, path)

    return each_item(ctx, work, meter, retries=0)


def mask_scene(scene: Scene, options: MaskOptions, scratch: Path, *, threads: int = 1) -> Mask:
    """Make the mask that the scene was fetched for, and record in the scene's item what it is."""
    own = MaskOptions(scene.item.properties["earthself:mask"], options.dilate, options.dark, options.snow)
    found = open_mask(own, scene, scratch, threads)
    scene.item.properties["earthself:preprocessing"] = own.preprocessing
    if found.version:
        scene.item.properties["earthself:mask_model"] = found.version
    return found


def _write(found: Mask, scene: Scene, path: Path) -> None:
    with CogWriter(path, scene.grid, 1, "uint8", None, categorical=True, descriptions=("flags",)) as cog:
        for window in windows(scene.grid, WINDOW):
            cog.write(found.read(window), window)


def _with_mask(item: pystac.Item, path: Path) -> pystac.Item:
    import pystac

    item.add_asset(
        ASSET, pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=["data", "cloud", "cloud-shadow"], title="Flag bits")
    )
    return item
