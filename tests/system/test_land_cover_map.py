"""The main job on the real stack: an order over REST, its files checked by value, and what happens to orders that cannot be done."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet
import pytest
import rasterio
from earthself.client import BadInput, NotAllowed, Run, RunFailed
from earthself.local.sample import DATA
from pyproj import Geod
from shapely.geometry import box, mapping, shape

from tests.system.running import DAY, Started, served

INSIDE = (332600, 5328500, 333400, 5333500)
"""West, south, east, north in EPSG:32633: within the area's first polygon and one product."""

OUTPUTS = {
    "land_cover.tif",
    "item.json",
    "statistics.parquet",
    "statistics.csv",
    "quicklook.png",
    "report.html",
    "manifest.json",
    "result.json",
}


def folder(run: Run) -> Path:
    return Path(run.place("result.json")).parent


def test_the_result_has_every_file_and_says_what_happened(made: Run) -> None:
    assert {path.name for path in folder(made).iterdir() if path.is_file()} >= OUTPUTS
    result = made.result
    assert result["status"] == "complete"
    assert result["products"].items() >= {"found": 2, "reused": 0, "processed": 2, "failed": []}.items()
    assert 0.9 < result["observed_fraction"] <= 1
    assert result["validated_level"] == 1
    assert result["bytes_read"] > 100_000
    assert set(result["outputs"].values()) >= OUTPUTS - {"result.json"}
    tasks = {"estimate", "search", "known", "plan", "sign", "ingest", "mosaic", "zonal_statistics", "quicklook", "publish"}
    assert set(result["took"]) == {*tasks, "waiting"}
    assert 0.1 < result["took"]["sign"] <= result["seconds"]


def test_statistics_add_up_to_the_geodesic_area(made: Run, area: dict) -> None:
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(shape(area["geometry"]))[0]) / 1e4
    rows = list(csv.DictReader(io.StringIO(made.read("statistics.csv").decode())))
    assert sum(float(row["hectares"]) for row in rows) == pytest.approx(geodesic, rel=1e-4)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-3)
    assert made.result["area_km2"] == pytest.approx(geodesic / 100, rel=1e-4)
    table = pyarrow.parquet.read_table(folder(made) / "statistics.parquet").to_pylist()
    assert {int(row["code"]): pytest.approx(row["hectares"], rel=1e-6) for row in table} == {
        int(r["code"]): float(r["hectares"]) for r in rows
    }
    assert [row.code for row in made.areas()][-1] == -1


def test_the_map_has_codes_of_the_legend_at_the_place_of_the_pixels(made: Run) -> None:
    with rasterio.open(folder(made) / "land_cover.tif") as raster:
        codes, confidence, observations = raster.read((1, 2, 3))
        assert raster.crs.to_epsg() == 32633
        assert raster.res == (10, 10)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        window = raster.window(*INSIDE).round_offsets().round_lengths()
    assert set(np.unique(codes)) <= {0, 1, 2, 3, 4, 5}
    assert confidence.max() <= 100
    inside = observations[window.toslices()]
    assert (inside <= 1).all(), "one product there, so no pixel is observed twice"
    with rasterio.open(DATA / "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_P2655" / "B08.tif") as band:
        near_infrared = band.read(1, window=band.window(*INSIDE).round_offsets().round_lengths())
    mapped = codes[window.toslices()]
    assert near_infrared[mapped == 3].mean() > 1.5 * near_infrared[mapped == 5].mean(), "forest is brighter than water in the near infrared"


def test_statistics_agree_with_the_pixels(made: Run) -> None:
    with rasterio.open(folder(made) / "land_cover.tif") as raster:
        codes, _, observations = raster.read((1, 2, 3))
    hectares = {row.code: row.hectares for row in made.areas()}
    for code in (2, 3, 5):
        assert hectares[code] == pytest.approx(np.count_nonzero(codes[observations > 0] == code) / 100, rel=0.05)


def test_the_documents_are_complete_and_self_contained(made: Run) -> None:
    item = made_json(made, "item.json")
    assert item["stac_version"] == "1.1.0"
    assert item["type"] == "Feature"
    report = made.read("report.html").decode()
    assert "Salzach" in report
    (map_link,) = re.findall(r'<a href="(http://127\.0\.0\.1:\d+/results/[^"]+/map)"', report)
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)([^"'\s>]+)""", report) == [map_link]  # nothing is loaded from elsewhere
    assert httpx.get(map_link, timeout=30, trust_env=False).status_code == 200
    assert "data:image/png;base64," in report
    manifest = made_json(made, "manifest.json")
    assert len(json.dumps(manifest)) > 500
    assert "password" not in json.dumps(manifest).lower()
    assert made.read("quicklook.png")[:8] == b"\x89PNG\r\n\x1a\n"
    assert made_json(made, "../../../catalog/catalog.json")["type"] == "Catalog"


def made_json(run: Run, name: str) -> dict:
    return json.loads((folder(run) / name).read_text())


def test_the_same_order_again_reuses_everything_and_gives_the_same_map(started: Started, made: Run, area: dict) -> None:
    again = started.client().land_cover_map(area=area, **DAY).wait(timeout=120, interval=0.2)
    assert again.result["products"].items() >= {"found": 2, "reused": 2, "processed": 0, "failed": []}.items()
    with rasterio.open(folder(made) / "land_cover.tif") as one, rasterio.open(folder(again) / "land_cover.tif") as other:
        assert one.transform == other.transform
        np.testing.assert_array_equal(one.read(), other.read())
    assert [(row.code, row.hectares) for row in made.areas()] == [(row.code, row.hectares) for row in again.areas()]


def test_the_manifest_makes_the_same_map_again(made: Run) -> None:
    earthself = str(Path(sys.executable).with_name("earthself"))
    done = subprocess.run(
        [earthself, "replay", str(folder(made) / "manifest.json")], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_far_client_reads_the_result_over_rest(started: Started, made: Run) -> None:
    place = f"/earthself/api/v1/runs/land_cover_map/{httpx.QueryParams({'r': made.run_id})!s}".replace("r=", "")
    assert started.client("viewer")._rest.content(f"{place}/files/statistics.csv") == made.read("statistics.csv")


def test_nothing_found_is_a_success_that_says_so(started: Started, area: dict) -> None:
    run = started.client().land_cover_map(area=area, start="2018-01-01", end="2018-01-05").wait(timeout=120, interval=0.2)
    assert run.result["status"] == "empty"
    assert "no scene was found" in run.advice()[0]


def test_one_bad_product_costs_only_itself_and_the_next_order_fills_the_hole(started: Started, tmp_path: Path) -> None:
    squares = [[12.927, 48.099, 12.941, 48.107], [13.437, 48.302, 13.450, 48.309]]
    area = {"type": "MultiPolygon", "coordinates": [mapping(box(*square))["coordinates"] for square in squares]}
    order = {"area": area, "provider": "shaky", "max_cloud_cover": 100, **DAY}
    products = shutil.copytree(DATA, tmp_path / "products")
    lost = products / "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_P7040" / "B04.tif"
    lost.rename(tmp_path / "B04.tif")
    with served(products, started.shaky_port):
        partial = started.client().land_cover_map(**order).wait(timeout=150, interval=0.2)
        (tmp_path / "B04.tif").rename(lost)
        whole = started.client().land_cover_map(**order).wait(timeout=150, interval=0.2)
    assert partial.result["status"] == "partial"
    assert partial.result["products"]["processed"] == 1
    (failed,) = partial.result["products"]["failed"]
    assert failed["id"].startswith(lost.parent.name)
    assert "B04" in failed["error"]
    assert "1 of 2 products are missing" in partial.advice()[0]
    assert partial.result["observed_fraction"] < whole.result["observed_fraction"]
    assert whole.result["status"] == "complete"
    assert whole.result["products"].items() >= {"found": 2, "reused": 1, "processed": 1, "failed": []}.items()


def test_an_estimate_starts_nothing(started: Started, area: dict) -> None:
    client = started.client()
    before = len(client.runs(limit=100))
    found = client.estimate(area=area, **DAY)
    assert (found.products, found.provider) == (2, "sample")
    assert found.minutes_low <= found.minutes <= found.minutes_high
    assert len(client.runs(limit=100)) == before


def test_more_than_max_products_is_refused_within_10_s_before_any_download(started: Started, area: dict) -> None:
    began = time.monotonic()
    run = started.client().land_cover_map(area=area, max_products=1, **DAY)
    with pytest.raises(RunFailed, match=r"2 products match, more than max_products=1"):
        run.wait(timeout=60, interval=0.1)
    crowded = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # other work on the machine is not ours to answer for
    assert time.monotonic() - began < 10 * crowded
    assert {task.task for task in run.tasks() if task.state == "success"} == set(), "nothing after the estimate ran"


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"area": [12.7, 47.9, 12.9, 48.2], "start": "2017-06-14", "end": "2017-06-13"}, "2017-06-13"),
        ({"area": {"type": "Polygon", "coordinates": [[[12, 48], [13, 49], [13, 48], [12, 49], [12, 48]]]}, **DAY}, "cross"),
        ({"area": [48, 112, 48.2, 112.9], **DAY}, "swapped"),
    ],
)
def test_an_order_that_makes_no_sense_fails_with_the_reason_in_the_first_error(started: Started, conf: dict, reason: str) -> None:
    try:
        run = started.client().trigger("land_cover_map", conf)
    except BadInput as error:
        assert reason in str(error)  # noqa: PT017 - refused at the door is as good
        return
    with pytest.raises(RunFailed, match=reason):
        run.wait(timeout=60, interval=0.1)
    assert run.tasks()[0].state == "failed"


def test_a_viewer_may_look_but_not_order(started: Started, made: Run, area: dict) -> None:
    viewer = started.client("viewer")
    assert viewer.run(made.run_id).status == "success"
    with pytest.raises(NotAllowed, match="viewer"):
        viewer.land_cover_map(area=area, **DAY)
