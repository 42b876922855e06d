"""A database and its folder of rasters belong together: a mistyped address of either, or an older backup, costs no raster."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3

import numpy as np
import pytest
from earthself.signature.errors import StoreBroken
from earthself.signature.filters import Query
from earthself.signature.product import from_feature
from earthself.signature.shelves import Shelves
from earthself.signature.store import Store
from earthself.signature.testing import feature, layers
from older import make_older
from typer.testing import CliRunner

RASTERS = layers(np.full((50, 60), 311, "uint16"))


def put(store, *names):
    for name in names:
        with store.upload() as upload:
            for layer, content in RASTERS.items():
                upload.path(layer).write_bytes(content)
            store.create(from_feature(feature(name)), upload, RASTERS)


def filled(home, *names, url=None):
    """Make a store with those products and close it."""
    store = Store.open(home, url)
    put(store, *names)
    store.close()


def whole(home, url=None):
    """Open a store; gives the ids of its products, whose files must all be there."""
    store = Store.open(home, url)
    found = list(store.find(Query()))
    assert all(store.path(product, layer).is_file() for product in found for layer in RASTERS)
    store.close()
    return sorted(product.product.product_id for product in found)


def without_ids(home):
    """Make a store what it was before there were ids."""
    (home / "store-id").unlink()
    make_older(home, "0001")


def test_a_mistyped_database_deletes_nothing_and_is_not_made(tmp_path):
    home, mistyped = tmp_path / "home", tmp_path / "typo.sqlite"
    filled(home, "A", "B")
    with pytest.raises(
        StoreBroken, match=r"home \(rasters of 2 products\) and the database sqlite:.*typo\.sqlite \(0 products\) do not belong"
    ):
        Store.open(home, f"sqlite:///{mistyped}")
    assert not mistyped.exists()
    assert whole(home) == ["A", "B"]


def test_the_server_says_so_in_one_sentence(tmp_path):
    from earthself.signature.cli import app

    filled(tmp_path / "home", "A")
    for command in (["serve", "--port", "0"], ["migrate"]):
        done = CliRunner().invoke(app, [*command, "--home", str(tmp_path / "home"), "--database-url", f"sqlite:///{tmp_path}/typo.sqlite"])
        assert done.exit_code == 1
        assert done.output.count("\n") == 1
        assert "do not belong together; give the --home and the --database-url" in done.output
    assert whole(tmp_path / "home") == ["A"]


def test_the_database_of_another_store_is_refused_from_both_sides(tmp_path):
    filled(tmp_path / "one", "A")
    filled(tmp_path / "two", "B", "C")
    for home, other in (("one", "two"), ("two", "one"), ("new", "one")):
        with pytest.raises(StoreBroken, match=f"{home} .*{other}/earthsignature.sqlite .* do not belong together"):
            Store.open(tmp_path / home, f"sqlite:///{tmp_path / other}/earthsignature.sqlite")
    assert (whole(tmp_path / "one"), whole(tmp_path / "two")) == (["A"], ["B", "C"])


def test_a_deleted_database_is_not_made_up(tmp_path):
    filled(tmp_path, "A")
    (tmp_path / "earthsignature.sqlite").unlink()
    with pytest.raises(StoreBroken, match="restore the one that was lost from a backup"):
        Store.open(tmp_path)
    assert len(Shelves(tmp_path).places()) == 1
    assert not (tmp_path / "earthsignature.sqlite").exists()


def test_an_empty_folder_and_an_empty_database_become_a_pair_and_leave_their_former_partners(tmp_path):
    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    filled(tmp_path / "first", url=url)
    filled(tmp_path / "second", "A", url=url)
    with pytest.raises(StoreBroken, match="do not belong together"):
        Store.open(tmp_path / "first", url)
    assert whole(tmp_path / "second", url) == ["A"]


def test_a_store_from_before_there_were_ids_gets_one(tmp_path):
    filled(tmp_path, "A")
    without_ids(tmp_path)
    assert whole(tmp_path) == ["A"]
    kept = (tmp_path / "store-id").read_text()
    assert len(kept.strip()) == 32
    assert whole(tmp_path) == ["A"]
    assert (tmp_path / "store-id").read_text() == kept


def test_a_folder_restored_without_its_id_gets_it_back(tmp_path):
    filled(tmp_path, "A")
    kept = (tmp_path / "store-id").read_text()
    (tmp_path / "store-id").unlink()
    assert whole(tmp_path) == ["A"]
    assert (tmp_path / "store-id").read_text() == kept


def test_an_older_backup_of_the_database_costs_no_raster(tmp_path, caplog):
    home, backup, newer = tmp_path / "home", tmp_path / "backup.sqlite", tmp_path / "newer.sqlite"
    database = home / "earthsignature.sqlite"
    filled(home, "A")
    shutil.copy(database, backup)
    filled(home, "B", "C")
    places = Shelves(home).places()
    shutil.copy(database, newer)
    shutil.copy(backup, database)
    with caplog.at_level(logging.WARNING):
        assert whole(home) == ["A"]
    assert "2 products are in" in caplog.text
    assert len(list((home / "lost").glob("*/*/segmentation.tif"))) == 2
    # The newer one is found after all.
    shutil.copy(newer, database)
    assert whole(home) == ["A", "B", "C"]
    assert Shelves(home).places() == places
    assert list((home / "lost").rglob("*.tif")) == []


def test_what_an_interrupted_call_left_is_still_removed(tmp_path):
    filled(tmp_path, "A")
    shelves = Shelves(tmp_path)
    folder = tmp_path / "staging" / "made"
    folder.mkdir()
    (folder / "segmentation.tif").write_bytes(b"x")
    shelves.move_in([folder], ["2020-01/B-00000000"])
    assert len(shelves.places()) == 2
    assert whole(tmp_path) == ["A"]
    assert len(shelves.places()) == 1
    assert not (tmp_path / "lost").exists()
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_row_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    store = Store.open(tmp_path)

    def broken(_stored, **_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store.catalog, "put", broken)
    with pytest.raises(sqlite3.OperationalError):
        put(store, "A")
    assert Shelves(tmp_path).places() == set()
    assert list((tmp_path / "staging").iterdir()) == []
    store.close()


def test_stats_make_no_database(tmp_path):
    from earthself.signature.cli import app

    done = CliRunner().invoke(app, ["stats", "--home", str(tmp_path), "--database-url", f"sqlite:///{tmp_path}/typo.sqlite"])
    assert done.exit_code == 69
    assert "typo.sqlite holds no store" in done.output
    assert list(tmp_path.iterdir()) == []


def test_no_command_beside_a_server_takes_the_database_of_another_store(tmp_path):
    from earthself.signature.cli import app

    filled(tmp_path / "one", "A")
    filled(tmp_path / "two", "B", "C")
    described = tmp_path / "d.ndjson"
    described.write_text(json.dumps(feature("D")))
    for home in ("one", "nowhere"):
        wrong = ["--home", str(tmp_path / home), "--database-url", f"sqlite:///{tmp_path}/two/earthsignature.sqlite"]
        for command in (
            ["retain", "--cloudier-than", "1", "--apply"],
            ["export", str(tmp_path / "archive")],
            ["stats"],
            ["ingest", "--metadata-only", str(described)],
        ):
            done = CliRunner().invoke(app, [*command, *wrong])
            assert done.exit_code == 1
            assert "do not belong together; give the --home and the --database-url" in done.output
    assert (whole(tmp_path / "one"), whole(tmp_path / "two")) == (["A"], ["B", "C"])
    assert not (tmp_path / "archive").exists()
