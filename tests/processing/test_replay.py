"""`earthself replay`: a run made again is the same, or it is said where not, or which inputs are no longer there."""

from __future__ import annotations

import csv
import datetime as dt
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.data.manifest import Manifest, OutputFile, inputs_of, read_manifest
from earthself.processing.replay import Outcome, check_inputs, compare, main, product_items
from earthself.processing.steps.mosaic import mosaic
from earthself.processing.steps.quicklook import quicklook
from earthself.processing.steps.sign import sign
from earthself.processing.steps.zonal_statistics import zonal_statistics
from PIL import Image
from products import Products, brightest_model, pixels_area, random_bands, run

pytestmark = pytest.mark.timeout(300)  # a replay is five processes one after the other

PUBLISHED = {
    "land_cover.tif": "mosaic", "statistics.csv": "statistics", "statistics.parquet": "statistics", "quicklook.png": "quicklook",
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A published run of two products, one of which reaches further than the area; returns its folder."""
    home = tmp_path_factory.mktemp("run")
    registry = brightest_model(home / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARTHSELF_MODELS", str(registry))
        products = Products(home / "found")
        for seed, name in enumerate(("A", "B"), start=1):
            bands = random_bands(620, 600, ("B04", "B11", "B09"), seed)
            scl = np.full((310, 300), 4, np.uint8)
            scl[10 * seed : 10 * seed + 9, 20:40] = 9
            observation = f"S2{name}_33UUP_20170613T101031_R022"
            products.add(name, bands | {"SCL": scl}, **{"earthself:observation": observation})
        area = pixels_area(20, 20, 100, 90)
        products.set_area(area)
        work = home / "result" / "work"
        for step, source, output, words in (
            (sign, products.folder, "signatures", ["--model", "brightest"]),
            (mosaic, work / "signatures", "mosaic", []),
            (zonal_statistics, work / "mosaic", "statistics", []),
            (quicklook, work / "mosaic", "quicklook", []),
        ):
            work.mkdir(parents=True, exist_ok=True)
            code, result = run(step, source, work / output, *words)
            assert code == 0, result
            for folder in ("signatures", "mosaic"):
                if (work / folder).is_dir():
                    shutil.copyfile(products.folder / "area.geojson", work / folder / "area.geojson")
    folder = home / "result"
    for name, place in PUBLISHED.items():
        shutil.copyfile(work / place / name, folder / name)
    item = json.loads((work / "mosaic" / "land_cover" / "land_cover.json").read_text())
    item |= {"id": "land_cover_map.run1"}
    item["properties"] |= {"created": "2026-01-01T00:00:00Z", "title": "My map"}
    (folder / "item.json").write_text(json.dumps(item))
    items = [json.loads(path.read_text()) for path in sorted((work / "signatures").glob("*/*.json"))]
    area = json.loads((products.folder / "area.geojson").read_text())
    write_manifest(folder, items, {"area": area, "model": "brightest", "mask": "auto", "collection": "S2_MSI_L2A"})
    return folder


def write_manifest(folder: Path, items: list[dict], parameters: dict) -> None:
    Manifest(
        dag_id="land_cover_map",
        run_id="run1",
        created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        parameters=parameters,
        legend="clc:1",
        model="brightest:7",
        inputs=inputs_of(items),
        outputs=tuple(OutputFile.of(Path(name).stem, folder / name, folder) for name in PUBLISHED),
        durations={},
        bytes_moved=0,
        code={"earthself-processing": "0.1.0"},
        commit=None,
    ).write(folder / "manifest.json")


@pytest.fixture(scope="module")
def again(original, tmp_path_factory):
    """The run made again, in processes of their own, and what the command said."""
    folder = tmp_path_factory.mktemp("replay") / "again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARTHSELF_MODELS", str(original.parent / "models"))
        program = "import sys; from earthself.processing.replay import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, str(original / "manifest.json"), "--keep", str(folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return folder, done


@pytest.fixture
def published(original, tmp_path, monkeypatch):
    """A copy of the run that a test may spoil, with its products."""
    monkeypatch.setenv("EARTHSELF_MODELS", str(original.parent / "models"))
    shutil.copytree(original, tmp_path / "result")
    shutil.copytree(original.parent / "found", tmp_path / "found")
    folder = tmp_path / "result"
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(str(original.parent / "found"), str(tmp_path / "found")))
    return folder


def renewed(folder: Path) -> None:
    """Let the manifest name the outputs as they are now, so that only what is in them can differ."""
    document = json.loads((folder / "manifest.json").read_text())
    document["outputs"] = [asdict(OutputFile.of(Path(name).stem, folder / name, folder)) for name in PUBLISHED]
    (folder / "manifest.json").write_text(json.dumps(document))


def compared(folder: Path, again) -> tuple[int, dict[str, str]]:
    manifest = folder / "manifest.json"
    outcome = compare(manifest, read_manifest(manifest), again[0])
    return outcome.exit_code, {each.where: each.what for each in outcome.differences}


def test_a_run_made_again_is_the_same(original, again):
    folder, done = again
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome == {"status": "equal", "compared": [*PUBLISHED, "item.json"], "differences": [], "inputs": []}
    assert {path.name for path in original.iterdir()} == {*PUBLISHED, "item.json", "manifest.json", "work"}
    with rasterio.open(folder / "mosaic" / "land_cover.tif") as dataset:
        assert (dataset.width, dataset.height) >= (100, 90)
        assert (dataset.read(1) > 0).mean() > 0.5
    assert not (folder / "signatures" / "A").exists()  # the area needs a part of it
    assert (folder / "signatures" / "A_W0-0-512-512").is_dir()


def test_every_kind_of_difference_is_found_and_placed(published, again):
    with rasterio.open(published / "land_cover.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        codes = dataset.read(1)
        codes[7, 5] = 5 - codes[7, 5]
        dataset.write(codes, 1)
    rows = list(csv.reader((published / "statistics.csv").open()))
    rows[1][rows[0].index("hectares")] = "12.5"
    with (published / "statistics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with Image.open(published / "quicklook.png") as picture:
        spoilt = picture.convert("RGBA")
    spoilt.putpixel((3, 4), (1, 2, 3, 255))
    spoilt.save(published / "quicklook.png")
    item = json.loads((published / "item.json").read_text())
    item["properties"]["earthself:validated_level"] = 2
    (published / "item.json").write_text(json.dumps(item))
    renewed(published)
    code, found = compared(published, again)
    assert code == 1
    assert list(found) == ["land_cover.tif code", "statistics.csv row 1 hectares", "quicklook.png", "item.json earthself:validated_level"]
    assert found["land_cover.tif code"].startswith("1 of ")
    assert "column 5, row 7" in found["land_cover.tif code"]
    assert found["statistics.csv row 1 hectares"].startswith("was 12.5, is ")
    assert found["quicklook.png"].endswith("the first at column 3, row 4")
    assert found["item.json earthself:validated_level"] == "was 2, is 1"


def test_a_shifted_map_is_different_although_its_pixels_are_not(published, again):
    with rasterio.open(published / "land_cover.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        transform = dataset.transform
        dataset.transform = type(transform)(transform.a, 0, transform.c + 10, 0, transform.e, transform.f)
    renewed(published)
    code, found = compared(published, again)
    assert (code, list(found)) == (1, ["land_cover.tif"])
    assert found["land_cover.tif"].startswith("transform was ")


def test_a_file_that_was_touched_since_is_said(published, again):
    with (published / "quicklook.png").open("ab") as file:
        file.write(b"more")
    (published / "statistics.parquet").unlink()
    code, found = compared(published, again)
    assert (code, set(found)) == (1, {"quicklook.png", "statistics.parquet"})


def test_another_model_version_is_a_difference(published, again):
    document = json.loads((published / "manifest.json").read_text())
    document["model"]["id"] = "brightest:6"
    (published / "manifest.json").write_text(json.dumps(document))
    assert compared(published, again) == (1, {"model": "was brightest:6, is brightest:7"})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("preprocessing",), "preprocessing: was pre0, is pre1:scl:60"),
        (("model", "sha256"), "model brightest:7: its file had SHA-256 000000000000"),
    ],
)
def test_another_preprocessing_or_network_is_a_difference(published, again, place, said):
    document = json.loads((published / "manifest.json").read_text())
    holder = document[place[0]] if len(place) > 1 else document
    holder[place[-1]] = "pre0" if len(place) == 1 else 64 * "0"
    (published / "manifest.json").write_text(json.dumps(document))
    outcome = compare(published / "manifest.json", read_manifest(published / "manifest.json"), again[0])
    assert [str(each)[: len(said)] for each in outcome.differences] == [said]


def test_a_map_of_another_type_is_a_difference(published, again):
    with rasterio.open(published / "land_cover.tif") as dataset:
        profile, pixels = dataset.profile | {"dtype": "float64", "nodata": None}, dataset.read()
        names, nodata = dataset.descriptions, dataset.nodata
    with rasterio.open(published / "land_cover.tif", "w", **profile | {"nodata": nodata, "driver": "GTiff"}) as dataset:
        dataset.write(pixels)
        dataset.descriptions = names
    renewed(published)
    code, found = compared(published, again)
    assert (code, list(found)) == (1, ["land_cover.tif"])
    assert "float64" in found["land_cover.tif"]


def test_the_run_s_account_is_held_against_the_new_map(published, again):
    with (published / "statistics.csv").open() as file:
        unseen = sum(float(row["share"]) for row in csv.DictReader(file) if row["code"] == "-1")
    account = {
        "status": "complete", "products": {"failed": []}, "observed_fraction": round(1 - unseen, 6),
        "validated_level": 1, "legend": "clc:1", "model": "brightest:7", "masks": ["scl"],
    }  # fmt: skip
    (published / "result.json").write_text(json.dumps(account))
    assert compared(published, again) == (0, {})
    (published / "result.json").write_text(json.dumps(account | {"status": "partial", "observed_fraction": 0.5}))
    code, found = compared(published, again)
    assert (code, list(found)) == (1, ["result.json/status", "result.json/observed_fraction"])


def test_a_provider_that_is_away_is_said_once(published, monkeypatch):
    from earthself.data.sources import SourceConfig

    monkeypatch.setenv("EARTHSELF_SOURCES", str(published / "sources.json"))
    (published / "sources.json").write_text(SourceConfig(providers=("sample",), attempts=1).to_json())
    (published / "sources.json").chmod(0o600)
    document = read_manifest(published / "manifest.json")
    for each in document["inputs"]:
        each["href"] = f"http://127.0.0.1:9/{each['product']}/{each['asset']}.tif"
    problems = list(check_inputs(document, product_items(document, published)))
    assert len(problems) == 1
    assert "what else is of sample cannot be read now" in problems[0]


def test_a_manifest_without_its_files_cannot_be_called_the_same(published, again):
    for name in (*PUBLISHED, "item.json"):
        (published / name).unlink()
    code, found = compared(published, again)
    assert code == 1
    assert found["land_cover.tif"]


def test_inputs_that_are_gone_or_have_changed_end_it_before_anything_is_made(published, capsys, tmp_path):
    with rasterio.open(tmp_path / "found" / "A" / "B04.tif", "r+") as dataset:
        pixels = dataset.read(1)
        pixels[100, 100] += 1
        dataset.write(pixels, 1)
    (tmp_path / "found" / "B" / "SCL.tif").unlink()
    code = main([str(published), "--keep", str(tmp_path / "again"), "--json"])
    outcome = json.loads(capsys.readouterr().out)
    assert (code, outcome["status"]) == (2, "inputs")
    assert outcome["inputs"][0].startswith("B04 of A has changed since the run: ")
    assert outcome["inputs"][1].startswith("SCL of B cannot be read any more: ")
    assert len(outcome["inputs"]) == 2
    assert not (tmp_path / "again").exists()
    assert main([str(published)]) == 2
    assert "has changed since the run" in capsys.readouterr().out


def test_a_change_where_nothing_was_read_does_not_matter(published, tmp_path):
    """The run read 512 pixels of the product's 620."""
    with rasterio.open(tmp_path / "found" / "A" / "B04.tif", "r+") as dataset:
        pixels = dataset.read(1)
        pixels[600, 590] += 1
        dataset.write(pixels, 1)
    document = read_manifest(published / "manifest.json")
    assert list(check_inputs(document, product_items(document, published))) == []


def test_products_come_from_the_search_result_where_it_is_still_there(published, tmp_path):
    document = read_manifest(published / "manifest.json")
    rebuilt = product_items(document, published)
    assert rebuilt["A"]["properties"]["datetime"] == "2017-06-13T10:10:31Z"
    assert set(rebuilt["A"]["assets"]) == {"B04", "B11", "B09", "SCL"}
    (published / "work" / "found").mkdir()
    shutil.copytree(tmp_path / "found", published / "work" / "found", dirs_exist_ok=True)
    found = product_items(document, published)
    assert list(found) == ["A", "B"]
    assert found["A"]["properties"]["eo:cloud_cover"] == 12.5


def test_people_are_told_in_words():
    from earthself.processing.replay import _text

    assert _text(Outcome(compared=["land_cover.tif", "item.json"])) == "The same: land_cover.tif, item.json\n"
    assert "nothing was made again" in _text(Outcome(inputs=["B04 of A is gone"]))


@pytest.mark.parametrize("arguments", [[], ["missing.json"], ["--colour", "red", "x"]])
def test_no_manifest_and_bad_usage_do_not_look_like_lost_inputs(arguments, capsys):
    assert main(arguments) in (65, 69)
    assert capsys.readouterr().err.startswith("error: ")


def test_the_command_line_finds_it():
    (entry,) = entry_points(group="earthself.commands", name="replay")
    assert entry.load() is main
