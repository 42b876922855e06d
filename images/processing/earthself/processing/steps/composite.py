"""A cloud-free picture of a period: the median of what was seen clearly, band by band.

Digital numbers stay digital numbers (uint16, 0 is no data); scale and offset stand in the item. Products of different baselines are
brought to one scale by their offset, and the result says so. Rules and reasons: docs/decisions/composite-median.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from earthself.data.sentinel2 import BANDS, SCL
from earthself.processing.compositing import CACHE, MASKED, Recipe, Scene, median_composite
from earthself.processing.errors import BadInput
from earthself.processing.items import declare_extensions, raster_asset, raster_item, rfc3339, sensed_at
from earthself.processing.offsets import Decided, item_offset
from earthself.processing.raster import CogWriter, Grid, check_resolution, gdal, readable
from earthself.processing.signatures import baseline_number, datatake
from earthself.processing.step import StepContext, StepResult

if TYPE_CHECKING:
    import pystac


def composite(
    ctx: StepContext,
    *,
    bands: Annotated[tuple[str, ...], "bands of the composite, in order"] = ("B02", "B03", "B04", "B08", "B11", "B12"),
    resolution: Annotated[float, "pixel size, in units of the CRS"] = 10.0,
    crs: Annotated[str | None, "CRS such as EPSG:32633; default: that of the products, or the area's UTM zone where they differ"] = None,
    mask: Annotated[Literal["scl", "none"], "scl leaves out by scene class; none uses every pixel, clouds included"] = "scl",
    masked: Annotated[tuple[int, ...], "scene classes (SCL) to leave out"] = MASKED,
    offset: Annotated[int | None, "offset to assume for all products, where their metadata are wrong"] = None,
) -> StepResult:
    """Make `composite.tif` of the products in the input catalog (assets by band, and SCL).

    Raises `BadInput` for a product that lacks a band or its scene classification, and what `earthself.data.radiometry` raises where
    the offset of a product cannot be told.
    """
    items = ctx.items()
    if not items:
        ctx.write([])
        return StepResult("nothing", "no product in the input: nothing to combine")
    _check(items, bands, mask, masked)
    path = ctx.output / "composite.tif"
    threads = max(1, int(ctx.cpus))
    with gdal(CACHE):
        offsets = {item.id: item_offset(item, offset) for item in items}
        base = min(offset.value for offset in offsets.values())
        scenes = [_scene(item, bands, mask, offsets[item.id].value - base) for item in items]
        grid = _grid(ctx, items, bands, resolution, crs)
        with CogWriter(path, grid, len(bands), "uint16", 0, categorical=False, descriptions=bands, threads=threads) as cog:
            made = median_composite(Recipe(scenes, bands, masked, threads), cog, ctx.progress)
    warnings = _warnings(items, offsets, mask)
    ctx.write([_item(ctx, items, grid, bands, {"offset": base, "mask": mask, "warnings": warnings})])
    dates = len({scene.datatake for scene in scenes})
    return StepResult(
        message=f"median of {len(items)} products of {dates} datatakes, {made.observed / made.pixels:.1%} of the pixels seen",
        metrics={
            "products": len(items),
            "datatakes": dates,
            "observed_fraction": round(made.observed / made.pixels, 6),
            "tiles_not_read": made.skipped,
            "cpu_seconds_cog": round(cog.copy_seconds, 3),
        },
        warnings=warnings,
    )


def _check(items: Sequence[pystac.Item], bands: Sequence[str], mask: str, masked: Sequence[int]) -> None:
    unknown = [band for band in bands if band not in BANDS]
    if unknown or not bands or len(set(bands)) != len(bands):
        raise BadInput(f"--bands {','.join(bands)}: each once, out of {', '.join(BANDS)}")
    if any(code not in SCL for code in masked):
        raise BadInput(f"--masked {','.join(map(str, masked))}: scene classes go from 0 to 11")
    for item in items:
        missing = [name for name in (*bands, *(["SCL"] if mask == "scl" else [])) if name not in item.assets]
        if missing == ["SCL"]:
            raise BadInput(f"item {item.id} has no scene classification (SCL); leave it out, or use clouds and all with --mask none")
        if missing:
            raise BadInput(f"item {item.id} has no asset {', '.join(missing)}; fetch the product with these bands first")


def _scene(item: pystac.Item, bands: Sequence[str], mask: str, shift: int) -> Scene:
    observation = str(item.properties.get("earthself:observation") or item.id)
    return Scene(
        id=item.id,
        datatake=datatake(observation),
        bands={band: Path(item.assets[band].href) for band in bands},
        classes=Path(item.assets["SCL"].href) if mask == "scl" else None,
        shift=shift,
        rank=(-baseline_number(str(item.properties.get("earthself:baseline") or "")), observation),
    )


def _grid(ctx: StepContext, items: Sequence[pystac.Item], bands: Sequence[str], resolution: float, crs: str | None) -> Grid:
    """The area's grid; without an area the smallest that holds all products."""
    import rasterio
    import shapely
    import shapely.geometry
    from affine import Affine
    from earthself.data.area import Area

    finest = min(bands, key=lambda band: BANDS[band].resolution)
    grids = []
    for item in items:
        with readable(f"item {item.id}: {finest}"), rasterio.open(item.assets[finest].href) as dataset:
            grids.append(Grid.of(dataset))
    shared = {grid.crs for grid in grids}
    crs = crs or (shared.pop() if len(shared) == 1 else None)
    area = ctx.area()
    if area is None and {grid.crs for grid in grids} == {crs}:
        check_resolution(resolution, str(crs))
        left, bottom, right, top = (pick(grid.bounds[side] for grid in grids) for side, pick in enumerate((min, min, max, max)))
        width, height = (max(1, math.ceil(span / resolution - 1e-6)) for span in (right - left, top - bottom))
        return Grid(str(crs), Affine(resolution, 0, left, 0, -resolution, top), width, height)
    if area is None:
        outline = shapely.union_all([shapely.geometry.shape(item.geometry) for item in items])
        area = Area.from_conf(dict(shapely.geometry.mapping(outline)))
    return Grid.for_area(area, resolution, crs)


def _warnings(items: Sequence[pystac.Item], offsets: Mapping[str, Decided], mask: str) -> list[str]:
    from earthself.data.radiometry import mixed_baselines

    said = []
    mixed = mixed_baselines(item.to_dict(include_self_link=False, transform_hrefs=False) for item in items)
    if mixed:
        said.append(mixed)
    counts = Counter(offset.value for offset in offsets.values())
    if len(counts) > 1:
        text = ", ".join(f"{number} with {value}" for value, number in sorted(counts.items()))
        said.append(f"products of different offsets ({text}) were brought to the scale of offset {min(counts)}")
    said += sorted({caution for offset in offsets.values() for caution in offset.cautions})
    if mask == "none":
        said.append("no cloud mask was used: clouds and shadows are part of the median")
    return said


def _item(ctx: StepContext, items: Sequence[pystac.Item], grid: Grid, bands: Sequence[str], facts: dict[str, Any]) -> pystac.Item:
    from earthself.data.radiometry import QUANTIFICATION

    times = sorted(sensed_at(item) for item in items)
    properties = {
        "title": "Median composite",
        "start_datetime": rfc3339(times[0]),
        "end_datetime": rfc3339(times[-1]),
        "earthself:products": sorted(str(item.properties.get("earthself:product") or item.id) for item in items),
        **{f"earthself:{name}": value for name, value in facts.items()},
        "processing:level": "L3",
        "processing:lineage": "median of unmasked values per band; of an even number the mean of the two in the middle, halves up",
    }
    item = raster_item("composite", grid, times[0] if times[0] == times[-1] else None, None, properties)
    described = [
        {
            "name": band,
            "eo:common_name": BANDS[band].common_name,
            "eo:center_wavelength": BANDS[band].wavelength,
            "raster:scale": 1 / QUANTIFICATION,
            "raster:offset": facts["offset"] / QUANTIFICATION,
        }
        for band in bands
    ]
    item.add_asset("composite", raster_asset(ctx.output / "composite.tif", ["data", "reflectance"], "Median composite", bands=described))
    return declare_extensions(item)
