"""Products that are only described: in bulk, twice, in the middle of a kill; found by all that is said of them, never segmented."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import shapely
from earthself.data.errors import EarthSelfError
from earthself.signature import filters
from earthself.signature.bulk import describe
from earthself.signature.described import read_rows
from earthself.signature.product import from_feature
from earthself.signature.rows import Stored, rows_of
from earthself.signature.store import Store
from earthself.signature.testing import GRID, feature, layers
from hypothesis import example, given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODES = np.full((50, 60), 312, "uint16")


def described(name, *, west=15.0, south=48.0, side=1.0, created="2017-06-13T10:10:31Z", counts=None, **properties):
    made = feature(name, creation_date=created, **properties)
    made["geometry"] = shapely.geometry.mapping(shapely.box(west, south, west + side, south + side))
    if counts:
        made["properties"]["classification:classes"] = [{"value": code, "count": n} for code, n in counts.items()]
    return made


def lines(path, documents):
    text = "".join(json.dumps(document) + "\n" for document in documents).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def take(store, *files):
    return describe(store.catalog, files, lambda _: None)


def names(store, **asked):
    return [hit.product.product_id for hit in store.find(filters.query(**asked))]


def test_descriptions_are_found_by_place_time_class_and_share(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    file = lines(
        tmp_path / "all.ndjson",
        [
            described("forest", counts={311: 70, 312: 20, 211: 10}),
            described("fields", west=15.5, counts={211: 900, 311: 100}, created="2017-07-01T00:00:00Z"),
            described("unknown", west=20.0),
        ],
    )
    counts = take(store, file)
    assert (counts.read, counts.created, counts.known, counts.failed) == (3, 3, 0, 0)
    assert names(store) == ["fields", "unknown", "forest"] or names(store) == ["fields", "forest", "unknown"]
    assert names(store, categories=["31"]) == ["fields", "forest"]
    assert names(store, categories=["31"], least_share=0.9) == ["forest"]
    assert names(store, categories=["31"], least_share=0.91) == []
    assert names(store, categories=["2"], least_share=0.1) == ["fields", "forest"]
    assert names(store, wkt="POINT(15.6 48.5)", categories=["2"], least_share=0.5) == ["fields"]
    assert names(store, segmented=True) == []
    (share,) = [code for code in store.get("forest").codes if code.code == 311]
    assert (share.pixels, share.hectares) == (70, None)
    assert share.share == pytest.approx(0.7)


def test_all_kinds_of_files(open_store, tmp_path):
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    store = open_store(tmp_path / "home")
    item = json.loads(Path("../shared/data/stac_items/S2A_28QCH_20200714_0_L2A.json").read_text())
    collection = tmp_path / "collection.json"
    collection.write_text(json.dumps({"type": "FeatureCollection", "features": [described("C1"), described("C2")]}, indent=2))
    one = tmp_path / "one.json"
    one.write_text(json.dumps(item, indent=2))
    table = tmp_path / "items.parquet"
    to_parquet(parse_stac_items_to_arrow([item | {"id": f"Q{n}"} for n in range(3)]), table)
    counts = take(store, lines(tmp_path / "zipped.ndjson.gz", [described("Z")]), collection, one, table)
    assert counts.errors == []
    assert sorted(names(store)) == sorted(["C1", "C2", "Q0", "Q1", "Q2", "S2A_28QCH_20200714_0_L2A", "Z"])
    stored = store.get("Q1").product
    assert stored.footprint.equals(shapely.geometry.shape(item["geometry"]))
    assert stored.creation_date == datetime.fromisoformat(item["properties"]["datetime"])


def test_again_is_known_and_other_content_is_said(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    file = lines(tmp_path / "a.ndjson", [described("A"), described("B"), described("B")])
    assert (take(store, file).created, take(store, file).known) == (2, 3)
    other = lines(tmp_path / "b.ndjson", [described("A", west=3.0), described("C")])
    counts = take(store, other)
    assert (counts.created, counts.failed) == (1, 1)
    assert counts.errors == [f"{other}: product A is described already with other content; use another id, or keep what is there"]
    assert names(store, wkt="POINT(3.5 48.5)") == []


def test_bad_lines_are_told_with_file_and_line_and_the_others_go_on(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    file = lines(
        tmp_path / "a.ndjson",
        [
            described("good"),
            described("late", created="yesterday"),
            described("codes", counts={999: 5}),
            described("legend", counts={311: 5}, legend="clc:1"),
            {**described("swapped"), "geometry": {"type": "Polygon", "coordinates": [[[48, 120], [49, 120], [49, 121], [48, 120]]]}},
            {**described("nothing"), "geometry": None},
            described("good too"),
        ],
    )
    with file.open("ab") as more:
        more.write(b'{"type": "Feature", "id": \n\n')
    counts = take(store, file)
    assert sorted(names(store)) == ["good", "good too"]
    assert (counts.read, counts.failed) == (8, 6)
    for line, what in ((2, "'yesterday'"), (3, "999"), (4, "311"), (5, "were they swapped"), (6, "footprint"), (8, "is no JSON")):
        assert any(error.startswith(f"{file}:{line}: ") and what in error for error in counts.errors), (line, counts.errors)


rings = st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=3, max_size=6).map(lambda ring: [*ring, ring[0]])
boxes = st.builds(
    lambda x, y, w, h: shapely.box(x, y, x + w, y + h), st.floats(-190, 175), st.floats(-95, 85), st.floats(0, 9), st.floats(0, 9)
)
geometries = st.one_of(
    rings.map(lambda ring: {"type": "Polygon", "coordinates": [ring]}),
    boxes.map(shapely.geometry.mapping),
    st.tuples(boxes, boxes).map(lambda two: shapely.geometry.mapping(shapely.MultiPolygon([*two]))),
    st.just({"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]]}),
    st.sampled_from([None, {}, {"type": "Polygon"}, {"type": "Polygon", "coordinates": [[]]}, {"type": "Point", "coordinates": [1, 2]}]),
)


@settings(max_examples=60)
@example([shapely.geometry.mapping(shapely.box(-0.0, 0.0, 1.0, 1.0))])
@given(st.lists(geometries, min_size=1, max_size=5))
def test_many_at_once_are_what_each_would_be(shapes):
    features = [json.loads(json.dumps(feature(f"P{n}") | {"geometry": shape})) for n, shape in enumerate(shapes)]
    rows, bad = read_rows([json.dumps(one).encode() for one in features], NOW)
    expected, refused = [], []
    for number, one in enumerate(features):
        try:
            product = from_feature(one)
        except EarthSelfError as error:
            refused.append((number, str(error)))
        else:
            expected.append(Stored(product, (), None, product.digest(), None))
    assert rows == rows_of(expected, NOW)
    assert bad == refused


def test_a_killed_ingest_goes_on_where_it_was(open_store, new_database, tmp_path):
    url = new_database()
    Store.open(tmp_path / "home", url).close()
    file = lines(tmp_path / "many.ndjson", [described(f"P{n:05}", west=n % 20) for n in range(30_000)])
    command = [sys.executable, "-m", "earthself.signature", "ingest", "--metadata-only", "--home", str(tmp_path / "home")]
    command += ["--database-url", url, "--json", str(file)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    store = Store(tmp_path / "home", url)
    while killed.poll() is None and store.statistics().products == 0:
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)  # its processes have the other end of the pipe: they ended with it
    before = store.statistics().products
    assert before > 0
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(again.stdout)
    assert (said["known"], said["created"], said["failed"]) == (before, 30_000 - before, 0)
    assert store.statistics().products == 30_000
    assert len(names(store, wkt="POINT(3.5 48.5)")) == 1500
    store.close()


def test_readers_get_ids_but_no_segmentation_until_there_is_one(client, call, server, database_url, tmp_path):
    store = Store(server.log.parent / "home", database_url)
    take(store, lines(tmp_path / "a.ndjson", [described("soon", side=0.02, west=15.0, south=48.74, counts={211: 1})]))
    assert [p.product_id for p in call("v1.ListProductIds", wkt="POINT(15.01 48.75)")] == ["soon"]
    assert call("v1.ListSegmentation", product_ids=["soon"]) == call("v2.ListSegmentation", product_ids=["soon"]) == []
    assert [f["id"] for f in client.find(product_ids=["soon"])] == ["soon"]
    assert list(client.find(product_ids=["soon"], segmented=True)) == []
    with pytest.raises(EarthSelfError, match="only described, it has no segmentation"):
        client.get("soon", ["segmentation"])
    assert client.create(feature("soon", GRID), layers(CODES)) == "created"
    assert [p.product_id for p in call("v1.ListSegmentation", product_ids=["soon"])] == ["soon"]
    assert [f["id"] for f in client.find(product_ids=["soon"], categories=[312], least_share=1)] == ["soon"]
    assert list(client.find(product_ids=["soon"], categories=[211])) == []
    assert client.create(feature("soon", GRID), layers(CODES)) == "known"
    assert take(store, tmp_path / "a.ndjson").known == 1
    store.close()


def test_a_file_that_cannot_be_read_is_said(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    (tmp_path / "wrong.parquet").write_bytes(b"PAR1nothingPAR1")
    (tmp_path / "wrong.json").write_text("[1, 2")
    for name in ("none.ndjson", "wrong.parquet", "wrong.json"):
        with pytest.raises(EarthSelfError, match=name):
            take(store, tmp_path / name)


def test_no_part_of_a_file_is_left_out_in_silence(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    one, two = ({"type": "FeatureCollection", "features": [described(name)]} for name in ("one", "two"))
    with pytest.raises(EarthSelfError, match="goes on after its first collection"):
        take(store, lines(tmp_path / "two.ndjson", [one, two]))
    cut = lines(tmp_path / "cut.ndjson.gz", [described(f"P{n}") for n in range(50)])
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(EarthSelfError, match=r"cut\.ndjson\.gz cannot be read"):
        take(store, cut)
    marked = tmp_path / "marked.ndjson"
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(described("marked")).encode())
    assert take(store, marked).created == 1


def test_a_nul_is_refused_alike_on_both_databases(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    counts = take(store, lines(tmp_path / "nul.ndjson", [described("bad", product_type="S2\0"), described("good", note="a\0b")]))
    assert (counts.created, counts.failed) == (1, 1)
    assert "leave the NUL out" in counts.errors[0]
    with pytest.raises(EarthSelfError, match="has a NUL in it"):
        names(store, product_ids=["good\0"])
    assert names(store, product_ids=["good"]) == ["good"]


def test_a_histogram_that_cannot_be_stops_no_other_product(open_store, tmp_path):
    store = open_store(tmp_path / "home")
    documents = [described("good", counts={311: 5})]
    for name, classes in (
        ("huge", [{"value": 311, "count": 2**63}]),
        ("below", [{"value": 311, "count": 5, "hectares": -4}]),
        ("twice", [{"value": 311, "count": 5}, {"value": 311, "count": 7}]),
    ):
        documents.append(described(name))
        documents[-1]["properties"]["classification:classes"] = classes
    counts = take(store, lines(tmp_path / "odd.ndjson", documents))
    assert (counts.created, counts.failed) == (1, 3)
    assert names(store, categories=["311"]) == ["good"]
