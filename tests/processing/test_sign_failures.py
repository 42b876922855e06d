"""`sign` and its parts when products, providers or requests are at fault: what is lost, what is tried again, what is said."""

from __future__ import annotations

import functools
import json
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from earthself.data.broker import BrokerAway, Resting
from earthself.data.errors import TryAgain
from earthself.data.sources import SourceConfig
from earthself.processing.batch import each_item
from earthself.processing.meter import Meter
from earthself.processing.step import StepContext
from earthself.processing.steps.fetch import fetch
from earthself.processing.steps.mask import mask
from earthself.processing.steps.segment import segment
from earthself.processing.steps.sign import sign
from products import (
    layer,
    pixels_area,
    random_bands,
    run,
    scene,
    signatures,
)

pytestmark = pytest.mark.usefixtures("brightest")

BANDS = ("B04", "B11", "B09")
LAYERS = ("segmentation", "confidence", "flags", "cloud_mask")


def test_a_product_that_the_area_does_not_touch_is_skipped_not_lost(products, tmp_path):
    products.add("P", scene())
    products.set_area([-70, -20, -69, -19])
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["metrics"]["skipped"], result["metrics"]["failed"]) == (0, "nothing", 1, 0)
    assert "do not touch the area" in result["message"]
    assert json.loads((tmp_path / "out" / "failures.json").read_text()) == []


def test_parts_in_the_wrong_order_say_what_to_run(products, tmp_path):
    products.add("P", scene())
    run(fetch, products.folder, tmp_path / "fetched", "--model", "brightest", "--mask", "none")
    assert "run the step mask" in run(segment, tmp_path / "fetched", tmp_path / "a", "--model", "brightest")[1]["message"]
    assert "from the step fetch" in run(mask, products.folder, tmp_path / "b")[1]["message"]


def test_one_bad_product_costs_only_itself(products, tmp_path):
    for name in ("A", "B", "C", "D"):
        products.add(name, scene(height=300, width=280))
    (products.folder / "B" / "B11.tif").write_bytes(b"not a raster")
    document = json.loads((products.folder / "C" / "C.json").read_text())
    del document["assets"]["B09"]
    (products.folder / "C" / "C.json").write_text(json.dumps(document))
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["outputs"], result["metrics"]["failed"]) == (0, "done", 2, 2)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [(each["id"], each["retry"]) for each in failures] == [("B", False), ("C", False)]
    assert "B09" in failures[1]["error"]
    assert sorted(signatures(tmp_path / "out")) == ["A", "D"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A", "D", "catalog.json", "failures.json"]
    assert any("product B was lost" in warning for warning in result["warnings"])


def test_when_all_are_lost_the_result_says_the_first_reason(products, tmp_path):
    products.add("A", {band: array for band, array in scene(height=300, width=280).items() if band != "B09"})
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["outputs"]) == (0, "nothing", 0)
    assert "the first, A: " in result["message"]
    assert "B09" in result["message"]
    assert len(json.loads((tmp_path / "out" / "failures.json").read_text())) == 1


def test_bands_that_do_not_share_a_grid_are_refused(products, tmp_path):
    bands = scene(height=300, width=280)
    products.add("A", bands | {"B11": bands["B11"][:100]})
    message = run(sign, products.folder, tmp_path / "out", "--model", "brightest")[1]["message"]
    assert "B11 of product A (EPSG:32633, 20 m, 140 x 100) is not on the product's grid (EPSG:32633, 10 m, 280 x 300)" in message


def test_mixed_baselines_never_pass_silently(products, tmp_path):
    products.add("A", random_bands(300, 280, BANDS), **{"earthself:baseline": "N0209"})
    products.add("B", random_bands(300, 280, BANDS, seed=2), **{"earthself:baseline": "N0214"})
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "none")[1]
    assert any("baselines N0209, N0214 are mixed" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--model", "nobody"], "nobody"), (["--dilate", "301"], "300"), (["--retries", "99"], "0 to 10")]
)
def test_what_no_product_could_be_signed_with_is_bad_input(products, tmp_path, arguments, said):
    products.add("A", scene(height=300, width=280))
    code, result = run(
        sign, products.folder, tmp_path / "out", *(["--model", "brightest"] if "--model" not in arguments else []), *arguments
    )
    assert code == 65
    assert said in result["message"]


def test_what_may_pass_is_tried_again_within_a_budget(products, tmp_path):
    for name in "ABC":
        products.add(name, {"B04": np.ones((4, 4), np.uint16)})
    waited: list[float] = []
    attempts = dict.fromkeys("ABC", 0)

    def work(item):
        attempts[item.id] += 1
        if item.id == "A" and attempts["A"] < 3:
            raise TryAgain("busy")
        if item.id != "A":
            raise TryAgain("always busy")
        return item

    (tmp_path / "out").mkdir()
    context = StepContext("test", products.folder, tmp_path / "out", tmp_path, 1)
    result = each_item(context, work, Meter(), retries=10, sleep=waited.append)
    assert attempts["A"] == 3
    assert waited[:2] == [2, 8]
    assert sum(waited) <= 120
    assert result.metrics["seconds_waiting"] == sum(waited)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert failures == [{"id": name, "error": "always busy", "retry": True} for name in "BC"]


def test_a_provider_that_all_leave_alone_is_waited_for_as_long_as_it_takes(products, tmp_path):
    products.add("A", {"B04": np.ones((4, 4), np.uint16)})
    waited: list[float] = []

    def work(item):
        if not waited:
            raise Resting("left alone", 30.0)
        return item

    (tmp_path / "out").mkdir()
    result = each_item(StepContext("test", products.folder, tmp_path / "out", tmp_path, 1), work, Meter(), retries=2, sleep=waited.append)
    assert (result.status, waited) == ("done", [30.0])


def test_a_broker_that_is_away_is_no_products_fault(products, tmp_path):
    for name in "AB":
        products.add(name, {"B04": np.ones((4, 4), np.uint16)})
    asked, waited = [], []

    def work(item):
        asked.append(item.id)
        raise BrokerAway("the download broker does not answer")

    (tmp_path / "out").mkdir()
    with pytest.raises(BrokerAway):
        each_item(StepContext("test", products.folder, tmp_path / "out", tmp_path, 1), work, Meter(), retries=2, sleep=waited.append)
    assert (len(asked), waited) == (1, [])
    assert not (tmp_path / "out" / "failures.json").exists()


class _Ranges(SimpleHTTPRequestHandler):
    """Serves byte ranges, and says 503 for products called `busy`."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        path = Path(self.translate_path(self.path))
        if "/busy/" in self.path or not path.is_file():
            self.send_error(503 if "/busy/" in self.path else 404)
            return
        data = path.read_bytes()
        start, end = 0, len(data) - 1
        if match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or end), end)
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(products):
    handler = functools.partial(_Ranges, directory=str(products.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """Provider settings that ask once."""
    settings = tmp_path / "sources.json"
    settings.write_text(SourceConfig(providers=("sample",), attempts=1).to_json())
    settings.chmod(0o600)
    monkeypatch.setenv("EARTHSELF_SOURCES", str(settings))


def test_a_remote_product_is_read_by_ranges_and_its_address_keeps_no_secret(products, tmp_path, server, impatient):
    products.add("P", scene())
    products.add("busy", scene(seed=2))
    products.set_area(pixels_area(600, 530, 20, 10))
    run(sign, products.folder, tmp_path / "local", "--model", "brightest")
    for path in products.folder.glob("*/*.json"):
        path.write_text(re.sub(r'"href": "[^"]*/(\w+)/(\w+\.tif)"', rf'"href": "{server}/\1/\2?token=hush"', path.read_text()))
    result = run(sign, products.folder, tmp_path / "remote", "--model", "brightest", "--retries", "0")[1]
    assert (result["outputs"], result["metrics"]["failed"]) == (1, 1)
    whole = sum(path.stat().st_size for path in (products.folder / "P").glob("*.tif"))
    assert 0 < result["metrics"]["bytes_read"] < whole
    assert all("token=hush" in asked for asked in _Ranges.asked)
    failure = json.loads((tmp_path / "remote" / "failures.json").read_text())[0]
    assert (failure["id"], failure["retry"]) == ("busy", True)
    for path in (tmp_path / "remote").rglob("*.json"):
        assert "hush" not in path.read_text()
    name = "P_W512-512-512-512"
    one, other = signatures(tmp_path / "local")[name], signatures(tmp_path / "remote")[name]
    for key in LAYERS:
        np.testing.assert_array_equal(layer(one, key), layer(other, key), err_msg=key)
    hashes = [{each["asset"]: each["sha256"] for each in item.properties["earthself:inputs"]} for item in (one, other)]
    assert hashes[0] == hashes[1]
