"""The probes as a step: run as a workflow runs it, what it leaves held against the contract of all steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pystac
import pytest
from earthself.benchmark.samples import FAILED, read
from earthself.benchmark.step import SAMPLES
from earthself.operators.step_output import put_in_place, result_document

PROGRAM = [sys.executable, "-m", "earthself.benchmark.step"]


@pytest.fixture
def folders(tmp_path):
    """What the contract gives to a step."""
    (tmp_path / "in").mkdir()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "in/catalog.json").write_text(json.dumps({"type": "Catalog", "links": []}))
    names = {"INPUT": "in", "OUTPUT": "out", "RESULT": "result.json", "SCRATCH": "scratch"}
    return os.environ | {f"EARTHSELF_STEP_{name}": str(tmp_path / folder) for name, folder in names.items()}


@pytest.fixture
def step(folders):
    def run(*words, code=0, **env):
        done = subprocess.run([*PROGRAM, *words], env=folders | env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    return run


def test_it_keeps_the_contract(step, folders, tmp_path):
    words = ("--probes", "numpy_one,network", "--repeats", "2", "--seconds", "1", "--cloud", "North", "--offer", "s-2")
    done = step(*words, EARTHSELF_IMAGE="probes@sha256:1")
    assert [line for line in done.stderr.splitlines() if line.startswith("progress ")][:2] == [
        "progress 0.00 numpy_one 1 of 2",
        "progress 0.25 numpy_one 2 of 2",
    ]
    document = result_document(tmp_path / "result.json", "probe", 0)
    assert (document["status"], document["outputs"], document["metrics"]["samples"], document["metrics"]["failed"]) == ("done", 1, 3, 1)
    assert document["warnings"][0].startswith("network ")

    reference = put_in_place(tmp_path / "in", tmp_path / "out", tmp_path / "kept", document, "probe")
    catalog = pystac.Catalog.from_file(reference.href)
    catalog.validate()
    (item,) = catalog.get_items()
    item.validate()
    assert item.properties["earthself:cloud"] == "north"
    assert Path(item.assets["samples"].get_absolute_href()) == tmp_path / "kept" / SAMPLES
    samples = list(read((tmp_path / "kept" / SAMPLES).read_text().splitlines(), SAMPLES))
    assert [(sample.test, sample.metric) for sample in samples] == [("numpy_one", "pixels")] * 2 + [("network", FAILED)]
    assert {(sample.labels["cloud"], sample.labels["offer"], sample.labels["image"]) for sample in samples} == {
        ("north", "s-2", "probes@sha256:1")
    }
    assert {sample.run_uri for sample in samples} == {item.id}
    assert not list((tmp_path / "scratch").iterdir())


def test_probes_that_all_fail_do_not_fail_the_step(step, tmp_path):
    step("--probes", "network", "--repeats", "1")
    document = result_document(tmp_path / "result.json", "probe", 0)
    assert (document["status"], document["message"]) == ("nothing", "0 probes measured, 1 failed, 0 without time")
    assert len((tmp_path / "out" / SAMPLES).read_text().splitlines()) == 1


def test_what_time_does_not_suffice_for_is_said_and_the_rest_is_kept(step, tmp_path):
    step("--probes", "numpy_one,numpy_all", "--repeats", "2", "--seconds", "1", "--minutes", "0.01")
    document = result_document(tmp_path / "result.json", "probe", 0)
    assert document["warnings"] == ["the time was up before these were done: numpy_one, numpy_all"]
    assert document["metrics"]["samples"] == 1


def test_a_result_document_is_never_too_long():
    from earthself.benchmark.samples import Sample
    from earthself.benchmark.step import _Found, _result

    failed = [Sample(f"probe{n}", FAILED, 1.0, "", {"reason": "failed", "error": "ä" * 400}, 0.0, "r") for n in range(60)]
    document = _result(_Found("r", 0.0, 1.0, failed, []))
    assert len(json.dumps(document, ensure_ascii=False).encode()) <= 4096
    assert document["warnings"][-1] == f"{61 - len(document['warnings'])} further failures stand in {SAMPLES}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probes", "cpu"), "there is no probe 'cpu'"),
        (("--repeats", "0"), "0 is not above 0"),
        (("--seconds", "nan"), "nan is not above 0"),
        (("--cloud", "a|b"), "cannot be a label"),
        (("--server", "a\nb"), "is no line"),
        (("--scratch", "/"), "unrecognized arguments"),
        (("--repeat", "1"), "unrecognized arguments"),
    ],
)
def test_bad_input_ends_with_65_and_leaves_nothing(step, tmp_path, words, said):
    assert said in step(*words, code=65).stderr
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["status"], document["retry"]) == ("failed", False)
    assert said in document["message"]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_output_folder_that_holds_something_is_left_alone(step, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    step("--probes", "numpy_one", code=65)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_it_stops_when_told_and_leaves_no_half_written_output(folders, tmp_path):
    process = subprocess.Popen([*PROGRAM, "--probes", "numpy_all", "--seconds", "600"], env=folders, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("progress")
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 5, "Airflow waits no longer"
    assert process.returncode == 143
    assert not list((tmp_path / "out").iterdir())
