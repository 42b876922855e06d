"""What the platform's own steps take for a megapixel of products, run as the programs that they are on a machine.

The products are made here, of fields with the spread and the noise of real ones, so that they are packed to about as many bytes
(a test holds them against the sample that ships with the platform); all of them is clear, so that nothing is skipped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from earthself.benchmark.environment import cores
from earthself.benchmark.errors import ProbeFailed, ToolMissing
from earthself.benchmark.probing import Measure, Probe, Setting, tool
from earthself.data.items import ONLY_PROVIDER
from earthself.data.sentinel2 import BANDS, SCL_RESOLUTION

SENTINEL2_TILE = 10_980**2 / 1e6
"""Megapixels of 10 m in one whole Sentinel-2 product: what a measured megapixel is multiplied by."""
DISTRIBUTION = "earthself-processing"
_LATE, _LATE_EACH = 120.0, 60.0
"""Seconds that a step may take, and those for each megapixel."""
_SMALLER = 4
"""The few pixels are of products with sides so many times shorter."""
_CLEAR = 4  # the scene class of vegetation
_FIELD = 24  # pixels of 10 m along each side of a field
_LEFT, _TOP, _CRS = 300_000, 5_400_000, "EPSG:32633"
_FOOTPRINT = [[12.3, 48.5], [12.6, 48.5], [12.6, 48.7], [12.3, 48.7], [12.3, 48.5]]
# A program begins with the highest memory of the process that it was forked from; this shell, which has next to none, stands between.
_APART = ("sh", "-c", '"$@"; exit "$?"', "sh")


@dataclass(frozen=True)
class Work:
    """A step, and the products that it is given."""

    step: str
    """Its name in the entry point group `earthself.steps`."""
    bands: Sequence[str]
    """Bands of each product, beside its scene classes."""
    products: int = 1
    """Dates of the same place."""
    options: Sequence[str] = ()
    """Parameters of the step, as words."""

    def megapixels(self, side: int) -> float:
        """Millions of 10 m pixels of all its products, of so many pixels along each side."""
        return self.products * side**2 / 1e6


@dataclass(frozen=True)
class _Used:
    """What one run took."""

    whole: float
    """Seconds of the process."""
    seconds: float
    """Seconds of the step in it, as it says."""
    cpu_seconds: float
    """Seconds of all cores, as it says."""
    memory: float
    """GiB at the peak, as it says."""
    read: float
    """Megabytes of its rasters."""


def measured(work: Work, setting: Setting) -> Mapping[str, float]:
    """Run a step with few pixels and with many: by what it takes for those that are more, and what it takes whatever their number.

    Raises `ToolMissing` where the steps are not installed, `TooSlow` and `ProbeFailed` where this one does not do its work.
    """
    if not _version():
        raise ToolMissing(f"the steps are not installed here; get them with: pip install {DISTRIBUTION}")
    small = setting.side // _SMALLER
    few, many = _run(work, setting.scratch, small), _run(work, setting.scratch, setting.side)
    more = work.megapixels(setting.side) - work.megapixels(small)
    each = {name: (getattr(many, name) - getattr(few, name)) / more for name in ("seconds", "cpu_seconds", "read")}
    if min(each.values()) <= 0:
        raise ProbeFailed(f"step {work.step} took no longer for more pixels ({setting.side} a side) than for few; give a larger --side")
    return each | {"start": few.whole - each["seconds"] * work.megapixels(small), "memory": many.memory}


def _run(work: Work, scratch: Path, side: int) -> _Used:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="earthself-step-") as name:
        folder = Path(name)
        _make_products(work, side, folder / "in")
        result = folder / "result.json"
        folders = {"input": folder / "in", "output": folder / "out", "scratch": folder, "result": result}
        words = [word for option, path in folders.items() for word in (f"--{option}", str(path))]
        begun = time.perf_counter()
        try:
            tool(
                *_APART, sys.executable, "-m", "earthself.processing", work.step, *words, *work.options,
                seconds=_LATE + _LATE_EACH * work.megapixels(side), cwd=folder, env={"EARTHSELF_STEP_CPUS": f"{cores():g}"},
            )  # fmt: skip
        except ProbeFailed as error:
            raise type(error)(f"step {work.step}: {error}") from error
        whole = time.perf_counter() - begun
        said = _said(work.step, result)
        read = sum(file.stat().st_size for file in folder.glob("in/*/*.tif")) / 1e6
        return _Used(whole, said["seconds"], said["cpu_seconds"], said["peak_memory_bytes"] / (1 << 30), read)


def _said(step: str, document: Path) -> Mapping[str, float]:
    """Read what a step says of itself when it has ended (docs/steps.md)."""
    try:
        result = json.loads(document.read_text())
        used = {name: float(result["metrics"][name]) for name in ("seconds", "cpu_seconds", "peak_memory_bytes")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProbeFailed(f"step {step} does not say what it took ({error})") from error
    if result["status"] != "done":
        raise ProbeFailed(f"step {step} did nothing: {result.get('message')}")
    return used


def _make_products(work: Work, side: int, folder: Path) -> None:
    """Write a step's input folder (docs/steps.md)."""
    links = []
    for number in range(work.products):
        name = f"product-{number}"
        (folder / name).mkdir(parents=True)
        draw = np.random.default_rng(number)
        for band in work.bands:
            _write(folder / name / f"{band}.tif", _land(draw, band, side), BANDS[band].resolution)
        across = -(-side * 10 // SCL_RESOLUTION)
        _write(folder / name / "SCL.tif", np.full((across, across), _CLEAR, np.uint8), SCL_RESOLUTION)
        (folder / name / f"{name}.json").write_text(json.dumps(_item(name, number, work.bands)))
        links.append({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json"})
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "products", "description": "Made to measure", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))


def _item(name: str, number: int, bands: Sequence[str]) -> dict[str, Any]:
    when = f"2024-05-{1 + number:02d}"
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "links": [],
        "geometry": {"type": "Polygon", "coordinates": [_FOOTPRINT]}, "bbox": [*_FOOTPRINT[0], *_FOOTPRINT[2]],
        "properties": {
            "datetime": f"{when}T10:10:31Z", "earthself:observation": f"S2A_33UUP_{when.replace('-', '')}T101031_R022",
            "earthself:product": name, "earthself:baseline": "N0509", "earthself:offset": -1000, "earthself:provider": "made",
            "earthself:collection": "S2_MSI_L2A", "earthself:access": "open", ONLY_PROVIDER: True, "eo:cloud_cover": 0.0,
        },
        "assets": {band: {"href": f"./{band}.tif", "type": "image/tiff; application=geotiff"} for band in (*bands, "SCL")},
    }  # fmt: skip


def _land(draw: np.random.Generator, band: str, side: int) -> np.ndarray[Any, Any]:
    """Digital numbers of a place: fields, each of them uneven."""
    size = BANDS[band].resolution
    across, field = -(-side * 10 // size), max(1, _FIELD * 10 // size)
    bright = 2500 if BANDS[band].wavelength > 0.7 else 450
    fields = draw.normal(bright, 0.3 * bright, (-(-across // field),) * 2).clip(0.2 * bright)
    land = np.kron(fields, np.ones((field, field)))[:across, :across]
    return (1000 + land + draw.laplace(0, 0.07 * bright, land.shape)).clip(1, 12_000).astype(np.uint16)


def _write(path: Path, pixels: np.ndarray[Any, Any], size: int) -> None:
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[1], height=pixels.shape[0], count=1, dtype=pixels.dtype, nodata=0, crs=_CRS,
        transform=from_origin(_LEFT, _TOP, size, size), tiled=True, blockxsize=512, blockysize=512, compress="DEFLATE", predictor=2,
    ) as file:  # fmt: skip
        file.write(pixels, 1)


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


def _parameters(work: Work, setting: Setting) -> Mapping[str, str]:
    return {
        "step": work.step, "version": _version(), "products": str(work.products), "bands": str(len(work.bands)),
        "pixels": f"{setting.side}x{setting.side}",
    }  # fmt: skip


def _probe(work: Work, about: str) -> Probe:
    measures = [
        Measure("seconds", "s/Mpixel", "lower"),
        Measure("cpu_seconds", "s/Mpixel", "lower"),
        Measure("start", "s", "lower"),
        Measure("memory", "GiB", "lower"),
        Measure("read", "MB/Mpixel", "lower"),
    ]
    return Probe(f"step_{work.step}", about, measures, partial(measured, work), partial(_parameters, work))


_SIGNED = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_COMBINED = ("B02", "B03", "B04", "B08", "B11", "B12")
PROBES = [
    _probe(Work("sign", _SIGNED), "land cover of a product, by the step `sign`"),
    _probe(Work("composite", _COMBINED, products=5), "the median of five products, by the step `composite`"),
]
