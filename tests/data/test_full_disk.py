"""Writing to a disk that fills up: said as that, to be tried again, and nothing is left of what was begun."""

from __future__ import annotations

from pathlib import Path

from small_disk import on_small_disk

_WRITE = """
import sys, zipfile
from pathlib import Path
from earthself.data import archive
from earthself.data.errors import EarthSelfError
from earthself.data.storage import Storage
from earthself.data.workspace import atomic, write_bytes
folder, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])

def document():
    write_bytes(folder / "document.json", bytes(4 << 20))

def raster():
    import numpy as np, rasterio
    from affine import Affine
    pixels = np.random.default_rng(0).integers(0, 60000, (2000, 2000)).astype("uint16")
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 300000, 0, -10, 5400000)}
    with atomic(folder / "raster.tif") as part, rasterio.open(part, "w", "COG", 2000, 2000, 1, dtype="uint16", **place) as file:
        file.write(pixels, 1)

def band():
    packed = elsewhere / "product.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("X.SAFE/GRANULE/IMG_DATA/R10m/T33UUP_B04_10m.jp2", bytes(4 << 20))
    archive.extract(packed, "B04", folder)

def copy():
    (elsewhere / "file").write_bytes(bytes(4 << 20))
    Storage().put(elsewhere / "file", str(folder / "copy"))

for work in (document, raster, band, copy):
    try:
        work()
    except EarthSelfError as error:
        print(work.__name__, type(error).__name__, error.retry, error, [path.name for path in folder.rglob("*")])
"""


def test_what_does_not_fit_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    small, elsewhere = tmp_path / "small", tmp_path / "elsewhere"
    small.mkdir()
    elsewhere.mkdir()
    lines = on_small_disk(_WRITE, small, str(elsewhere))
    assert [line.split(" ", 3)[:3] for line in lines] == [[name, "NoRoom", "True"] for name in ("document", "raster", "band", "copy")]
    for line, name in zip(lines, ("document.json", "raster.tif", "B04.jp2", "copy"), strict=True):
        assert f"there is no room for {name} in {small}" in line
        assert line.endswith("make room and try again []")
