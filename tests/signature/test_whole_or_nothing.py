"""Killed at any moment of a create, the store holds the product with its rasters or nothing, and no file that nobody owns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from earthself.signature import rasters
from earthself.signature.client import SignatureClient
from earthself.signature.errors import AlreadyExists, SignatureError, StoreBroken
from earthself.signature.lazy import pixels_of
from earthself.signature.product import from_feature
from earthself.signature.store import Store
from earthself.signature.testing import GRID, RunningServer, feature, layers
from rasterio.io import MemoryFile
from rio_cogeo import cog_validate

CODES = np.full((50, 60), 311, "uint16")


def test_dying_at_every_line_of_a_create(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "feature.json").write_text(json.dumps(feature("x")))
    for name, content in layers(CODES).items():
        (source / f"{name}.tif").write_bytes(content)
    command = [sys.executable, str(Path(__file__).with_name("die_in_create.py")), str(tmp_path / "home"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    entries = [entry for entry in report if entry["id"].startswith("rasters")]
    assert len(entries) > 25
    whole = entries[-1]["layers"]
    assert [entry["exit"] for entry in report if entry["survived"]] == [0, 0]
    for entry in report:
        assert entry["stray"] == [], entry
        assert entry["layers"] is None or (len(entry["layers"]) == 2 and "damaged" not in entry["layers"])
    assert {tuple(entry["layers"]) for entry in entries if entry["layers"]} == {tuple(whole)}
    # It is nothing until some line, and the product from then on.
    there = [entry["layers"] is not None for entry in entries]
    assert there == sorted(there)
    assert 1 < sum(there) < len(there)


@pytest.mark.parametrize("moment", [0.1, 0.5, 0.9])
def test_killing_the_server_during_a_call(tmp_path, moment):
    big = np.random.default_rng(5).choice(np.array([211, 311, 512], "uint16"), (1200, 1200))
    grid = type(GRID)(GRID.crs, GRID.transform, 1200, 1200)
    sent = layers(big, grid=grid)
    server = RunningServer(tmp_path / "home")
    outcome = []

    def create():
        with SignatureClient(server.target, timeout=20) as client:
            client._rpc._sleep = lambda _seconds: None
            try:
                outcome.append(client.create(feature("P", grid), sent))
            except SignatureError as error:
                outcome.append(error)

    caller = threading.Thread(target=create)
    caller.start()
    staging = tmp_path / "home" / "staging"
    _until(lambda: outcome or any(staging.iterdir()))
    # How far the call has come, by what lies in the store; the moments spread over its files.
    names = ("upload-segmentation", "upload-cloud_mask", "product", "cloud_mask.tif", "segmentation.rough.tif", "segmentation.tif")
    _until(lambda: outcome or list((tmp_path / "home").rglob(names[int(moment * len(names))])))
    server.kill()
    caller.join(60)
    again = RunningServer(tmp_path / "home")
    with SignatureClient(again.target, timeout=20) as client:
        stored = [found["id"] for found in client.find()]
        files = sorted(path.name for path in (tmp_path / "home" / "products").rglob("*.*") if path.is_file())
        assert list(staging.iterdir()) == []
        if stored:
            assert files == ["cloud_mask.tif", "segmentation.tif"]
            assert (client.get("P").layers.keys(), pixels_of(client.get("P").layers["segmentation"]).tolist()) == (
                sent.keys(),
                big.tolist(),
            )
        else:
            assert files == []
            assert outcome != ["created"]
        assert client.create(feature("P", grid), sent) == ("known" if stored else "created")
    assert again.stop() == 0


def _until(condition):
    """Look for a moment in another process's work, every millisecond."""
    end, never = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < end
        never.wait(0.001)


def test_two_callers_of_one_id_get_one_product(server):
    other = CODES.copy()
    other[0, 0] = 211
    results = []

    def create(pixels):
        with SignatureClient(server.target, timeout=20) as client:
            try:
                results.append(client.create(feature("P"), layers(pixels)))
            except AlreadyExists:
                results.append("refused")

    callers = [threading.Thread(target=create, args=[pixels]) for pixels in [CODES, other] * 4]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert sorted(results) == ["created", *["known"] * 3, *["refused"] * 4]
    assert len(list((server.log.parent / "home" / "products").glob("*/P-*"))) == 1


def test_readers_go_on_while_a_product_is_written(tmp_path):
    store = Store.open(tmp_path / "home")
    with store.upload() as upload:
        for name, content in layers(CODES).items():
            upload.path(name).write_bytes(content)
        store.create(from_feature(feature("P")), upload, ())
    with store.catalog._writing() as writing:
        writing.exec_driver_sql("UPDATE product SET product_type = 'another'")
        assert store.get("P").product.product_type == "S2MSI2A"
    assert store.get("P").product.product_type == "another"
    store.close()


def test_a_store_has_one_server(server, tmp_path):
    with pytest.raises(StoreBroken, match="in use by another"):
        Store.open(server.log.parent / "home")
    Store.open(tmp_path / "home").close()
    Store.open(tmp_path / "home").close()


def test_a_raster_that_was_taken_away_is_said_and_not_made_up(server, client):
    client.create(feature("taken"), layers(CODES))
    next((server.log.parent / "home").glob("products/*/taken-*/segmentation.tif")).unlink()
    with pytest.raises(StoreBroken, match=r"segmentation\.tif is gone from the store; restore"):
        client.get("taken")
    assert client.get("taken", ["cloud_mask"]).layers.keys() == {"cloud_mask"}


def test_what_is_stored_is_a_cloud_optimised_geotiff(tmp_path):
    grid = type(GRID)(GRID.crs, GRID.transform, 1100, 1100)
    store = Store.open(tmp_path / "home")
    with store.upload() as upload:
        for name, content in layers(np.full((1100, 1100), 3, "uint16"), grid=grid).items():
            upload.path(name).write_bytes(content)
        store.create(from_feature(feature("P", grid)), upload, ())
    for name in ("segmentation", "cloud_mask"):
        valid, problems, _ = cog_validate(store.path(store.get("P"), name))
        assert (valid, problems) == (True, [])
    with MemoryFile(store.path(store.get("P"), "segmentation").read_bytes()) as memory, memory.open() as dataset:
        assert (dataset.nodata, dataset.overviews(1), dataset.compression.name) == (0, [2, 4], "deflate")
    store.close()


@pytest.mark.parametrize("most", [1, 60, 200, 100_000])
def test_the_size_of_a_strip_changes_nothing_that_is_stored(tmp_path, monkeypatch, most):
    noisy = np.random.default_rng(3).choice(np.array([211, 311, 512], "uint16"), (50, 60))
    (tmp_path / "upload").write_bytes(layers(noisy)["segmentation"])
    usual = rasters.store_layer(tmp_path / "upload", "segmentation", tmp_path)
    monkeypatch.setattr(rasters, "_STRIP_PIXELS", most)
    (tmp_path / "again").mkdir()
    again = rasters.store_layer(tmp_path / "upload", "segmentation", tmp_path / "again")
    assert (again, again.counts) == (usual, usual.counts)
    assert (pixels_of((tmp_path / "again" / "segmentation.tif").read_bytes()) == noisy).all()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc (Linux)")
def test_a_tile_as_wide_as_may_be_is_stored_in_bounded_memory(tmp_path):
    script = f"""
from pathlib import Path
import rasterio
from earthself.signature import rasters
folder, transform = Path({str(tmp_path)!r}), rasterio.Affine(10, 0, 5e5, 0, -10, 5.4e6)
options = dict(crs="EPSG:32633", transform=transform, compress="deflate", tiled=True, blockxsize=512, blockysize=512, sparse_ok=True)
rasterio.open(folder / "upload", "w", driver="GTiff", width=40_000, height=1_500, count=1, dtype="uint16", **options).close()
rasters.store_layer(folder / "upload", "segmentation", folder)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True, env={**os.environ, "GDAL_CACHEMAX": "64"}
    )
    assert int(done.stdout) < 350_000  # kB
