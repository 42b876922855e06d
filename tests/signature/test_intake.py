"""Many whole products at once, straight into a store without a server: each whole, twice is known, a kill in the middle costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from earthself.signature import filters, rasters
from earthself.signature.cli import app
from earthself.signature.intake import take_in
from earthself.signature.store import Store
from earthself.signature.testing import GRID, feature, geotiff, layers
from typer.testing import CliRunner

RNG = np.random.default_rng(5)


def item(folder, name, **properties):
    """Write a STAC item with its rasters beside it."""
    where = folder / name
    where.mkdir(parents=True)
    codes = RNG.choice([311, 211, 512], (5, 6)).repeat(10, axis=0).repeat(10, axis=1).astype("uint16")
    content = layers(codes) | {"flags": geotiff(np.zeros(codes.shape, "uint8"))}
    for layer, written in content.items():
        (where / f"{layer}.tif").write_bytes(written)
    said = {"datetime": "2017-06-13T10:10:31Z", "eo:cloud_cover": 5.0, "earthself:model": "baseline:1", **properties}
    document = {"type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": GRID.outline(), "properties": said}
    document["assets"] = {layer: {"href": f"./{layer}.tif"} for layer in content}
    (where / f"{name}.json").write_text(json.dumps(document))
    return where / f"{name}.json"


def take(store, *paths):
    return take_in(store, paths, lambda _: None)


def whole(store):
    found = {}
    for stored in store.find(filters.query()):
        assert all(rasters.is_whole(store.path(stored, layer.name), layer) for layer in stored.layers)
        found[stored.product.product_id] = {code.code for code in stored.codes}
    return found


def test_a_folder_of_items_is_stored_whole_and_once(open_store, tmp_path):
    for n in range(150):
        item(tmp_path / "items", f"P{n:03}")
    (tmp_path / "items" / "catalog.json").write_text("{}")
    store = open_store(tmp_path / "home")
    counts = take(store, tmp_path / "items")
    assert (counts.read, counts.created, counts.known, counts.failed) == (150, 150, 0, 0)
    found = whole(store)
    assert len(found) == 150
    assert all(codes <= {311, 211, 512} for codes in found.values())
    again = take(store, tmp_path / "items")
    assert (again.created, again.known) == (0, 150)
    assert list(store.staging.iterdir()) == []


def test_bad_ones_are_told_and_the_others_go_on(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    good, taken = item(tmp_path, "good"), item(tmp_path, "taken")
    take(store, taken)
    other = item(tmp_path / "other", "taken")
    cut = item(tmp_path, "cut")
    cut.with_name("segmentation.tif").write_bytes(cut.with_name("segmentation.tif").read_bytes()[:-50])
    gone = item(tmp_path, "gone")
    gone.with_name("cloud_mask.tif").unlink()
    nothing = tmp_path / "nothing.json"
    counts = take(store, good, other, cut, gone, nothing)
    assert (counts.read, counts.created, counts.failed) == (5, 1, 4)
    said = dict(error.split(": ", 1) for error in counts.errors)
    assert "stored already with other content" in said[str(other)]
    assert "cut off or damaged" in said[str(cut)]
    assert "cloud_mask" in said[str(gone)]
    assert "cannot be read" in said[str(nothing)]
    assert whole(store).keys() == {"good", "taken"}
    assert list(store.staging.iterdir()) == []


def test_a_killed_intake_goes_on_where_it_was(new_database, tmp_path):
    for n in range(400):
        item(tmp_path / "items", f"P{n:03}")
    home, url = tmp_path / "home", new_database()
    Store.open(home, url).close()
    where = ["--home", str(home), "--database-url", url]
    command = [sys.executable, "-m", "earthself.signature", "ingest", "--direct", "--json", *where, str(tmp_path / "items")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    store = Store(home, url)
    while killed.poll() is None and store.statistics().products == 0:
        pass
    killed.kill()
    killed.communicate(timeout=60)
    store.close()
    opened = Store.open(home, url)
    before = len(whole(opened))
    assert before > 0
    opened.close()
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (said["created"], said["known"], said["failed"]) == (400 - before, before, 0)
    opened = Store.open(home, url)
    assert len(whole(opened)) == 400
    assert len(list((home / "products").glob("*/*"))) == 400
    opened.close()


def test_beside_a_server_it_is_refused(server, database_url, tmp_path):
    where = ["--home", str(server.log.parent / "home"), "--database-url", database_url]
    refused = CliRunner().invoke(app, ["ingest", "--direct", *where, str(item(tmp_path, "P"))])
    assert refused.exit_code == 1
    assert "in use by another" in refused.output


def test_a_folder_without_items_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    refused = CliRunner().invoke(app, ["ingest", "--direct", "--home", str(tmp_path / "home"), str(tmp_path / "empty")])
    assert refused.exit_code == 65
    assert "holds no STAC items" in refused.output


@pytest.mark.parametrize("name", ["first", "second"])
def test_one_description_gives_way(open_store, tmp_path, name):
    from earthself.signature.bulk import describe

    store = open_store(tmp_path / "home")
    path = tmp_path / "described.ndjson"
    path.write_text(json.dumps(feature("first")) + "\n")
    describe(store.catalog, [path], lambda _: None)
    assert take(store, item(tmp_path, name)).created == 1
    assert store.get(name).folder is not None
    assert len(list(store.find(filters.query()))) == (1 if name == "first" else 2)


def test_a_full_disk_ends_it_and_is_no_fault_of_the_items(tmp_path, monkeypatch):
    items = [item(tmp_path / "items", f"P{n:03}") for n in range(70)]
    store = Store.open(tmp_path / "home")
    take(store, *items[:64])
    store.close()

    def full(*_):
        raise OSError(28, "No space left on device", "products")

    monkeypatch.setattr("earthself.signature.shelves.Shelves.move_in", full)
    done = CliRunner().invoke(app, ["ingest", "--direct", "--home", str(tmp_path / "home"), str(tmp_path / "items")])
    assert (done.exit_code, done.stderr) == (75, "earthsignature: products: No space left on device; make room, and call it again\n")
    assert list((tmp_path / "home" / "staging").iterdir()) == []
    monkeypatch.undo()
    store = Store.open(tmp_path / "home")
    assert take(store, *items).created == 6
    store.close()
