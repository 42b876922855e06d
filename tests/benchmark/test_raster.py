"""Rasters and files of a server that is as late and as bad as it is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from earthself.benchmark.probes import probes
from earthself.benchmark.probing import Run, Setting
from earthself.benchmark.samples import FAILED

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parent))
from provider import raster_bytes
from range_server import RangeServer

NOISE = np.random.default_rng(3).integers(1, 9000, (2048, 2048), dtype=np.uint16)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {"/band.tif": raster_bytes(NOISE, block=512), "/band.jp2": raster_bytes(NOISE[:512, :512], driver="JP2OpenJPEG")}


@pytest.fixture
def server(files):
    with RangeServer(files) as served:
        yield served


@pytest.fixture
def measure(server, tmp_path):
    def run(name: str, seconds: float = 1, **changes) -> dict[str, float | str]:
        setting = Setting(tmp_path, seconds, **({"raster": f"{server.url}/band.tif", "jp2": f"{server.url}/band.jp2"} | changes))
        found = list(Run({}, setting, 1).samples(probes([name])))
        return {sample.metric: sample.labels["error"] if sample.metric == FAILED else sample.value for sample in found}

    return run


@pytest.mark.parametrize("name", ["raster_windows", "raster_formats", "download"])
def test_each_probe_measures_what_it_says(measure, name, tmp_path):
    found = measure(name)
    assert set(found) == {measure.name for measure in probes([name])[0].measures}
    assert all(value > 0 for metric, value in found.items() if metric not in ("failed_requests", "loaded_twice"))
    assert not list(tmp_path.iterdir())


def test_delay_comes_out_as_it_was_put_in(measure, server):
    without = measure("raster_windows")
    server.delay = 0.3
    found = measure("raster_windows", seconds=6)
    assert 300 <= found["header"] <= 300 + without["header"] + 250, "a header is one request"
    # One reader waits 0.3 s for each round of requests; many wait side by side.
    assert found["windows_1"] <= 1 / 0.3
    assert found["windows_8"] > 2 * found["windows_1"]


def test_failures_come_out_as_they_were_put_in(measure, server):
    server.fails_each = 5
    found = measure("raster_windows")
    assert server.failed
    assert found["failed_requests"] == pytest.approx(100 * server.failed / server.asked, abs=3)
    assert found["windows_8"] > 0


@pytest.mark.parametrize("name", ["raster_windows", "raster_formats", "download"])
def test_what_cannot_be_read_says_why(measure, server, name):
    assert "nobody says which file to read" in measure(name, raster=None, jp2=None)[FAILED]
    server.fails_each = 1
    assert "503" in measure(name)[FAILED]


def test_a_server_without_ranges_is_no_place_for_windows(measure, server):
    server.ranged = False
    assert "is served whole only" in measure("raster_windows")[FAILED]
    assert measure("download")["whole"] > 0


def test_bandwidth_comes_out_as_it_was_put_in(measure, server):
    server.rate = 4e6
    assert 3 <= measure("download")["whole"] <= 4.1


def test_a_download_that_is_cut_goes_on_where_it_was(measure, server, files):
    assert measure("download")["loaded_twice"] == 0
    assert server.ranges == [None, None, f"bytes={len(files['/band.tif']) // 2}-"]


def test_a_server_that_begins_again_is_said_to(measure, server):
    server.ranged = False
    assert measure("download")["loaded_twice"] == 100


def test_a_file_that_is_replaced_meanwhile_is_no_measurement(measure, server):
    server.versions = iter(["whole", "before", "after"])
    assert "was replaced while it was downloaded" in measure("download")[FAILED]
