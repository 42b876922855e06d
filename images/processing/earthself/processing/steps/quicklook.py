"""A picture of the land-cover map that says what it shows and what it does not, and a thumbnail for each signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from earthself.data import legends
from earthself.data.area import Area
from earthself.data.flags import NOT_CLEAR
from earthself.processing import layout, picture
from earthself.processing.catalog import safe_name
from earthself.processing.errors import BadInput
from earthself.processing.items import declare_extensions, file_fields
from earthself.processing.raster import Grid, gdal, readable
from earthself.processing.step import StepContext, StepResult
from earthself.processing.zones import in_crs, own_area
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac

THUMBNAIL = 256
"""Pixels of the longer side of a thumbnail."""
_MASKS = {
    "scl": "scene classification (SCL)",
    "csmask": "csmask model",
    "none": "NONE",
}


def quicklook(
    ctx: StepContext,
    *,
    title: Annotated[str, "headline of the picture"] = "Land cover",
    warnings: Annotated[tuple[str, ...], "further sentences to show under the map, as a JSON list"] = (),
) -> StepResult:
    """Draw `quicklook.png` of the map in the input catalog (asset `land_cover`), and `<id>.png` of each signature (`segmentation`)."""
    items = ctx.items()
    if not items:
        ctx.write([])
        return StepResult("nothing", "nothing in the input to draw")
    drawn = []
    with gdal():
        for number, item in enumerate(items):
            if "land_cover" in item.assets:
                area = ctx.area() or own_area(item)
                name = "quicklook.png" if len(items) == 1 else f"{safe_name(item.id)}.png"
                path, key, roles = ctx.output / name, "quicklook", ["overview"]
                _map(item, area, path, title, warnings)
            elif "segmentation" in item.assets:
                path, key, roles = _thumbnail(ctx, item), "thumbnail", ["thumbnail"]
            else:
                raise BadInput(f"item {item.id} has neither an asset 'land_cover' nor 'segmentation'; there is nothing to draw")
            drawn.append(_item(item, path, key, roles))
            ctx.progress((number + 1) / len(items), item.id)
    ctx.write(drawn)
    return StepResult(message=f"{len(drawn)} pictures", metrics={"pictures": len(drawn)})


def _map(item: pystac.Item, area: Area, path: Path, title: str, warnings: Sequence[str]) -> None:
    import rasterio

    with readable(f"item {item.id}: land_cover"), rasterio.open(item.assets["land_cover"].href) as dataset:
        grid = Grid.of(dataset)
        if list(dataset.descriptions)[:3] != ["code", "confidence", "observations"]:
            raise BadInput(f"item {item.id}: bands {dataset.descriptions} are not those that the step mosaic writes")
        outline = in_crs(area, grid.crs)
        plan = layout.plan(layout.regions(outline), *picture.MAP, picture.GAP)
        rasters = [_part(dataset, grid, outline, panel.bounds) for panel in plan.panels]
    about = picture.MapPicture(
        title=title,
        subtitle=_subtitle(item, grid),
        notes=_notes(item),
        warnings=[*_said(item), *warnings],
        legend=legends.legend(str(item.properties.get("earthself:legend"))),
        outline=outline,
    )
    picture.draw(path, about, plan, rasters)


def _part(dataset: Any, grid: Grid, outline: Any, bounds: layout.Bounds) -> picture.Thinned:  # noqa: ANN401 (rasterio, shapely)
    """Read what of the map lies within the bounds, thinned."""
    from rasterio.features import geometry_mask
    from rasterio.windows import Window

    (left, upper), (right, lower) = (~grid.transform @ corner for corner in ((bounds[0], bounds[3]), (bounds[2], bounds[1])))
    columns = (max(0, math.floor(left)), min(grid.width, math.ceil(right)))
    rows = (max(0, math.floor(upper)), min(grid.height, math.ceil(lower)))
    window = Window(columns[0], rows[0], max(1, columns[1] - columns[0]), max(1, rows[1] - rows[0]))
    part = grid.window_grid(window)
    shape = picture.thinned_shape((part.height, part.width))
    code, observations = (dataset.read(band, window=window, out_shape=shape) for band in (1, 3))
    transform = part.transform @ part.transform.scale(part.width / shape[1], part.height / shape[0])
    inside = np.asarray(geometry_mask([outline], shape, transform, all_touched=shape == (part.height, part.width), invert=True))
    return picture.Thinned(part, code, observations > 0, inside)


def _thumbnail(ctx: StepContext, item: pystac.Item) -> Path:
    import rasterio

    legend = legends.legend(str(item.properties.get("earthself:legend")))
    with readable(f"item {item.id}: segmentation"), rasterio.open(item.assets["segmentation"].href) as dataset:
        grid = Grid.of(dataset)
        shape = picture.thinned_shape((grid.height, grid.width), THUMBNAIL)
        code = dataset.read(1, out_shape=shape)
    seen: NDArray[np.bool_] = np.ones(shape, np.bool_)
    if "flags" in item.assets:
        with readable(f"item {item.id}: flags"), rasterio.open(item.assets["flags"].href) as dataset:
            seen = (dataset.read(1, out_shape=shape) & NOT_CLEAR) == 0
    path = ctx.output / f"{safe_name(item.id)}.png"
    picture.thumbnail(path, picture.Thinned(grid, code, seen, np.ones(shape, np.bool_)), legend)
    return path


def _item(source: pystac.Item, path: Path, key: str, roles: list[str]) -> pystac.Item:
    import pystac

    item = pystac.Item(source.id, source.geometry, source.bbox, source.datetime, dict(source.properties))
    title = "Picture of the map" if key == "quicklook" else "Thumbnail"
    item.add_asset(key, pystac.Asset(str(path), title, None, pystac.MediaType.PNG, roles, file_fields(path)))
    return declare_extensions(item)


def _subtitle(item: pystac.Item, grid: Grid) -> str:
    start, end = (str(item.properties.get(name) or item.properties.get("datetime"))[:10] for name in ("start_datetime", "end_datetime"))
    dates = start if start == end else f"{start} to {end}"
    products = len(item.properties.get("earthself:products", ()))
    count = f"{products} Sentinel-2 product{'s' * (products != 1)}"
    return f"{dates}   ·   {count}   ·   pixels of {grid.resolution:g} m   ·   {grid.crs}"


def _notes(item: pystac.Item) -> list[str]:
    masks = [_MASKS.get(str(mask), str(mask)) for mask in item.properties.get("earthself:masks", ())]
    level = item.properties.get("earthself:validated_level")
    notes = [f"Cloud mask: {', '.join(masks) or 'not recorded'}"]
    notes += [f"Model: {model}" for model in item.properties.get("earthself:models", ())]
    notes += [f"Validated at CORINE level {level}"] if level else []
    return [*notes, "Mapped area, not an estimate", "Contains modified Copernicus Sentinel data"]


def _said(item: pystac.Item) -> list[str]:
    said = [str(one) for one in item.properties.get("earthself:warnings", ())]
    unseen = 1 - float(item.properties.get("earthself:observed_fraction", 1))
    if unseen > 5e-5:
        said.append(f"{max(unseen, 0.001):.1%} of the area was not observed (clouds, shadows, or no product)")
    nameless = float(item.properties.get("earthself:unclassified_fraction", 0))
    if nameless > 5e-5 and unseen < 1:
        said.append(f"{max(nameless / (1 - unseen), 0.001):.1%} of what was observed got no class")
    return said
