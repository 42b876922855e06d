"""The command: what it prints for people and for machines, its files, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from earthself.signature.cli import app
from earthself.signature.lazy import pixels_of
from earthself.signature.tables import VERSION
from earthself.signature.testing import feature, geotiff, layers
from typer.testing import CliRunner

CODES = np.full((50, 60), 312, "uint16")


@pytest.fixture(autouse=True)
def home(server, database_url, monkeypatch):
    monkeypatch.setenv("EARTHSELF_SIGNATURE_DATABASE_URL", database_url)
    monkeypatch.setenv("EARTHSELF_SIGNATURE_SERVER", server.target)
    monkeypatch.setenv("EARTHSELF_SIGNATURE_HOME", str(server.log.parent / "home"))
    monkeypatch.delenv("EARTHSELF_SIGNATURE_TOKEN", raising=False)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(folder, **contents):
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.tif"
        paths[name].write_bytes(content)
    return paths


def test_a_server_is_asked_whether_it_can_do_its_work(server):
    assert run("health").stdout == f"{server.target} serves\n"
    assert lines(run("health", "--json")) == [{"server": server.target, "serving": True}]
    assert "127.0.0.1:1 does not answer" in run("health", "--server", "127.0.0.1:1", code=75).output


def test_a_feature_and_its_rasters_go_in_and_come_out(tmp_path):
    paths = write(tmp_path, **layers(CODES), flags=geotiff(np.zeros((50, 60), "uint8")))
    document = tmp_path / "product.geojson"
    document.write_text(json.dumps(feature("cli/1", model="baseline:1")))
    options = ["--segmentation", paths["segmentation"], "--cloud-mask", paths["cloud_mask"], "--flags", paths["flags"]]
    assert run("ingest", document, *options).stdout == f"created  {document}\n"
    assert lines(run("ingest", document, *options, "--json")) == [{"file": str(document), "id": "cli/1", "outcome": "known"}]
    assert "2017-06-13T10:10:31Z         12.5 %  cli/1\n" in run("list", "--category", 31, "--start", "2017-01-01", "--limit", 5).stdout
    (found,) = lines(run("list", "--id", "cli/1", "--json"))
    assert found["properties"]["model"] == "baseline:1"
    (written,) = lines(run("get", "cli/1", "--output", tmp_path / "out", "--json"))
    assert written.keys() == {"feature", "segmentation", "cloud_mask", "flags"}
    assert (pixels_of((tmp_path / "out" / "cli_1_segmentation.tif").read_bytes()) == CODES).all()
    assert json.loads((tmp_path / "out" / "cli_1.geojson").read_text()) == found
    assert len(list((tmp_path / "out").iterdir())) == 4


def item(folder, name, **properties):
    write(folder, **layers(CODES), confidence=geotiff(np.full((50, 60), 50, "uint8")))
    said = {
        "datetime": "2018-01-02T10:00:00Z",
        "published": "2018-01-03T00:00:00Z",
        "earthself:reused": True,
        "eo:cloud_cover": 3,
        "earthself:collection": "S2_MSI_L2A",
        "earthself:model": "baseline:1.0",
        "earthself:legend": "clc:3",
        "earthself:clear_fraction": 0.5,
        "earthself:inputs": [{"asset": "B04", "href": "x"}],
        "earthself:offset": None,
        "proj:code": "EPSG:32633",
        **properties,
    }
    assets = {layer: {"href": f"./{layer}.tif"} for layer in ("segmentation", "cloud_mask", "confidence")}
    document = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": feature("x")["geometry"],
        "properties": said,
        "links": [],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**document, "assets": {**assets, "thumbnail": {"href": "https://example.org/t.png"}}}))
    return path


def test_stac_items_go_in_with_what_decides_about_reuse(tmp_path):
    run("ingest", item(tmp_path, "item1"))
    (found,) = lines(run("list", "--id", "item1", "--json"))
    assert found["properties"] == {
        "creation_date": "2018-01-02T10:00:00Z",
        "publication_date": "2018-01-03T00:00:00Z",
        "product_type": "S2MSI2A",
        "cloud_cover": 3,
        "quicklook": "https://example.org/t.png",
        "browse_url": "",
        "download_url": "",
        "model": "baseline:1.0",
        "legend": "clc:3",
        "earthself:collection": "S2_MSI_L2A",
        "earthself:model": "baseline:1.0",
        "earthself:legend": "clc:3",
        "earthself:clear_fraction": 0.5,
        "earthself:inputs": [{"asset": "B04", "href": "x"}],
    }
    (written,) = lines(run("get", "item1", "--layer", "confidence", "-o", tmp_path / "out", "--json"))
    assert written.keys() == {"feature", "confidence"}


def test_one_bad_item_does_not_stop_the_others(tmp_path):
    (tmp_path / "a").mkdir()
    good, bad = item(tmp_path, "item2"), item(tmp_path / "a", "item3", **{"eo:cloud_cover": None, "earthself:clear_fraction": None})
    result = run("ingest", bad, good, tmp_path / "none.json", "--json", code=65)
    first, second, third = lines(result)
    assert (first["outcome"], second["outcome"], third["outcome"]) == ("failed", "created", "failed")
    assert "cloud_cover are missing" in first["error"]
    assert "cannot be read" in third["error"]


def test_clouds_are_those_of_the_mask_where_the_provider_says_nothing(tmp_path):
    run("ingest", item(tmp_path, "item6", **{"eo:cloud_cover": None, "earthself:clear_fraction": 0.75}))
    (found,) = lines(run("list", "--id", "item6", "--json"))
    assert found["properties"]["cloud_cover"] == 25


def test_remote_assets_are_not_guessed(tmp_path):
    path = item(tmp_path, "item4")
    document = json.loads(path.read_text())
    document["assets"]["segmentation"]["href"] = "https://example.org/s.tif"
    path.write_text(json.dumps(document))
    assert "download it first" in run("ingest", path, code=65).stdout


def test_stats_count_beside_the_running_server(tmp_path):
    run("ingest", item(tmp_path, "item5", datetime="2016-01-02T10:00:00Z"))
    (found,) = lines(run("stats", "--json"))
    assert found["products"] == len(lines(run("list", "--json")))
    assert found["first"] == "2016-01-02T10:00:00Z"
    assert found["products_with_code"]["312"] >= 1
    assert found["bytes"] > 1000
    assert "312  in " in run("stats").stdout
    assert "holds no store" in run("stats", "--database-url", f"sqlite:///{tmp_path}/none.sqlite", code=69).output


def test_exit_codes_say_whose_fault_it_is(tmp_path, monkeypatch):
    assert "'nobody' is not stored" in run("get", "nobody", code=69).output
    assert "cannot be read" in run("list", "--wkt", "POLYGON((", code=65).output
    run("list", "--limit", "many", code=2)
    run("ingest", code=2)
    gone = json.loads(run("list", "--server", "127.0.0.1:9", "--json", code=75).stderr)
    assert gone["retry"] is True
    assert "127.0.0.1:9 does not answer" in gone["error"]
    assert lines(run("migrate", "--json")) == [{"before": VERSION, "after": VERSION}]  # beside the server
    monkeypatch.delenv("EARTHSELF_SIGNATURE_DATABASE_URL")
    assert lines(run("migrate", "--home", tmp_path / "new", "--json")) == [{"before": None, "after": VERSION}]
    assert run("migrate", "--home", tmp_path / "new").stdout == f"tables at version {VERSION}\n"


def test_a_port_in_use_is_said(server, tmp_path, monkeypatch):
    port = server.target.split(":")[1]
    command = [sys.executable, "-m", "earthself.signature", "serve", "--port", port, "--home", str(tmp_path / "other"), "--json"]
    monkeypatch.delenv("EARTHSELF_SIGNATURE_DATABASE_URL")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in json.loads(done.stderr.splitlines()[-1])["error"]
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["serve", "list", "get", "ingest", "stats", "migrate"])
def test_every_command_has_help_and_json(command):
    assert "--json" in run(command, "--help").output
