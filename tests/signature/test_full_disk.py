"""A disk that is full in the middle of a create: a clear refusal and nothing half-written, or the product with all of its pixels."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from earthself.signature import calls, rasters
from earthself.signature.errors import StoreFull
from earthself.signature.product import from_feature
from earthself.signature.store import Store
from earthself.signature.testing import GRID, feature, layers

SIDE = 800
GRID_ = type(GRID)(GRID.crs, GRID.transform, SIDE, SIDE)


def put(store, name, sent):
    with store.upload() as upload:
        for layer, content in sent.items():
            upload.path(layer).write_bytes(content)
        return store.create(from_feature(feature(name, GRID_)), upload, sent)


def noisy():
    codes = np.random.default_rng(0).choice(np.array([111, 112, 211, 231, 311, 312, 512], "uint16"), (SIDE, SIDE))
    return layers(codes, grid=GRID_)


def create_with_files_of_at_most(home, most):
    """Write no file beyond that size, as if the disk ended there: GDAL notices late, or never."""
    store, sent = Store.open(home), noisy()
    with store.upload() as upload:
        for layer, content in sent.items():
            upload.path(layer).write_bytes(content)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            outcome = store.create(from_feature(feature("P", GRID_)), upload, sent)
        except StoreFull as error:
            outcome = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found = store.catalog.get("P")
    whole = found is not None and all(rasters.is_whole(store.path(found, layer.name), layer) for layer in found.layers)
    left = [str(path) for place in ("products", "staging") for path in (home / place).rglob("*")]
    store.close()
    return {"outcome": outcome, "there": found is not None, "whole": whole, "left": left}


def main():
    home, sizes = Path(sys.argv[1]), map(int, sys.argv[2:])
    report = {most: create_with_files_of_at_most(home / str(most), most) for most in sizes}
    sys.stdout.write(json.dumps(report))


def test_what_is_said_to_be_stored_can_be_read(tmp_path):
    store = Store.open(tmp_path / "full")
    put(store, "P", noisy())
    size = store.path(store.get("P"), "segmentation").stat().st_size
    store.close()
    # The last bytes of the file are those whose loss GDAL does not tell.
    sizes = [size, *(size - missing for missing in (1, 500, 4096, 20_000, 60_000, 150_000))]
    command = [sys.executable, __file__, str(tmp_path), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *others = json.loads(done.stdout).values()
    assert (whole["outcome"], whole["there"], whole["whole"]) == ("created", True, True)
    for other in others:
        assert "segmentation cannot be written: the store's disk is full" in other["outcome"]
        assert "nothing was stored, try again when there is room" in other["outcome"]
        assert (other["there"], other["left"]) == (False, [])


def test_a_raster_that_reads_otherwise_than_it_came_is_not_stored(tmp_path, monkeypatch):
    import rasterio.shutil

    def wrong(source, target, **options):
        with rasterio.open(source, "r+") as rough:
            rough.write(np.full((1, 1), 523, "uint16"), 1, window=((7, 8), (7, 8)))
        return copy(source, target, **options)

    copy = rasterio.shutil.copy
    monkeypatch.setattr(rasterio.shutil, "copy", wrong)
    store = Store.open(tmp_path)
    with pytest.raises(StoreFull, match="cannot be written"):
        put(store, "P", noisy())
    assert store.catalog.get("P") is None
    assert list((tmp_path / "products").iterdir()) == list((tmp_path / "staging").iterdir()) == []
    store.close()


def full_database(connection):
    connection.exec_driver_sql("PRAGMA max_page_count = 1")
    connection.exec_driver_sql("INSERT INTO store (id) VALUES (?)", ("x" * 100_000,))


def test_every_word_for_a_full_disk_has_one_status(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(StoreFull) as database, store.catalog._writing() as connection:
        full_database(connection)
    store.close()
    for error in (StoreFull("no room"), OSError(28, "No space left on device"), database.value):
        status, text = calls._status(error)
        assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "room" in text


def test_a_full_disk_does_not_keep_anyone_from_reading(tmp_path, monkeypatch):
    store = Store.open(tmp_path)
    put(store, "P", layers(np.full((SIDE, SIDE), 311, "uint16"), grid=GRID_))

    def full(_target, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._shelves, "write", full)
    assert len(store.polygons(store.get("P"), 0.5)) > 100
    store.close()


if __name__ == "__main__":
    main()
