"""One land-cover map of an area from the signatures of many products: a vote of all clear observations, pixel by pixel.

The raster covers the bounding box of the area in the map's CRS; pixels that the area does not touch have code 0 and no observations.
Rules and reasons: docs/decisions/mosaic-vote.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from earthself.data import legends
from earthself.data.flags import NODATA, NOT_CLEAR
from earthself.processing import voting
from earthself.processing.errors import BadInput
from earthself.processing.items import declare_extensions, raster_asset, raster_item, rfc3339, sensed_at
from earthself.processing.placing import pixel_m2
from earthself.processing.raster import CogWriter, Grid, gdal, windows
from earthself.processing.signatures import Files, Signature, common_legend, datatake, open_signatures
from earthself.processing.step import StepContext, StepResult
from earthself.processing.zones import Zone
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from earthself.data.area import Area
    from rasterio.windows import Window

WINDOW = 512
"""Side of the windows in pixels: with 44 classes the votes on one take 70 MB."""


def mosaic(
    ctx: StepContext,
    *,
    resolution: Annotated[float, "pixel size of the map, in units of its CRS"] = 10.0,
    crs: Annotated[str | None, "CRS of the map such as EPSG:32633; default: UTM zone of the area's centroid"] = None,
    legend: Annotated[str | None, "clc:1, clc:2 or clc:3; default: the signatures' own"] = None,
) -> StepResult:
    """Make `land_cover.tif` (bands code, confidence, observations, agreement) of the signatures in the input catalog.

    Raises `BadInput` for signatures without the layers, on different legends, or with a code that their legend lacks.
    """
    items = ctx.items()
    if not items:
        ctx.write([])
        return StepResult("nothing", "no signature in the input: nothing to make a map of")
    legend_id = legend or common_legend(items)
    area = ctx.area() or _area_of(items)
    grid = Grid.for_area(area, resolution, crs)
    path = ctx.output / "land_cover.tif"
    with (
        gdal(),
        CogWriter(path, grid, len(voting.BANDS), "uint16", 0, categorical=True, descriptions=voting.BANDS, threads=_threads(ctx)) as cog,
    ):
        signatures = open_signatures(items, grid, legend_id)
        seen = _vote(ctx, signatures, Zone.of(area, grid), cog)
    share = seen.observed / seen.total
    item = _item(ctx, grid, area, items, legend_id)
    item.properties["earthself:observed_fraction"] = round(share, 6)
    item.properties["earthself:unclassified_fraction"] = round(seen.unclassified / seen.total, 6)
    ctx.write([item], **{"area.geojson": area.geojson})
    return StepResult(
        message=f"{len(items)} signatures of {item.properties['earthself:datatakes']} datatakes cover {share:.1%} of the area",
        metrics={
            "signatures": len(items),
            "pixels": grid.width * grid.height,
            "observed_fraction": round(share, 6),
            "cpu_seconds_cog": round(cog.copy_seconds, 3),
        },
        warnings=item.properties["earthself:warnings"],
    )


@dataclass
class _Seen:
    """Square metres of the area."""

    total: float = 0.0
    observed: float = 0.0
    unclassified: float = 0.0
    """Observed, but without a class."""

    def add(self, bands: NDArray[np.uint16], m2: NDArray[np.float64]) -> None:
        """Count a window; `m2` is the size of the area within each pixel."""
        observed = bands[2] > 0
        self.total += float(m2.sum())
        self.observed += float(m2[observed].sum())
        self.unclassified += float(m2[observed & (bands[0] == 0)].sum())


def _vote(ctx: StepContext, signatures: Sequence[Signature], zone: Zone, cog: CogWriter) -> _Seen:
    """Fill the map window by window; returns how much of the area was observed."""
    todo = list(windows(zone.grid, WINDOW))
    seen = _Seen()
    with Files() as files:
        for done, window in enumerate(todo):
            mask = zone.touched(window)
            if mask.any():
                bands = voted(signatures, zone.grid, window, files)
                bands[:, ~mask] = 0
                cog.write(bands, window)
                seen.add(bands, zone.coverage(window) * pixel_m2(zone.grid, window))
            ctx.progress((done + 1) / (len(todo) + 1), f"{done + 1} of {len(todo)} windows")
    return seen


def voted(signatures: Sequence[Signature], grid: Grid, window: Window, files: Files) -> NDArray[np.uint16]:
    """Vote on one window; `signatures` sorted by datatake and rank. Returns `voting.BANDS` as (4, rows, columns).

    Of one datatake only the first signature that is clear on a pixel counts there: tiles and UTM zones overlap, and the same look from
    space must not vote twice.
    """
    vote = voting.Vote((int(window.height), int(window.width)))
    here = grid.window_grid(window)
    for _, group in groupby((one for one in signatures if one.touches(here)), key=lambda one: one.datatake):
        code, confidence = np.zeros(vote.shape, np.uint16), np.zeros(vote.shape, np.uint8)
        clear = np.zeros(vote.shape, np.bool_)
        for one in group:
            new = ((files.read(one, "flags", window, outside=NODATA) & NOT_CLEAR) == 0) & ~clear
            codes = files.codes(one, window)
            if new.any():
                code[new] = codes[new]
                confidence[new] = files.read(one, "confidence", window, outside=0)[new]
                clear |= new
        vote.add(code, confidence, clear)
    return vote.result()


def _item(ctx: StepContext, grid: Grid, area: Area, items: Sequence[pystac.Item], legend_id: str) -> pystac.Item:
    own = legends.legend(legend_id)
    made_of = _provenance(items)
    starts = sorted(sensed_at(item) for item in items)
    properties: dict[str, Any] = {
        "title": "Land cover",
        "start_datetime": rfc3339(starts[0]),
        "end_datetime": rfc3339(starts[-1]),
        "earthself:legend": legend_id,
        "earthself:validated_level": min(own.level, *(int(i.properties.get("earthself:validated_level") or own.level) for i in items)),
        "earthself:products": sorted(str(item.properties.get("earthself:product") or item.id) for item in items),
        "earthself:signatures": sorted(item.id for item in items),
        "earthself:datatakes": len({datatake(str(item.properties["earthself:observation"])) for item in items}),
        **made_of,
        "earthself:warnings": _warnings(items, legend_id),
        "processing:lineage": "vote of all clear observations, weighted by confidence; one vote a datatake and pixel",
    }
    when = starts[0] if starts[0] == starts[-1] else None
    item = raster_item("land_cover", grid, when, area.geojson, properties)
    asset = raster_asset(
        ctx.output / "land_cover.tif",
        ["data"],
        "Land cover",
        bands=(
            {"name": "code", "description": f"CORINE Land Cover code, legend {legend_id}; 0 has no class", "raster:sampling": "area"},
            {"name": "confidence", "description": "mean confidence of the votes for the class", "unit": "%", "nodata": None},
            {
                "name": "observations",
                "description": "clear observations, with or without a class; 0 is unobserved or outside the area",
                "nodata": None,
            },
            {"name": "agreement", "description": "share of the clear observations that voted for the class", "unit": "%", "nodata": None},
        ),
        legend=own,
    )
    item.add_asset("land_cover", asset)
    return declare_extensions(item)


def _provenance(items: Sequence[pystac.Item]) -> dict[str, list[str]]:
    names = {
        "earthself:models": "earthself:model",
        "earthself:masks": "earthself:mask",
        "earthself:preprocessings": "earthself:preprocessing",
    }
    return {plural: sorted({str(item.properties[one]) for item in items if item.properties.get(one)}) for plural, one in names.items()}


def _warnings(items: Sequence[pystac.Item], legend_id: str) -> list[str]:
    said = []
    masks = Counter(str(item.properties.get("earthself:mask")) for item in items)
    if masks.get("none"):
        said.append(f"no cloud mask was used for {masks['none']} of {len(items)} products: clouds may be mapped as land cover")
    models = {str(item.properties.get("earthself:model")) for item in items}
    if len(models) > 1:
        said.append(f"the signatures come from {len(models)} models: {', '.join(sorted(models))}")
    own = {str(item.properties.get("earthself:legend")) for item in items}
    if own != {legend_id}:
        said.append(f"signatures of {', '.join(sorted(own))} were generalised to {legend_id}")
    said += sorted({str(caution) for item in items for caution in item.properties.get("earthself:cautions") or ()})
    return said


def _area_of(items: Sequence[pystac.Item]) -> Area:
    """Without an area of interest the map covers the footprints of the signatures."""
    import shapely
    import shapely.geometry
    from earthself.data.area import Area

    shapes = [shapely.geometry.shape(item.geometry) for item in items if item.geometry]
    if not shapes:
        raise BadInput("neither area.geojson beside the input catalog nor a geometry in its items says what to map; add one of them")
    return Area.from_conf(dict(shapely.geometry.mapping(shapely.union_all(shapes))))


def _threads(ctx: StepContext) -> int:
    return max(1, int(ctx.cpus))
