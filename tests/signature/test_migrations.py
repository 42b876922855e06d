"""A store of an earlier version comes up to date with all that it knows, while its readers go on."""

from __future__ import annotations

import sqlite3
import threading

import numpy as np
import pytest
import sqlalchemy as sa
from earthself.signature import filters
from earthself.signature.catalog import Catalog
from earthself.signature.errors import StoreBroken, Unavailable
from earthself.signature.product import from_feature
from earthself.signature.store import Store
from earthself.signature.tables import VERSION
from earthself.signature.testing import feature, layers
from older import make_older

CODES = np.repeat([[311], [211]], [30, 20], axis=0).repeat(60, axis=1).astype("uint16")


def put(store, name):
    with store.upload() as upload:
        for layer, content in layers(CODES).items():
            upload.path(layer).write_bytes(content)
        store.create(from_feature(feature(name, creation_date=f"2017-06-{len(name):02}T00:00:00Z")), upload, ())


def fill(home, *names):
    store = Store.open(home)
    for name in names:
        put(store, name)
    store.close()


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_all_products_come_along(tmp_path, revision):
    fill(tmp_path, "A", "BB", "CCC")
    before = Store(tmp_path)
    expected = list(before.find(filters.query()))
    before.close()
    make_older(tmp_path, revision)
    if revision == "0001":
        (tmp_path / "store-id").unlink()
    store = Store.open(tmp_path)
    assert list(store.find(filters.query())) == expected
    for asked, names in (
        ({"wkt": "POINT(15.004 48.75)", "categories": ["21"]}, ["CCC", "BB", "A"]),
        ({"wkt": "POINT(16 48.75)"}, []),
        ({"categories": ["5"]}, []),
    ):
        assert [hit.product.product_id for hit in store.find(filters.query(**asked))] == names
    shares = {code.code: code for code in store.get("A").codes}
    assert shares[311].pixels == 1800
    assert shares[311].share == pytest.approx(0.6)
    assert shares[311].hectares == pytest.approx(18.0, rel=1e-3)
    assert store.path(store.get("A"), "segmentation").is_file()
    store.close()


def test_readers_go_on_while_the_tables_are_brought_up_to_date(tmp_path):
    fill(tmp_path, "A", "BB")
    make_older(tmp_path, "0002")
    database = tmp_path / "earthsignature.sqlite"
    in_the_middle, go_on = threading.Event(), threading.Event()
    reader = sqlite3.connect(database, timeout=0)
    listing = "SELECT product_id FROM product ORDER BY product_id"
    assert reader.execute(listing).fetchall() == [("A",), ("BB",)]

    def pause(_connection, _cursor, statement, *_):
        if statement.startswith("DROP TABLE"):
            in_the_middle.set()
            assert go_on.wait(30)

    catalog = Catalog(f"sqlite:///{database}")
    sa.event.listen(catalog._dialect.engine, "after_cursor_execute", pause)
    migrating = threading.Thread(target=catalog.migrate)
    migrating.start()
    assert in_the_middle.wait(30)
    try:
        assert reader.execute(listing).fetchall() == [("A",), ("BB",)]
    finally:
        go_on.set()
        migrating.join(30)
    assert reader.execute(listing).fetchall() == [("A",), ("BB",)]
    assert reader.execute("SELECT version_num FROM signature_version").fetchall() == [(VERSION,)]
    reader.close()
    catalog.close()


def test_a_program_that_the_tables_have_outgrown_reads_but_does_not_write(open_store, tmp_path):
    store = open_store(tmp_path)
    put(store, "A")
    with store.catalog._writing() as connection:
        connection.execute(sa.text("UPDATE signature_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match=f"brought to version 9999 and this program writes {VERSION}"):
        put(store, "B")
    assert [hit.product.product_id for hit in store.find(filters.query())] == ["A"]


def test_a_store_of_an_earlier_version_is_told_to_migrate_first(tmp_path):
    fill(tmp_path, "A")
    make_older(tmp_path, "0002")
    with pytest.raises(StoreBroken, match="of version 0002, this program knows"):
        Store.existing(tmp_path)
    Store.open(tmp_path).close()
    Store.existing(tmp_path).close()
