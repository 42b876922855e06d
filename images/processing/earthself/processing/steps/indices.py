"""Spectral indices of products or composites: by name out of spyndex's catalogue, or by a formula of one's own.

Computed on reflectance, window by window; the result is float32 with NaN where a band has no data, a mask hides the pixel, or the formula
has no finite value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from earthself.data.radiometry import QUANTIFICATION
from earthself.data.sentinel2 import BANDS
from earthself.processing.catalog import safe_name
from earthself.processing.compositing import MASKED
from earthself.processing.errors import BadInput
from earthself.processing.formulas import Formula
from earthself.processing.items import declare_extensions, raster_asset, raster_item
from earthself.processing.offsets import item_offset
from earthself.processing.placing import Placement, take
from earthself.processing.raster import CogWriter, Grid, gdal, nodata_to_zero, readable, windows
from earthself.processing.step import StepContext, StepResult
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from rasterio.windows import Window

WINDOW = 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True)
class _Band:
    """Where the reflectance of a band comes from."""

    path: Path
    index: int
    """Band of the file."""
    scale: float
    offset: float
    """Reflectance = scale * digital number + offset."""


def indices(
    ctx: StepContext,
    *,
    names: Annotated[tuple[str, ...], "indices of spyndex, such as NDVI,NDWI"] = (),
    formulas: Annotated[dict[str, str], 'formulas by name, such as {"moisture": "(B08 - B11) / (B08 + B11)"}'] = {},  # noqa: B006 (read only)
    mask: Annotated[Literal["auto", "scl", "none"], "auto hides clouds and shadows where there is a scene classification"] = "auto",
    offset: Annotated[int | None, "offset to assume for all products, where their metadata are wrong"] = None,
) -> StepResult:
    """Write one COG for each index and item. Raises `BadInput` for an unknown index or band, or a formula that is not one."""
    wanted = _wanted(names, formulas)
    items = ctx.items()
    if not items:
        ctx.write([])
        return StepResult("nothing", "nothing in the input to compute indices of")
    made, warnings = [], []
    with gdal():
        for number, item in enumerate(items):
            masked = _is_masked(item, mask)
            if not masked and mask != "none" and "SCL" not in item.assets and "composite" not in item.assets:
                warnings.append(f"{item.id} has no scene classification: its clouds are part of the indices")
            one, cautions = _item(ctx, item, wanted, offset, masked=masked)
            made.append(one)
            warnings += [f"{item.id}: {caution}" for caution in cautions]
            ctx.progress((number + 1) / len(items), item.id)
    ctx.write(made)
    message = f"{', '.join(wanted)} of {len(made)} items"
    return StepResult(message=message, metrics={"items": len(made), "indices": len(wanted)}, warnings=warnings)


def _wanted(names: Sequence[str], formulas: Mapping[str, str]) -> dict[str, Formula]:
    bands = {name: name for name in BANDS}
    found = {}
    if not names and not formulas:
        raise BadInput("no index was asked for; name some with --names NDVI,NDWI or give --formulas as JSON")
    for name, text in formulas.items():
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name[:60]!r} cannot be an index's name; use up to 40 letters, digits and underscores, a letter first")
        found[name] = Formula.parse(text, bands)
    for name in names:
        if name in found:
            raise BadInput(f"index {name} is asked for by name and as a formula; give the formula another name")
        found[name] = _catalogued(name)
    return found


def _catalogued(name: str) -> Formula:
    """Take a formula out of spyndex, with Sentinel-2's bands and wavelengths and the catalogue's own constants."""
    import spyndex

    if name not in spyndex.indices:
        near = difflib.get_close_matches(name, list(spyndex.indices), 3, 0.4)
        raise BadInput(f"{name[:60]!r} is no index of spyndex{': did you mean ' + ', '.join(near) + '?' if near else ''}")
    bands, constants = {}, {}
    for letter, band in spyndex.bands.items():
        if getattr(band, "sentinel2a", None):
            number = re.fullmatch(r"B(\d+)(A?)", band.sentinel2a.band)
            if number:
                bands[letter] = f"B{int(number[1]):02d}" if not number[2] else f"B{number[1]}A"
    for letter, constant in spyndex.constants.items():
        if constant.default is not None:
            constants[letter] = float(constant.default)
    constants |= {f"lambda{letter}": BANDS[band].wavelength * 1000 for letter, band in bands.items()}
    try:
        return Formula.parse(spyndex.indices[name].formula, bands, constants)
    except BadInput as error:
        raise BadInput(f"index {name} cannot be computed from Sentinel-2 bands alone: {error}") from error


def _is_masked(item: pystac.Item, mask: str) -> bool:
    if mask == "scl" and "SCL" not in item.assets:
        raise BadInput(f"item {item.id} has no scene classification (SCL); leave it out, or use clouds and all with --mask none")
    return mask != "none" and "SCL" in item.assets


def _item(
    ctx: StepContext, item: pystac.Item, wanted: Mapping[str, Formula], offset: int | None, *, masked: bool
) -> tuple[pystac.Item, Sequence[str]]:
    """Write the indices of one item; returns its description and what a reader must know of its offset."""
    import rasterio

    needed = sorted({band for formula in wanted.values() for band in formula.bands})
    sources = {band: _source(item, band) for band in needed}
    if any(source is None for source in sources.values()):
        lacking = ", ".join(band for band, source in sources.items() if source is None)
        raise BadInput(f"item {item.id} has no band {lacking}; fetch the product with it, or leave out what needs it")
    present = {band: source for band, source in sources.items() if source is not None}
    cautions: Sequence[str] = ()
    if any(source.scale == 0 for source in present.values()):
        decided = item_offset(item, offset)
        cautions = decided.cautions
        value = decided.value / QUANTIFICATION
        present = {b: s if s.scale else _Band(s.path, s.index, 1 / QUANTIFICATION, value) for b, s in present.items()}
    finest = min(needed, key=lambda band: BANDS[band].resolution)
    with readable(f"item {item.id}: {finest}"), rasterio.open(present[finest].path) as dataset:
        grid = Grid.of(dataset)
    folder = ctx.output / safe_name(item.id)
    folder.mkdir()
    paths = {name: folder / f"{name}.tif" for name in wanted}
    classes = Path(item.assets["SCL"].href) if masked else None
    _compute(wanted, paths, present, classes, grid)
    return _described(item, wanted, paths, grid, masked=masked), cautions


def _source(item: pystac.Item, band: str) -> _Band | None:
    """An asset of the band's name (scale 0: still to be decided), or a band of that name in an asset that states its scale."""
    if band in item.assets:
        return _Band(Path(item.assets[band].href), 1, 0, 0)
    for asset in item.assets.values():
        for index, known in enumerate(asset.extra_fields.get("bands", ()), start=1):
            if known.get("name") == band and "raster:scale" in known:
                return _Band(Path(asset.href), index, float(known["raster:scale"]), float(known.get("raster:offset", 0)))
    return None


def _compute(
    wanted: Mapping[str, Formula], paths: Mapping[str, Path], sources: Mapping[str, _Band], classes: Path | None, grid: Grid
) -> None:
    import contextlib

    import rasterio

    with contextlib.ExitStack() as stack:
        with readable("a band or the scene classification"):
            files = {path: stack.enter_context(rasterio.open(path)) for path in {source.path for source in sources.values()}}
            scl = stack.enter_context(rasterio.open(classes)) if classes else None
        cogs = {
            name: stack.enter_context(CogWriter(path, grid, 1, "float32", float("nan"), categorical=False, descriptions=[name]))
            for name, path in paths.items()
        }
        places = {path: Placement(Grid.of(dataset), grid) for path, dataset in files.items()}
        for window in windows(grid, WINDOW):
            hidden = np.isin(_numbers(scl, Placement(Grid.of(scl), grid), window, 1), MASKED) if scl else None
            values = {
                band: _reflectance(_numbers(files[source.path], places[source.path], window, source.index), source, hidden)
                for band, source in sources.items()
            }
            for name, formula in wanted.items():
                cogs[name].write(formula.evaluate(values), window)


def _numbers(dataset: Any, place: Placement, window: Window, band: int) -> NDArray[Any]:  # noqa: ANN401 (a rasterio dataset)
    """Digital numbers at a window of the grid; 0 where the source has no data."""
    with readable(dataset.name):
        numbers = take(dataset, place, window, outside=0, band=band)
    nodata_to_zero(numbers, dataset.nodatavals[band - 1])
    return numbers


def _reflectance(numbers: NDArray[Any], source: _Band, hidden: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    values = numbers.astype(np.float32) * np.float32(source.scale) + np.float32(source.offset)
    values[numbers == 0] = np.nan
    if hidden is not None:
        values[hidden] = np.nan
    return values


def _described(item: pystac.Item, wanted: Mapping[str, Formula], paths: Mapping[str, Path], grid: Grid, *, masked: bool) -> pystac.Item:
    kept = {name: value for name, value in item.properties.items() if not name.startswith(("proj:", "raster:", "processing:", "datetime"))}
    properties = {
        **kept,
        "earthself:mask": "scl" if masked else "none",
        "processing:lineage": "; ".join(f"{name} = {formula.text}" for name, formula in wanted.items()),
    }
    made = raster_item(item.id, grid, item.datetime, item.geometry, properties)
    for name, path in paths.items():
        band = {"name": name, "description": wanted[name].text}
        made.add_asset(name, raster_asset(path, ["data"], name, bands=[band]))
    return declare_extensions(made)
