"""The examples of docs/steps.md are run as they stand there, each in its own language."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from earthself.processing.steps.fetch import fetch
from products import Products, brightest_model, random_bands, run, signatures

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"
CATALOG = {"type": "Catalog", "stac_version": "1.1.0", "id": "in", "description": "-", "links": []}


def start(command: list[str], source: Path, output: Path, *arguments: str) -> tuple[int, dict, str]:
    """Run a program as a step; returns exit code, result document, standard error."""
    result = output.with_name("result.json")
    environment = os.environ | {
        "EARTHSELF_STEP_INPUT": str(source),
        "EARTHSELF_STEP_OUTPUT": str(output),
        "EARTHSELF_STEP_RESULT": str(result),
    }
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(result.read_text()), done.stderr


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "catalog.json").write_text(json.dumps(CATALOG))
    return tmp_path / "in"


def needs(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; apt-get install {package}")
    return path


def test_python_example(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models", ("B04", "B08"), "pair")))
    products = Products(tmp_path / "found")
    bands = random_bands(300, 200, ("B04", "B08"))
    bands["B04"][:10] = 0
    products.add("P", bands)
    run(fetch, products.folder, tmp_path / "fetched", "--model", "pair", "--mask", "none", "--offset", "-1000")
    command = [sys.executable, str(EXAMPLES / "greenness.py")]
    code, result, log = start(command, tmp_path / "fetched", tmp_path / "out", "--above", "0.3")
    assert (code, result["status"], result["outputs"]) == (0, "done", 1), log
    red, nir = (bands[band][10:].astype(float) - 1000 for band in ("B04", "B08"))
    share = (nir - red > 0.3 * (nir + red)).mean()
    assert signatures(tmp_path / "out")["P"].properties["share_green"] == pytest.approx(share, abs=1e-4)
    assert "progress 0.00 reading P" in log
    code, result, _ = start(command, products.folder, tmp_path / "bad", "--above", "much")
    assert (code, result["message"]) == (65, "--above 'much' is not float")


def test_bash_example(source, tmp_path):
    bash = needs("bash", "bash")
    (source / "a file.txt").write_text("one")
    (source / "deep").mkdir()
    (source / "deep" / "b.txt").write_text("two")
    command = [bash, str(EXAMPLES / "inventory.sh")]
    code, result, log = start(command, source, tmp_path / "out", "--pattern", "*.txt")
    assert (code, result) == (0, {"status": "done", "outputs": 1, "message": "2 files listed", "metrics": {"files": 2}, "warnings": []}), (
        log
    )
    rows = (tmp_path / "out" / "inventory.csv").read_text().splitlines()
    assert rows[1:] == [f'"{name}",3,{hashlib.sha256(text).hexdigest()}' for name, text in (("a file.txt", b"one"), ("deep/b.txt", b"two"))]
    assert "inventory" in signatures(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["catalog.json", "inventory.csv", "inventory.json"]
    assert start(command, source, tmp_path / "none", "--pattern", "*.nothing")[1]["status"] == "nothing"
    assert start(command, source, tmp_path / "bad", "--colour", "red")[0] == 65


def test_bash_example_stops_when_told_to(source, tmp_path):
    bash = needs("bash", "bash")
    for number in range(400):
        (source / f"{number}.txt").write_text("x")
    environment = os.environ | {"EARTHSELF_STEP_INPUT": str(source), "EARTHSELF_STEP_OUTPUT": str(tmp_path / "out")}
    command = [bash, str(EXAMPLES / "inventory.sh")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("progress ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_r_example(source, tmp_path):
    rscript = needs("Rscript", "r-base-core")
    (source / "statistics.csv").write_text('code,name,hectares,share\n1,"Towns, roads",10.5,0.1\n2,Fields,90,0.9\n3,Woods,1,0.0\n')
    command = [rscript, str(EXAMPLES / "chart.R")]
    code, result, log = start(command, source, tmp_path / "out", "--top", "2", "--title", "My area")
    assert (code, result["status"], result["message"]) == (0, "done", "2 bars"), log
    assert (tmp_path / "out" / "chart.pdf").read_bytes().startswith(b"%PDF")
    assert "chart" in signatures(tmp_path / "out")
    assert "progress 0.10 reading statistics.csv" in log
    assert start(command, source, tmp_path / "bad", "--top", "many")[0] == 65
    (source / "statistics.csv").unlink()
    code, result, _ = start(command, source, tmp_path / "bad")
    assert code == 65
    assert "output of zonal_statistics" in result["message"]


def test_what_the_document_quotes_stands_in_the_examples():
    document = (DOCS / "steps.md").read_text()
    linked = re.findall(r"\]\((examples/[^)]+)\)", document)
    assert sorted(linked) == ["examples/chart.R", "examples/greenness.py", "examples/inventory.sh"]
    quoted = {"python": "greenness.py", "r": "chart.R"}
    for language, name in quoted.items():
        block = re.search(rf"```{language}\n(.*?)```", document, re.DOTALL).group(1)
        text = (EXAMPLES / name).read_text()
        spelled_out = {"share_green", "table <-", "..."}
        for line in block.splitlines():
            if line.strip() and not any(part in line for part in spelled_out):
                assert line.strip() in text, line


def test_the_document_lists_the_steps_that_are_installed():
    from importlib.metadata import entry_points

    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "steps.md").read_text().partition("## The built-in steps")[2], re.MULTILINE)
    installed = {entry.name for entry in entry_points(group="earthself.steps") if entry.dist.name == "earthself-processing"}
    assert installed <= set(table)
    assert np.unique(table).size == len(table)
