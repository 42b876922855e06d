"""Hectares per class of a land-cover map within the area of interest: rows that add up to the area's geodesic size.

Each pixel counts with the share that the area covers of it, times its true size on the ellipsoid. Reasons: docs/decisions/area-by-pixel.md.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from earthself.data import legends
from earthself.data.area import Area
from earthself.processing import areas
from earthself.processing.areas import NO_CLASS, NOTE, UNOBSERVED, Row, Sample
from earthself.processing.errors import BadInput, ProcessingError
from earthself.processing.items import declare_extensions, file_fields, raster_item
from earthself.processing.placing import pixel_m2
from earthself.processing.raster import Grid, gdal, readable, windows
from earthself.processing.samples import Place, read_places
from earthself.processing.step import StepContext, StepResult
from earthself.processing.zones import Zone, own_area
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from rasterio.windows import Window

WINDOW = 1024
TOLERANCE = 1e-4
"""Largest share by which the rows may miss the area's geodesic size."""


def zonal_statistics(ctx: StepContext) -> StepResult:
    """Write `statistics.parquet` and `statistics.csv` for the one map in the input catalog and its `area.geojson`.

    With `validation_samples.geojson` (points with `code`) or `.csv` (`lon,lat,code`) in the input folder, the areas are error-adjusted
    estimates with a 95 % interval; the samples must be a random sample within each mapped class.
    """
    items = ctx.items()
    if not items:
        ctx.write([])
        return StepResult("nothing", "no map in the input: nothing to measure")
    item, source = _the_map(items)
    area = ctx.area() or own_area(item)
    legend_id = str(item.properties.get("earthself:legend") or "")
    places = read_places(ctx.input, legend_id)
    with gdal(), _Map.open(source) as land_cover:
        found = _hectares(ctx, land_cover, area)
        samples, warnings = _on_map(places, land_cover, found)
    total = area.geodesic_m2 / 1e4
    _check_sum(found.values(), total, f"map the area in a CRS that is valid for all of it, not {land_cover.grid.crs}")
    rows, unestimated = _rows(found, samples, legend_id)
    warnings += unestimated
    missed = _check_sum((row.hectares for row in rows), total, "leave out the validation samples, and report this fault of the step")
    estimated = any(row.low is not None for row in rows)
    observed = 1 - next(row.share for row in rows if row.code == UNOBSERVED)
    facts = {"observed_fraction": round(observed, 6), "area_km2": area.geodesic_m2 / 1e6}
    note = f"error-adjusted estimates of {len(samples)} samples with 95 % intervals" if estimated else NOTE
    _write(ctx.output, rows, {"note": note, "legend": legend_id, **{name: str(value) for name, value in facts.items()}})
    ctx.write([_item(ctx, item, area, land_cover.grid, {**facts, "note": note})], **{"area.geojson": area.geojson})
    metrics = {**facts, "rows": len(rows), "missed_share": missed, "samples": len(samples)}
    return StepResult(message=f"{total:.2f} ha, {observed:.1%} observed; {note}", metrics=metrics, warnings=warnings)


@dataclass(frozen=True)
class _Map:
    """An open land-cover raster."""

    grid: Grid
    dataset: Any
    code: int
    """Band of the codes."""
    observations: int
    """Band of the number of observations."""

    @classmethod
    def open(cls, path: Path) -> _Map:
        import rasterio

        with readable(path):
            dataset = rasterio.open(path)
        names = list(dataset.descriptions)
        if "code" not in names or "observations" not in names:
            raise BadInput(f"{path.name} has the bands {names}; statistics need 'code' and 'observations', as the step mosaic writes them")
        return cls(Grid.of(dataset), dataset, names.index("code") + 1, names.index("observations") + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dataset.close()

    def classes(self, window: Window, grid: Grid) -> NDArray[np.int32]:
        """Codes at a window of `grid` (the map's own pixels, perhaps more of them); -1 where nothing was observed or the map ends."""
        from rasterio.windows import Window as Rectangle

        right = round((grid.transform.c - self.grid.transform.c) / self.grid.transform.a) + int(window.col_off)
        down = round((grid.transform.f - self.grid.transform.f) / self.grid.transform.e) + int(window.row_off)
        out = np.full((int(window.height), int(window.width)), UNOBSERVED, np.int32)
        top, left = max(0, -down), max(0, -right)
        bottom = min(out.shape[0], self.grid.height - down)
        end = min(out.shape[1], self.grid.width - right)
        if bottom > top and end > left:
            part = Rectangle(right + left, down + top, end - left, bottom - top)
            with readable(self.dataset.name):
                code, seen = self.dataset.read([self.code, self.observations], window=part)
            out[top:bottom, left:end] = np.where(seen > 0, code.astype(np.int32), UNOBSERVED)
        return out

    def at(self, lon: float, lat: float) -> int:
        """Code at a point; -1 outside the map or unobserved."""
        from pyproj import Transformer
        from rasterio.windows import Window as Rectangle

        x, y = Transformer.from_crs("EPSG:4326", self.grid.crs, always_xy=True).transform(lon, lat)
        if not (math.isfinite(x) and math.isfinite(y)):
            return UNOBSERVED
        column, row = ~self.grid.transform @ (x, y)
        return int(self.classes(Rectangle(math.floor(column), math.floor(row), 1, 1), self.grid)[0, 0])


def _hectares(ctx: StepContext, land_cover: _Map, area: Area) -> dict[int, float]:
    zone = Zone.of(area, land_cover.grid).extended()
    sums: dict[int, list[float]] = {UNOBSERVED: [], NO_CLASS: []}
    todo = list(windows(zone.grid, WINDOW))
    for done, window in enumerate(todo):
        share = zone.coverage(window)
        if share.any():
            weight = (share * pixel_m2(zone.grid, window)).ravel() / 1e4
            codes, where = np.unique(land_cover.classes(window, zone.grid).ravel(), return_inverse=True)
            for code, hectares in zip(codes.tolist(), np.bincount(where, weights=weight).tolist(), strict=True):
                sums.setdefault(code, []).append(hectares)
        ctx.progress((done + 1) / (len(todo) + 1), f"{done + 1} of {len(todo)} windows")
    return {code: math.fsum(parts) for code, parts in sorted(sums.items()) if code <= NO_CLASS or math.fsum(parts) > 0}


def _rows(found: Mapping[int, float], samples: Sequence[Sample], legend_id: str) -> tuple[list[Row], list[str]]:
    legend = legends.legend(legend_id)
    total = math.fsum(found.values())
    names = {UNOBSERVED: "Unobserved", NO_CLASS: "Observed, no class"}
    mapped = {code: hectares for code, hectares in found.items() if code > NO_CLASS}
    if any(sample.mapped == NO_CLASS for sample in samples):
        mapped[NO_CLASS] = found[NO_CLASS]
    thin = areas.thin_strata(mapped, samples)
    warnings = []
    estimates: dict[int, areas.Estimate] = {}
    if samples and thin:
        text = ", ".join(names.get(code) or legend.name(code) for code in thin)
        warnings.append(f"areas are mapped, not estimated: fewer than two validation samples on {text}")
    elif samples:
        estimates = areas.adjusted(mapped, samples)
    rows = []
    for code in (*sorted((set(found) | set(estimates)) - {UNOBSERVED, NO_CLASS}), NO_CLASS, UNOBSERVED):
        name = names.get(code) or legend.name(code)
        if code in estimates:
            hectares = estimates[code].hectares
            rows.append(Row(code, name, hectares, hectares / total, *estimates[code].interval, mapped=found.get(code, 0.0)))
        else:
            rows.append(Row(code, name, found[code], found[code] / total))
    return rows, warnings


def _on_map(places: Sequence[Place] | None, land_cover: _Map, found: Mapping[int, float]) -> tuple[list[Sample], list[str]]:
    """Say what the map calls each place; those that it cannot judge are left out and counted in a warning."""
    if places is None:
        return [], []
    samples = [Sample(land_cover.at(place.lon, place.lat), place.code) for place in places]
    used = [sample for sample in samples if sample.mapped != UNOBSERVED and found.get(sample.mapped, 0) > 0]
    if not samples:
        return [], ["the file of validation samples holds none: areas are mapped, not estimated"]
    if len(used) < len(samples):
        lost = len(samples) - len(used)
        return used, [f"{lost} of {len(samples)} validation samples lie outside the area or where nothing was observed, and were not used"]
    return used, []


def _check_sum(hectares: Iterable[float], total: float, what_to_do: str) -> float:
    """Return by which share the rows miss the area's size; raises where it is more than `TOLERANCE`."""
    found = math.fsum(hectares)
    missed = abs(found - total) / total
    if missed > TOLERANCE:
        raise ProcessingError(
            f"the classes add up to {found:.4f} ha, the area has {total:.4f} ha: more than {TOLERANCE:.2%} apart; {what_to_do}"
        )
    return missed


def _write(folder: Path, rows: Sequence[Row], metadata: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {
        "code": [row.code for row in rows],
        "name": [row.name for row in rows],
        "hectares": [row.hectares for row in rows],
        "share": [row.share for row in rows],
    }
    types = {"code": pa.int32(), "name": pa.string()}
    if any(row.low is not None for row in rows):
        columns |= {
            "hectares_low": [r.low for r in rows],
            "hectares_high": [r.high for r in rows],
            "hectares_mapped": [r.mapped for r in rows],
        }
    table = pa.table({name: pa.array(values, types.get(name, pa.float64())) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata(dict(metadata)), folder / "statistics.parquet")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    (folder / "statistics.csv").write_text(text.getvalue(), encoding="utf-8")


def _item(ctx: StepContext, land_cover: pystac.Item, area: Area, grid: Grid, facts: Mapping[str, Any]) -> pystac.Item:
    import pystac

    kept = {
        name: value
        for name, value in land_cover.properties.items()
        if name.startswith("earthself:") or name in {"start_datetime", "end_datetime"}
    }
    new = {"title": "Land-cover statistics", **{f"earthself:{name}": value for name, value in facts.items()}}
    item = raster_item("statistics", grid, land_cover.datetime, area.geojson, {**kept, **new})
    for name, kind, title in (
        ("statistics.parquet", "application/vnd.apache.parquet", "Hectares per class"),
        ("statistics.csv", "text/csv", "Hectares per class (CSV)"),
    ):
        path = ctx.output / name
        item.add_asset(path.suffix.lstrip("."), pystac.Asset(str(path), title, None, kind, ["data"], file_fields(path)))
    return declare_extensions(item)


def _the_map(items: Sequence[pystac.Item]) -> tuple[pystac.Item, Path]:
    if len(items) != 1:
        raise BadInput(f"{len(items)} items in the input; statistics are those of one map, never a sum over products: run mosaic first")
    asset = items[0].assets.get("land_cover")
    if asset is None:
        raise BadInput(f"item {items[0].id} has no asset 'land_cover'; statistics are made of what the step mosaic writes")
    return items[0], Path(asset.href)
