"""A step whose disk fills up: no product is to blame, so the step ends, to be done again, and leaves nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from products import Products

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from small_disk import on_small_disk

_STEP = """
import json, sys
from pathlib import Path
from earthself.processing.batch import each_item
from earthself.processing.folders import removed_on_error
from earthself.processing.meter import Meter
from earthself.processing.step import step_main

def grow(ctx):
    def work(item):
        import numpy as np, rasterio
        from affine import Affine
        folder = ctx.output / item.id
        with removed_on_error(folder):
            folder.mkdir()
            place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 300000, 0, -10, 5400000), "tiled": True}
            with rasterio.open(folder / "pixels.tif", "w", "GTiff", 2000, 2000, 1, dtype="uint16", **place) as file:
                file.write(np.ones((2000, 2000), np.uint16), 1)
        return item

    return each_item(ctx, work, Meter(), retries=0)

folder = Path(sys.argv[1])
code = step_main(grow, ["--input", sys.argv[2], "--output", str(folder / "out"), "--result", sys.argv[3]])
print(code, [path.name for path in folder.iterdir()])
"""


def test_a_full_disk_ends_the_step_to_be_done_again(tmp_path: Path) -> None:
    made = Products(tmp_path / "in")
    for name in ("P0", "P1"):
        made.add(name, {"B04": np.ones((10, 10), np.uint16)})
    small = tmp_path / "small"
    small.mkdir()
    *_, last = on_small_disk(_STEP, small, str(tmp_path / "in"), str(tmp_path / "result.json"))
    assert last == "75 []"
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["retry"]) == ("failed", True)
    assert "there is no room for P0 in" in result["message"]
    assert "make room and try again" in result["message"]
