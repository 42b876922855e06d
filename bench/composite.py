"""A cloud-masked median composite, ours beside what people would use instead, in one run on the same stack.

The stack and the peers come from ../shared/bench/raster.py (5 dates x 6 bands, BENCH_SIZE pixels a side, 4096 by default). Codec (DEFLATE
level 6 with predictor), tile size and overviews (mean) are the same on all sides, and the images must be equal in every pixel.
CPU seconds of whole processes are compared, imports included; of several rounds (BENCH_ROUNDS, 2) the least. Wall times are not compared:
machines are shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[1]
SHARED = HOUSE / ".." / "shared" / "bench" / "raster.py"
PEERS = HOUSE / ".venv-bench" / "bin" / "python"
DATES, BANDS = 5, ("B02", "B03", "B04", "B08", "B11", "B12")
SIZE = int(os.environ.get("BENCH_SIZE", "4096"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
LARGE = 10980
"""Pixels a side of a Sentinel-2 tile."""
ROOT = Path(os.environ.get("BENCH_ROOT") or Path(tempfile.gettempdir()) / f"earthself-raster-bench-{SIZE}")
GOALS = {"odc_eager": 0.6, "odc_dask_xrmedian": 0.35}
NAMES = {"odc_eager": "odc-stac eager + sorting network", "odc_dask_xrmedian": "odc-stac + dask + xarray median"}

_OURS = """
import sys
from pathlib import Path
from earthself.processing.compositing import CACHE, Recipe, Scene, median_composite
from earthself.processing.raster import CogWriter, Grid, gdal
import rasterio
root, out, bands = Path(sys.argv[1]), Path(sys.argv[2]), {bands!r}
end = sys.argv[3]
days = [root / f"d{{t}}" for t in range({dates})]
scenes = [Scene(day.name, day.name, {{b: day / (b + end) for b in bands}}, day / ("SCL" + end)) for day in days]
with gdal(CACHE):
    with rasterio.open(scenes[0].bands["B02"]) as dataset:
        grid = Grid.of(dataset)
    with CogWriter(out, grid, len(bands), "uint16", 0, categorical=False, threads=2) as cog:
        median_composite(Recipe(scenes, bands, masked=(9,), threads=2), cog)
"""

_PEER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("raster", sys.argv[1])
raster = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raster)
def cog_write(path, image):
    import rasterio
    from rasterio.transform import from_origin
    count, height, width = image.shape
    place = dict(crs="EPSG:32633", transform=from_origin(600000, 5000000, 10, 10), width=width, height=height, count=count)
    codec = dict(compress="DEFLATE", level=6, predictor="STANDARD", blocksize=512, num_threads=raster.NT, bigtiff="IF_SAFER")
    overviews = dict(overviews="AUTO", overview_resampling="AVERAGE")
    with rasterio.open(path, "w", driver="COG", dtype=image.dtype, nodata=0, **place, **codec, **overviews) as d:
        d.write(image)
raster.cog_write = cog_write
getattr(raster, sys.argv[2])()
"""

_MEASURE = """
import resource, json, sys
_use = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": _use.ru_utime + _use.ru_stime, "peak": _use.ru_maxrss * 1024}))
"""

_COMPARE = """
import sys, numpy, rasterio
with rasterio.open(sys.argv[1]) as one, rasterio.open(sys.argv[2]) as other:
    levels = one.overviews(1)
    same = levels == other.overviews(1) and all((one.read(b) == other.read(b)).all() for b in range(1, one.count + 1))
for level in range(len(levels)):
    with rasterio.open(sys.argv[1], OVERVIEW_LEVEL=level) as one, rasterio.open(sys.argv[2], OVERVIEW_LEVEL=level) as other:
        same = same and bool((one.read() == other.read()).all())
sys.exit(0 if same else 1)
"""


def run() -> list[dict[str, Any]]:
    """Measure and return the rows {name, value, unit, peer, peer_value, ratio, goal}; no rows where the stack or the peers are missing."""
    for path, text in ((SHARED, "the stack's script ../shared/bench/raster.py is not here"), (PEERS, "no .venv-bench: run make bench")):
        if not path.exists():
            print(f"composite: skipped, {text}")
            return []
    _make_stack()
    ours, peers = ROOT / "ours.tif", ROOT / "out.tif"
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for peer in GOALS:
            _keep(best, peer, _measure(PEERS, _PEER, str(SHARED), peer))
            _keep(best, "ours", _measure(sys.executable, _ours(), str(ROOT), str(ours), ".tif"))
            # xarray's median of an even number is not rounded: only the peer with whole numbers can be equal.
            assert peer != "odc_eager" or subprocess.run([sys.executable, "-c", _COMPARE, ours, peers], check=False).returncode == 0
    rows = [
        {
            "name": f"composite {SIZE}², CPU",
            "value": best["ours"]["cpu"],
            "unit": "s",
            "peer": NAMES[peer],
            "peer_value": best[peer]["cpu"],
            "ratio": best["ours"]["cpu"] / best[peer]["cpu"],
            "goal": f"ratio <= {goal}",
        }
        for peer, goal in GOALS.items()
    ]
    large = _measure(sys.executable, _ours(), str(_large_stack()), str(ROOT / "large.tif"), ".vrt")
    (ROOT / "large.tif").unlink()
    for name, found in ((f"composite {SIZE}², peak memory", best["ours"]), (f"composite {LARGE}², peak memory", large)):
        rows.append(_memory(name, found["peak"], best["odc_eager"]["peak"]))
    rows[-1] |= {"peer": f"ours at {SIZE}²", "peer_value": best["ours"]["peak"] / 1e9, "ratio": large["peak"] / best["ours"]["peak"]}
    rows[-1] |= {"goal": "< 0.7 GB, the same"}
    return rows


def _memory(name: str, peak: float, peer: float) -> dict[str, Any]:
    named = {"name": name, "value": peak / 1e9, "unit": "GB", "peer": NAMES["odc_eager"], "peer_value": peer / 1e9}
    return {**named, "ratio": peak / peer, "goal": "< 0.7 GB"}


def _ours() -> str:
    return _OURS.format(bands=BANDS, dates=DATES)


def _make_stack() -> None:
    if not (ROOT / f"d{DATES - 1}" / "SCL.tif").exists():
        subprocess.run([PEERS, SHARED, "make"], check=True, env=_environment(), stdout=subprocess.DEVNULL)


def _large_stack() -> Path:
    """Repeat the stack to the size of a tile, as VRTs: the same bytes are read again, none are stored."""
    import rasterio

    root = ROOT / "large"
    times = -(-LARGE // SIZE)
    for date in range(DATES):
        (root / f"d{date}").mkdir(parents=True, exist_ok=True)
        for band in (*BANDS, "SCL"):
            source = ROOT / f"d{date}" / f"{band}.tif"
            with rasterio.open(source) as dataset:
                kind, wkt, transform = {"uint16": "UInt16", "uint8": "Byte"}[dataset.dtypes[0]], dataset.crs.to_wkt(), dataset.transform
            parts = "".join(_part(source, column * SIZE, row * SIZE) for row in range(times) for column in range(times))
            (root / f"d{date}" / f"{band}.vrt").write_text(
                f'<VRTDataset rasterXSize="{LARGE}" rasterYSize="{LARGE}"><SRS>{wkt}</SRS>'
                f"<GeoTransform>{', '.join(map(str, transform.to_gdal()))}</GeoTransform>"
                f'<VRTRasterBand dataType="{kind}" band="1" blockXSize="512" blockYSize="512">{parts}</VRTRasterBand></VRTDataset>'
            )
    return root


def _part(source: Path, column: int, row: int) -> str:
    place = (
        f'<SrcRect xOff="0" yOff="0" xSize="{SIZE}" ySize="{SIZE}"/><DstRect xOff="{column}" yOff="{row}" xSize="{SIZE}" ySize="{SIZE}"/>'
    )
    return f"<SimpleSource><SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand>{place}</SimpleSource>"


def _measure(python: Path | str, program: str, *arguments: str) -> dict[str, float]:
    """CPU seconds (user and system) and peak resident bytes of a fresh process."""
    done = subprocess.run([python, "-c", program + _MEASURE, *arguments], capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _keep(best: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
    best[name] = {key: min(value, best.get(name, found)[key]) for key, value in found.items()}


def _environment() -> dict[str, str]:
    return {**os.environ, "BENCH_ROOT": str(ROOT), "BENCH_SIZE": str(SIZE)}


if __name__ == "__main__":
    from bench.__main__ import table

    print(table(run()))
