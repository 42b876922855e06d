"""A whole store can be moved, checked and kept as a backup while it serves: one moment of it, every pixel, or a clear word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from earthself.data.errors import EarthSelfError
from earthself.signature import archive, filters, geobuf, pairing
from earthself.signature.client import SignatureClient
from earthself.signature.described import read_rows
from earthself.signature.errors import BadSetting, BadSignature, StoreBroken, Unavailable
from earthself.signature.product import from_feature
from earthself.signature.rasters import Grid
from earthself.signature.store import Store
from earthself.signature.testing import feature, geotiff, layers, running_server

CODES = np.repeat([[311], [211]], [30, 20], axis=0).repeat(60, axis=1).astype("uint16")
FIJI = Grid("EPSG:32701", (10.0, 0.0, 176700.0, 0.0, -10.0, 8250000.0), 60, 50)


def put(store, name, codes=CODES, **properties):
    sent = layers(codes) | {"confidence": geotiff(np.full(codes.shape, 80, "uint8"))}
    with store.upload() as upload:
        for layer, content in sent.items():
            upload.path(layer).write_bytes(content)
        store.create(from_feature(feature(name, **properties)), upload, sent)


def fill(store):
    put(store, "A", model="baseline:1")
    put(store, "B", creation_date="2018-01-01T00:00:00.25Z", note="Grüße ✓", big=2**70)
    put(store, "A2")
    store.supersede("A", "A2")
    collection = {
        "type": "FeatureCollection",
        "id": "V2",
        "properties": feature("V2")["properties"],
        "features": [
            {"type": "Feature", "geometry": shapely.geometry.mapping(shapely.box(16, 47, 16.01, 47.01)), "properties": {"category": 312}}
        ],
    }
    from earthself.signature.services import V2
    from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2

    V2(store, 0.5).CreateProduct(v2.CreateProductRequest(product=geobuf.encode(collection)))
    far = feature("described", FIJI)
    far["geometry"] = {"type": "Polygon", "coordinates": [[[179, -16], [-179, -16], [-179, -15], [179, -15], [179, -16]]]}
    rows, _ = read_rows([json.dumps(far).encode()], next(store.find(filters.query())).product.creation_date)
    assert len(rows.products) == 1
    store.catalog.insert_new(rows)


def everything(store):
    """All that a store says, and the bytes of all that it gives."""
    found = {}
    for stored in store.find(filters.query()):
        name = stored.product.product_id
        files = {layer.name: store.path(stored, layer.name).read_bytes() for layer in stored.layers}
        polygons = store.polygons(stored, 0.5) if stored.folder else b""
        found[name] = (
            stored.product,
            stored.layers,
            stored.codes,
            stored.digest,
            stored.superseded_by,
            stored.classes_sha256,
            files,
            polygons,
        )
    return found


def export(store, folder):
    made, moved = archive.export(store, folder, lambda _: None)
    assert moved.errors == []
    return made


def take(store, folder):
    moved = archive.import_archive(store, folder, lambda _: None)
    if moved.failed:
        raise StoreBroken("; ".join(moved.errors))
    return moved


def test_a_store_moves_whole(open_store, tmp_path):
    old, new = open_store(tmp_path / "old"), open_store(tmp_path / "new")
    fill(old)
    made = export(old, tmp_path / "archive")
    assert (made.products, made.segmented) == (5, 4)
    moved = take(new, tmp_path / "archive")
    assert (moved.products, moved.new) == (5, 5)
    assert everything(new) == everything(old)
    assert [s.product.product_id for s in new.find(filters.query(wkt="POINT(-179.5 -15.5)"))] == ["described"]
    assert take(new, tmp_path / "archive").new == 0


def test_others_can_read_the_table(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    fill(store)
    made = export(store, tmp_path / "archive")
    table = pq.read_table(tmp_path / "archive" / made.table)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"], geo["columns"]["geometry"]["encoding"]) == ("1.1.0", "geometry", "WKB")
    rows = {row["id"]: row for row in table.to_pylist()}
    assert shapely.from_wkb(rows["A"]["geometry"]).equals(store.get("A").product.footprint)
    assert rows["B"]["datetime"].isoformat() == "2018-01-01T00:00:00.250000+00:00"
    assert (tmp_path / "archive" / "products" / rows["B"]["folder"] / "segmentation.tif").is_file()
    assert rows["described"]["folder"] is None
    import geopandas

    assert set(geopandas.read_parquet(tmp_path / "archive" / made.table).total_bounds[[0, 2]]) == {-180.0, 180.0}


def test_again_into_the_same_folder_takes_what_is_new_and_forgets_what_is_gone(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    fill(store)
    export(store, tmp_path / "archive")
    kept = {path: path.stat().st_ino for path in (tmp_path / "archive" / "products").rglob("segmentation.tif")}
    put(store, "C")
    store.delete("B")
    export(store, tmp_path / "archive")
    now = {path: path.stat().st_ino for path in (tmp_path / "archive" / "products").rglob("segmentation.tif")}
    assert len(kept.items() & now.items()) == 3
    assert len(now) == 4
    assert len(list((tmp_path / "archive").glob("products-*.parquet*"))) == 1
    new = open_store(tmp_path / "new")
    take(new, tmp_path / "archive")
    assert everything(new).keys() == {"A", "A2", "V2", "C", "described"}


def test_an_archive_that_is_not_whole_is_refused(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    put(store, "A")
    new, folder = open_store(tmp_path / "new"), tmp_path / "archive"
    with pytest.raises(BadSignature, match="is no archive"):
        take(new, folder)
    made = export(store, folder)
    table, (raster,) = folder / made.table, (folder / "products").rglob("segmentation.tif")
    content = raster.read_bytes()
    for harm, error in (
        (raster.unlink, "segmentation.tif is gone"),
        (lambda: raster.write_bytes(content[:-100]), "damaged"),
        (lambda: table.write_bytes(table.read_bytes()[:-1]), "was changed since the export"),
        (table.unlink, "is gone or was changed"),
        (lambda: (folder / "archive.json").write_text("{"), "cannot be read"),
    ):
        raster.unlink(missing_ok=True)  # it is a link to the store's own file
        raster.write_bytes(content)
        harm()
        with pytest.raises((BadSignature, StoreBroken), match=error):
            take(new, folder)
    assert everything(new) == {}
    assert everything(store).keys() == {"A"}


def test_nothing_is_deleted_while_a_backup_is_made(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    fill(store)

    def delete(_moved):
        with pytest.raises(Unavailable, match="a backup is being made"):
            store.delete("A")

    archive.export(store, tmp_path / "archive", delete)
    with pairing.held(store.home, exclusive=False), pytest.raises(Unavailable):
        store.delete("A")
    store.delete("A")
    with pytest.raises(EarthSelfError, match="'A' is not stored"):
        store.get("A")
    assert [s.product.product_id for s in store.find(filters.query(wkt="POINT(15.004 48.75)"))] == ["B", "A2"]


EXPORT = [sys.executable, "-m", "earthself.signature", "export"]


@pytest.mark.timeout(300)
def test_a_kill_in_between_loses_nothing_that_was_acknowledged(new_database, tmp_path):
    """Writers store products while backups are made; a backup is killed, then the server. The next backup has all."""
    home, folder, url = tmp_path / "home", tmp_path / "archive", new_database()
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(number, target):
        with SignatureClient(target, timeout=20) as client:
            for n in range(10_000):
                if stop.is_set():
                    return
                name = f"W{number}-{n}"
                try:
                    client.create(feature(name), layers(CODES))
                except EarthSelfError:
                    return  # the server is gone, and this one was never acknowledged
                acknowledged.append(name)

    def wait_for(number):
        while len(acknowledged) < number:
            assert any(writer.is_alive() for writer in writers)
            writers[0].join(0.02)

    options = ["--home", str(home), "--database-url", url]
    with running_server(home, "--database-url", url) as server:
        writers = [threading.Thread(target=write, args=(number, server.target)) for number in range(3)]
        for writer in writers:
            writer.start()
        wait_for(20)
        killed = subprocess.Popen([*EXPORT, *options, str(folder)])
        while killed.poll() is None and not list(folder.glob("products/*/*")):
            pass  # in the middle of its rasters, or just at its end
        killed.kill()
        killed.wait(30)
        wait_for(30)
        before = list(acknowledged)
        subprocess.run([*EXPORT, *options, str(folder)], check=True, capture_output=True)
        wait_for(len(acknowledged) + 10)
        later = list(acknowledged)
        last = subprocess.Popen([*EXPORT, *options, str(tmp_path / "last")])
        server.kill()
        stop.set()
        for writer in writers:
            writer.join(30)
        assert last.wait(60) == 0
    for place, least in ((folder, before), (tmp_path / "last", later)):
        restored = Store.open(tmp_path / f"restored-{place.name}", new_database())
        take(restored, place)
        there = everything(restored)
        assert there.keys() >= set(least)
        restored.close()
    with running_server(home, "--database-url", url) as server, SignatureClient(server.target) as client:
        assert {found["id"] for found in client.find()} >= set(acknowledged)
        client.get(acknowledged[-1])


def test_an_interrupted_import_goes_on(open_store, tmp_path):
    store, new = open_store(tmp_path / "home"), open_store(tmp_path / "new")
    for n in range(6):
        put(store, f"P{n}")
    export(store, tmp_path / "archive")
    hidden = tmp_path / "archive" / "products" / str(store.get("P4").folder)
    shutil.move(hidden, tmp_path / "hidden")
    with pytest.raises(StoreBroken, match="P4"):
        take(new, tmp_path / "archive")
    assert everything(new).keys() == {"P0", "P1", "P2", "P3", "P5"}  # one that is gone keeps no other back
    shutil.move(tmp_path / "hidden", hidden)
    moved = take(new, tmp_path / "archive")
    assert (moved.products, moved.new) == (6, 1)


def test_a_folder_with_other_things_is_left_alone(open_store, tmp_path):
    store, other = open_store(tmp_path / "home"), open_store(tmp_path / "other")
    put(store, "A")
    put(other, "B")
    photo = tmp_path / "mine" / "products" / "holidays" / "photos" / "a.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"x")
    export(other, tmp_path / "archive")
    for folder, why in (
        (tmp_path / "mine", "has products that no export of this store made"),
        (tmp_path / "archive", "is the archive of another store"),
        (tmp_path / "home", "lie in each other"),
        (tmp_path / "home" / "products", "lie in each other"),
        (tmp_path, "lie in each other"),
    ):
        with pytest.raises(BadSetting, match=why):
            export(store, folder)
    assert photo.is_file()
    take(open_store(tmp_path / "new"), tmp_path / "archive")
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    export(store, tmp_path / "disk")


def test_two_exports_into_one_folder_do_not_meet(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    put(store, "A")

    def again(_moved):
        with pytest.raises(Unavailable, match="another export writes"):
            export(store, tmp_path / "archive")

    archive.export(store, tmp_path / "archive", again)
    take(open_store(tmp_path / "new"), tmp_path / "archive")


def test_a_raster_that_the_store_lost_keeps_no_other_from_being_saved(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    for name in ("cut", "gone", "whole"):
        put(store, name)
    export(store, tmp_path / "earlier")
    place = {name: tmp_path / "home" / "products" / store.get(name).folder for name in ("cut", "gone")}
    raster = place["cut"] / "segmentation.tif"
    content = raster.read_bytes()
    raster.unlink()  # it is a link to the archive's
    raster.write_bytes(content[:300])
    shutil.rmtree(place["gone"])
    _, moved = archive.export(store, tmp_path / "later", lambda _: None)
    assert moved.failed == 2
    assert all("import an archive that has it" in error for error in moved.errors)
    assert archive.import_archive(open_store(tmp_path / "new"), tmp_path / "later", lambda _: None).new == 1
    export(store, tmp_path / "earlier")  # which has them still
    take(store, tmp_path / "earlier")
    assert everything(store).keys() == {"cut", "gone", "whole"}
    assert raster.read_bytes() == content


def test_a_damaged_file_of_an_archive_is_made_anew_as_the_error_says(open_store, tmp_path):
    store, new = open_store(tmp_path / "home"), open_store(tmp_path / "new")
    put(store, "A")
    put(store, "B")
    export(store, tmp_path / "archive")
    folder = tmp_path / "archive" / "products" / store.get("A").folder
    raster = folder / "segmentation.tif"
    content = raster.read_bytes()
    raster.unlink()
    raster.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(StoreBroken, match=f"{raster} is damaged.*delete that folder and export again"):
        take(new, tmp_path / "archive")
    assert everything(new).keys() == {"B"}
    shutil.rmtree(folder)
    export(store, tmp_path / "archive")
    take(new, tmp_path / "archive")
    assert everything(new) == everything(store)


@pytest.mark.parametrize("crs", ["EPSG:3995", "EPSG:3031"])
def test_a_product_over_a_pole_moves_too(open_store, tmp_path, crs):
    grid = Grid(crs, (100.0, 0.0, -3000.0, 0.0, -100.0, 2500.0), 60, 50)
    old, new = open_store(tmp_path / "old"), open_store(tmp_path / "new")
    with old.upload() as upload:
        for layer, content in layers(CODES, grid=grid).items():
            upload.path(layer).write_bytes(content)
        old.create(from_feature(feature("pole", grid)), upload, ())
    export(old, tmp_path / "archive")
    take(new, tmp_path / "archive")
    assert everything(new) == everything(old)
    assert from_feature(new.get("pole").product.feature()).digest() == old.get("pole").digest


def test_what_changed_since_the_last_import_comes_along_or_is_told(open_store, tmp_path):
    old, new = open_store(tmp_path / "old"), open_store(tmp_path / "new")
    put(old, "A")
    put(old, "B")
    export(old, tmp_path / "archive")
    take(new, tmp_path / "archive")
    old.supersede("A", "B")
    moment = old.get("A").product.creation_date
    for store, cover in ((old, 1.0), (new, 2.0)):
        store.catalog.insert_new(read_rows([json.dumps(feature("D", cloud_cover=cover)).encode()], moment)[0])
    export(old, tmp_path / "archive")
    with pytest.raises(StoreBroken, match="product D is described already with other content"):
        take(new, tmp_path / "archive")
    assert new.get("A").superseded_by == "B"
    assert new.get("D").product.cloud_cover == 2.0
