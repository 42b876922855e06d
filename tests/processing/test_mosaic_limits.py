"""What a mosaic refuses, and by which name; and that a large scene needs no more memory than a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.processing.errors import BadInput
from scenes import UTM33, Scenes, grid, inside
from test_mosaic import cover, run


@pytest.fixture
def scenes(tmp_path):
    return Scenes(tmp_path / "in")


@pytest.mark.parametrize(
    ("crs", "area"),
    [
        ("EPSG:4326", [179.95, -16.85, -179.95, -16.8]),
        ("EPSG:3857", [179.95, -16.85, -179.95, -16.8]),
        ("EPSG:3832", [-30.01, -16.85, -29.99, -16.8]),  # Mercator around longitude 150
    ],
)
def test_a_crs_that_is_cut_within_the_area_is_refused(scenes, tmp_path, crs, area):
    scenes.add(code=2)
    with pytest.raises(BadInput, match=rf"{crs} is cut where the area lies; .* EPSG:32[67]\d\d"):
        run(scenes, tmp_path, area=area, crs=crs, resolution=0.0001 if crs == "EPSG:4326" else 10)


def test_a_crs_around_the_antimeridian_maps_both_sides(scenes, tmp_path):
    area = [179.95, -16.85, -179.95, -16.8]
    for crs, part in (("EPSG:32760", [179.9, -16.9, 180, -16.75]), ("EPSG:32701", [-180, -16.9, -179.9, -16.75])):
        scenes.add(code=2, where=cover(crs, part))
    result, _ = run(scenes, tmp_path, area=area, crs="EPSG:3832", resolution=100)
    assert result.metrics["observed_fraction"] == 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"crs": "foo"}, "'foo' is no coordinate reference system"),
        ({"crs": "EPSG:99999"}, "no coordinate reference system"),
        ({"crs": "EPSG:4978"}, "not the CRS of a map"),  # geocentric
        ({"crs": "EPSG:5773"}, "not the CRS of a map"),  # heights
        ({"crs": "EPSG:4326"}, "resolution 10 is outside 0 to 1 degrees"),
        ({"resolution": float("inf")}, "resolution inf is outside 0 to 100000 metres"),
        ({"resolution": float("nan")}, "resolution nan"),
        ({"resolution": 0}, "resolution 0"),
        ({"resolution": 1e-9}, "more than a raster can have"),
    ],
)
def test_parameters_that_cannot_be_are_refused(scenes, tmp_path, parameters, said):
    scenes.add(code=2)
    with pytest.raises(BadInput, match=said) as caught:
        run(scenes, tmp_path, **parameters)
    assert caught.value.exit_code == 65


def test_a_crs_that_does_not_reach_the_area_is_refused(scenes, tmp_path):
    scenes.add(code=2)
    with pytest.raises(BadInput, match=r"EPSG:32633 does not reach the area; .*EPSG:32618"):
        run(scenes, tmp_path, area=[-75.1, 0, -74.9, 0.1], crs="EPSG:32633")


def test_a_layer_that_breaks_off_is_named(scenes, tmp_path):
    where = grid(width=600, height=600)
    item = scenes.add(code=2, flags=np.random.default_rng(0).choice([0, 16], (600, 600)), where=where, name="cut")
    path = Path(item.assets["flags"].href)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BadInput, match=r"item cut: flags \(.*flags\.tif\) cannot be read"):
        run(scenes, tmp_path, area=inside(where))


def test_a_code_outside_the_legend_is_refused(scenes, tmp_path):
    code = np.full((10, 12), 2)
    code[3, 4] = 7
    scenes.add(code=code, name="odd")
    with pytest.raises(BadInput, match=r"item odd: .*code 7") as caught:
        run(scenes, tmp_path)
    assert caught.value.exit_code == 65
    assert not list((tmp_path / "out").iterdir())


def test_a_signature_without_a_layer_is_named(scenes, tmp_path):
    item = scenes.add(code=2, name="bare")
    del item.assets["confidence"]
    with pytest.raises(BadInput, match=r"item bare has no asset 'confidence'"):
        run(scenes, tmp_path)


def test_layers_on_different_grids_are_refused(scenes, tmp_path):
    one, two = scenes.add(code=2, name="one"), scenes.add(code=2, where=grid(left=0), name="two")
    one.assets["flags"].href = two.assets["flags"].href
    with pytest.raises(BadInput, match="flags does not lie on the grid"):
        run(scenes, tmp_path)


_COARSE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from earthself.processing.steps.mosaic import mosaic
from earthself.processing.steps.zonal_statistics import zonal_statistics
from scenes import context
home = Path(sys.argv[2])
mosaic(context(home / "in", home / "map"), resolution=500.0)
zonal_statistics(context(home / "map", home / "statistics"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_of_a_coarse_map_does_not_grow_with_the_scene(tmp_path):
    """A whole tile in the memory of a hundredth of it, give or take the block cache; read at once its codes alone are 240 MB."""
    peak = {}
    for size in (1024, 10_980):
        where, home = grid(width=size, height=size), tmp_path / str(size)
        scenes = Scenes(home / "in")
        item = scenes.add(code=2, where=grid())
        for layer, dtype in (("segmentation", "uint16"), ("confidence", "uint8"), ("flags", "uint8")):
            options = {
                "driver": "GTiff",
                "count": 1,
                "dtype": dtype,
                "tiled": True,
                "blockxsize": 512,
                "blockysize": 512,
                "sparse_ok": True,
            }
            place = {"width": size, "height": size, "crs": UTM33, "transform": where.transform}
            with rasterio.open(item.assets[layer].href, "w", **options, **place) as dataset:
                dataset.write(np.full((1, 1), 2, dtype), 1, window=((0, 1), (0, 1)))
        scenes.context(home / "map", area=inside(where))
        command = [sys.executable, "-c", _COARSE, str(Path(__file__).parent), str(home)]
        peak[size] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak[10_980] < peak[1024] + 100
