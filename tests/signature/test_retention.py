"""What a rule lets go is listed first, and removed with its rasters while readers go on; and what is left is counted and drawn."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import matplotlib.image
import numpy as np
import pytest
from earthself.signature import filters, retention
from earthself.signature.cli import app
from earthself.signature.errors import BadSignature
from earthself.signature.product import from_feature
from earthself.signature.retention import Rule
from earthself.signature.testing import feature, layers
from typer.testing import CliRunner

CODES = np.full((50, 60), 312, "uint16")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(open_store, tmp_path):
    made = open_store(tmp_path / "home")
    for name, created, cloud in (
        ("old", "2016-01-01", 5),
        ("new", "2025-06-01", 5),
        ("newer", "2025-06-01", 10),
        ("cloudy", "2025-07-01", 95),
    ):
        with made.upload() as upload:
            for layer, content in layers(CODES).items():
                upload.path(layer).write_bytes(content)
            made.create(from_feature(feature(name, creation_date=f"{created}T00:00:00Z", cloud_cover=cloud)), upload, ())
    made.supersede("new", "newer")
    return made


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (Rule(acquired_before=timedelta(days=1825)), {"old"}),
        (Rule(cloudier_than=80), {"cloudy"}),
        (Rule(superseded=True), {"new"}),
        (Rule(superseded=True, cloudier_than=80), set()),
        (Rule(cloudier_than=4), {"old", "new", "newer", "cloudy"}),
        (Rule(product_type="S2MSI1C"), set()),
        (Rule(without_segmentation=True), set()),
    ],
)
def test_all_that_a_rule_says_must_hold(store, rule, gone):
    assert {s.product.product_id for s in retention.expired(store, rule, NOW)} == gone
    folders = {s.product.product_id: store.home / "products" / s.folder for s in store.find(filters.query())}
    assert retention.remove(store, rule, NOW, lambda _: None) == len(gone)
    assert {s.product.product_id for s in store.find(filters.query())} == folders.keys() - gone
    assert {name for name, folder in folders.items() if not folder.exists()} == gone
    assert list((store.home / "staging").iterdir()) == []
    assert {s.product.product_id for s in store.find(filters.query(wkt="POINT(15.004 48.75)", categories=["3"]))} == folders.keys() - gone


def test_a_product_whose_successor_is_gone_stays(store):
    store.delete("newer")
    assert list(retention.expired(store, Rule(superseded=True), NOW)) == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(), "would remove everything"),
        (Rule(acquired_before=timedelta(days=-1)), "above 0"),
        (Rule(cloudier_than=101), "from 0 to 100"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(store, rule, said):
    with pytest.raises(BadSignature, match=said):
        next(retention.expired(store, rule, NOW))


def test_the_command_lists_first_and_removes_when_told(store, new_database, monkeypatch):
    monkeypatch.setenv("EARTHSELF_SIGNATURE_HOME", str(store.home))
    monkeypatch.setenv("EARTHSELF_SIGNATURE_DATABASE_URL", store.catalog._dialect.engine.url.render_as_string(hide_password=False))
    run = CliRunner().invoke
    listed = run(app, ["retain", "--cloudier-than", "80"])
    assert listed.stdout.splitlines() == ["2025-07-01  cloudy", "1 products would go; remove them with --apply"]
    assert json.loads(run(app, ["retain", "--cloudier-than", "80", "--apply", "--json"]).stdout) == {"removed": 1}
    assert run(app, ["retain", "--cloudier-than", "80", "--json"]).stdout == ""
    assert run(app, ["retain"]).exit_code == 65


def test_counted_and_drawn(store, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_SIGNATURE_HOME", str(store.home))
    monkeypatch.setenv("EARTHSELF_SIGNATURE_DATABASE_URL", store.catalog._dialect.engine.url.render_as_string(hide_password=False))
    picture = tmp_path / "coverage.png"
    said = json.loads(CliRunner().invoke(app, ["stats", "--json", "--plot", str(picture)]).stdout)
    assert (said["products"], said["segmented"], said["superseded"], said["products_with_code"]) == (4, 4, 1, {"312": 4})
    assert said["hectares_of_code"]["312"] == pytest.approx(4 * 30.0, rel=1e-3)
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (990, 1100)
    green = (np.abs(pixels[..., :3] - np.array([0x2A, 0x7F, 0x62]) / 255) < 0.02).all(axis=-1)
    assert green.sum() > 500  # the bars of months with a segmentation


def test_a_chain_of_reprocessings_goes_but_for_its_newest(store, monkeypatch):
    monkeypatch.setattr(retention, "_PAGE", 1)
    store.supersede("newer", "cloudy")  # which is listed before "new"
    assert retention.remove(store, Rule(superseded=True), NOW, lambda _: None) == 2
    assert {s.product.product_id for s in store.find(filters.query())} == {"old", "cloudy"}


def test_products_do_not_supersede_each_other_in_a_circle(store):
    for old, newer in (("new", "new"), ("newer", "new")):
        with pytest.raises(BadSignature, match=r"cannot supersede itself|is superseded by"):
            store.supersede(old, newer)
    store.supersede("newer", "cloudy")
    with pytest.raises(BadSignature, match=r"cannot supersede itself|is superseded by"):
        store.supersede("cloudy", "new")
    assert {s.product.product_id for s in retention.expired(store, Rule(superseded=True), NOW)} == {"new", "newer"}


@pytest.mark.parametrize("age", ["nan", "inf", "0", "-1", "1e12", "900000"])
def test_an_age_beyond_the_calendar_is_refused(store, monkeypatch, age):
    monkeypatch.setenv("EARTHSELF_SIGNATURE_HOME", str(store.home))
    monkeypatch.setenv("EARTHSELF_SIGNATURE_DATABASE_URL", store.catalog._dialect.engine.url.render_as_string(hide_password=False))
    done = CliRunner().invoke(app, ["retain", "--acquired-before", age])
    assert (done.exit_code, "is no rule" in done.output) == (65, True)


def test_the_years_of_the_calendar_are_drawn(open_store, tmp_path):
    from earthself.signature.coverage import coverage_of, draw
    from earthself.signature.described import read_rows

    store = open_store(tmp_path / "calendar")
    dates = ("0001-01-01T00:00:00Z", "0001-03-01T00:00:00Z")
    store.catalog.insert_new(read_rows([json.dumps(feature(date, creation_date=date)).encode() for date in dates], NOW)[0])
    coverage = coverage_of(stored for batch in store.catalog.snapshot() for stored in batch)
    assert coverage.described == {"0001-01": 1, "0001-03": 1}
    draw(coverage, tmp_path / "picture.png")


def test_a_path_that_cannot_be_written_is_one_sentence(store, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_SIGNATURE_HOME", str(store.home))
    monkeypatch.setenv("EARTHSELF_SIGNATURE_DATABASE_URL", store.catalog._dialect.engine.url.render_as_string(hide_password=False))
    (tmp_path / "file").touch()
    for command in (["stats", "--plot", str(tmp_path / "no" / "x.png")], ["export", str(tmp_path / "file")]):
        done = CliRunner().invoke(app, command)
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert str(tmp_path) in done.stderr


def test_a_single_small_product_is_seen_on_a_map_of_the_world(open_store, tmp_path):
    from earthself.signature.coverage import coverage_of, draw
    from earthself.signature.described import read_rows
    from shapely.geometry import box, mapping

    store = open_store(tmp_path / "world")
    at = ((-170, -60), (100, 20), (170, 70), (15, 48))
    documents = [feature(f"{west}") | {"geometry": mapping(box(west, south, west + 0.01, south + 0.01))} for west, south in at]
    store.catalog.insert_new(read_rows([json.dumps(document).encode() for document in documents], NOW)[0])
    draw(coverage_of(stored for batch in store.catalog.snapshot() for stored in batch), tmp_path / "picture.png")
    pixels = matplotlib.image.imread(tmp_path / "picture.png")[:600, :740, :3]
    violet = (np.abs(pixels - np.array([0x44, 0x01, 0x54]) / 255) < 0.05).all(axis=-1)  # one product
    assert violet.sum() >= 4 * 4
