"""Make the signature of each product in one go: fetch, mask and segment, with nothing but scratch files in between."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

from earthself.processing.batch import each_item
from earthself.processing.catalog import safe_name
from earthself.processing.masks import MaskOptions, Method
from earthself.processing.meter import Meter
from earthself.processing.raster import gdal
from earthself.processing.step import StepContext, StepResult
from earthself.processing.steps.fetch import DOWNLOADS, Fetcher, Needs, open_sources
from earthself.processing.steps.mask import mask_scene
from earthself.processing.steps.segment import segment_scene

if TYPE_CHECKING:
    import pystac


def sign(
    ctx: StepContext,
    *,
    model: Annotated[str, "name in the model registry"] = "baseline",
    mask: Annotated[Method, "auto takes SCL where there is one, else csmask; none only when asked for"] = "auto",
    dilate: Annotated[float, "metres by which clouds and shadows grow, 0 to 300"] = 60.0,
    mask_dark: Annotated[bool, "SCL class 2 (dark area) counts as shadow"] = False,
    mask_snow: Annotated[bool, "SCL class 11 (snow or ice) is masked"] = False,
    offset: Annotated[int | None, "what to add to digital numbers, instead of what each product says"] = None,
    retries: Annotated[int, "further attempts after an error that may pass"] = 2,
) -> StepResult:
    """Fetch, mask and segment each product: the signature of what the area needs of it.

    Reads `area.geojson` beside the input catalog, or whole products where there is none. Raises `BadInput` for a model
    or a parameter that no product could be signed with; what goes wrong with one product is listed in `failures.json`.
    """
    from earthself.processing.models import load_model

    threads = max(1, int(ctx.cpus))
    network, options = load_model(model, threads=threads), MaskOptions(mask, dilate, mask_dark, mask_snow)
    options.check_installed()
    needs, area, meter = Needs.of(network.card, options, offset), ctx.area(), Meter()
    with open_sources(ctx) as sources:
        fetcher = Fetcher(needs, area, sources, meter)

        def work(item: pystac.Item) -> pystac.Item | None:
            folder = ctx.scratch / safe_name(item.id)
            try:
                with gdal(), meter.phase("reading"):
                    scene = fetcher.fetch(item, folder)
                if scene is None:
                    return None
                with gdal(), scene:
                    with meter.phase("mask"):
                        found = mask_scene(scene, options, folder, threads=threads)
                    return segment_scene(scene, found, network, ctx.output / safe_name(scene.item.id), meter)
            finally:
                for rest in (folder, ctx.scratch / DOWNLOADS):
                    shutil.rmtree(rest, ignore_errors=True)

        return each_item(ctx, work, meter, retries=retries)
