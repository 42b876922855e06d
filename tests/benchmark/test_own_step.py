"""A creator's own step, measured: real programs run, and the profile held against what a person computes with a pencil."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from earthself.benchmark import own_step
from earthself.benchmark.cli import app
from earthself.benchmark.errors import BadSetting, ProbeFailed, ToolMissing, TooSlow
from earthself.benchmark.own_step import OwnStep, measure_step
from earthself.benchmark.suggestion.need import Need
from typer.testing import CliRunner

# For each pixel of its first raster it holds eight bytes and works a while; it writes a byte.
STEP = """
import json, os, sys
from pathlib import Path
import rasterio
folder, out = Path(os.environ["EARTHSELF_STEP_INPUT"]), Path(os.environ["EARTHSELF_STEP_OUTPUT"])
items = [link["href"] for link in json.loads((folder / "catalog.json").read_text())["links"]]
with rasterio.open((folder / items[0]).parent / "B04.tif") as raster:
    pixels = raster.width * raster.height
held = bytearray(b"x") * (8 * pixels)
for _ in range(pixels * 2):
    pass
out.mkdir(exist_ok=True)
(out / "result.bin").write_bytes(b"x" * pixels)
(out / "catalog.json").write_text("{}")
"""
LEAVES = "echo {} > $EARTHSELF_STEP_OUTPUT/catalog.json"


def shell(script, **fields):
    return OwnStep(["sh", "-c", f"mkdir -p $EARTHSELF_STEP_OUTPUT; {script}"], **{"bands": ("B04",), "side": 1024} | fields)


def used(seconds, cpu, memory, read=0.01, written=0.001):
    return own_step._Used(seconds, cpu, memory, read, written)


# 4 Mpixel more take 8 s, 12 s of two cores at least, and half a GiB.
FEW, MANY = used(3.0, 2.0, 0.5, 0.001, 0.0001), used(11.0, 14.0, 1.0, 0.041, 0.0041)
STEP_OF = OwnStep(["true"], name="mine", side=2000)


def profiled(few=(FEW,) * 5, many=(MANY,) * 5, speeds=(5.0,) * 5, step=STEP_OF):
    return own_step._profiled(step, few, many, speeds)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(own_step, "cores", lambda: 2.0)


def test_a_tile_takes_what_the_pixels_took_that_were_more():
    found = profiled().profile()
    more, whole = 4 - 0.25, 120.5604
    begin = 2 - 12 / more * 0.25  # of the processor, whatever the number of pixels
    assert found["cpu_seconds"] == pytest.approx(12 / more * whole + begin, rel=1e-3)
    assert found["start_seconds"] == pytest.approx(3 - 8 / more * 0.25 - begin, rel=1e-3)
    assert found["memory_gib"] == pytest.approx(1 + 0.5 / more * (whole - 4), rel=1e-3)
    assert found["read_gb"] == pytest.approx(0.04 / more * whole, rel=1e-3)
    assert found["write_gb"] == pytest.approx(0.004 / more * whole, rel=1e-3)
    assert (found["threads"], found["speed"], found["name"], found["runs"]) == (2, 5.0, "mine", 5)


def test_what_is_given_together_is_counted_for_each_tile():
    found = profiled(step=replace(STEP_OF, products=5)).profile()
    begin = 2 - 12 / 18.75 * 1.25
    assert found["cpu_seconds"] == pytest.approx(12 / 18.75 * 120.5604 + begin / 5, rel=1e-3)
    assert found["start_seconds"] == pytest.approx((3 - 8 / 18.75 * 1.25 - begin) / 5, rel=1e-3)
    assert found["memory_gib"] == pytest.approx(1 + 0.5 / 18.75 * (5 * 120.5604 - 20), rel=1e-3)


def test_smaller_tiles_take_less_but_what_each_run_takes():
    small, large = (profiled().profile(megapixels) for megapixels in (2.0, 4.0))
    assert large["cpu_seconds"] - small["cpu_seconds"] == pytest.approx(2 * 12 / 3.75, rel=1e-2)
    assert small["start_seconds"] == large["start_seconds"]
    assert small["memory_gib"] == large["memory_gib"] == 1.0, "less than was seen is not promised"


def test_memory_that_does_not_grow_is_that_of_any_run():
    assert profiled(few=(replace(FEW, memory=1.1),) * 5).profile()["memory_gib"] == 1.0


def test_a_profile_stands_in_a_need_with_the_day_of_its_measurement():
    need = Need.from_document({"work": {"tiles": 1}, "profile": profiled().profile()})
    assert (need.profile.name, need.profile.runs) == ("mine", 5)
    assert need.profile.measured is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"few": (FEW,) * 4, "many": (MANY,) * 4}, "4 repeats are too few"),
        ({"many": [replace(MANY, cpu_seconds=cpu) for cpu in (6.0, 9.0, 14.0, 19.0, 22.0)]}, "the processor's time varies by"),
        ({"speeds": (3.0, 4.0, 5.0, 6.0, 7.0)}, "the core's speed varies by"),
    ],
)
def test_what_cannot_be_trusted_is_said_and_does_not_count_as_measured(change, said):
    found = profiled(**change)
    assert said in found.doubts[0]
    assert not {"measured", "runs"} & set(found.profile())


def test_a_step_that_takes_no_longer_for_more_pixels_says_nothing():
    with pytest.raises(ProbeFailed, match="larger --side"):
        profiled(many=(FEW,) * 5)


def test_a_real_program_is_measured_with_all_that_it_reads_holds_and_writes(tmp_path):
    heard = []
    step = OwnStep([sys.executable, "-c", STEP], bands=("B04",), side=2048)
    found = measure_step(step, tmp_path, repeats=1, note=heard.append).profile()
    assert heard == [0, 1]
    assert found["cpu_seconds"] > 0
    assert found["write_gb"] == pytest.approx(0.12056, rel=0.01)
    assert 0.12 < found["read_gb"] < 0.3, "two bytes a pixel, packed"
    assert found["memory_gib"] == pytest.approx(0.9, rel=0.3), "eight bytes a pixel, and what Python needs"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (shell("echo no such model >&2; exit 65"), ProbeFailed, "ended with 65: no such model"),
        (shell("kill -9 $$"), ProbeFailed, "ended with -9|ended with 137"),
        (shell("true"), ProbeFailed, "left no catalog.json"),
        (shell("sleep 100", seconds=0.5), TooSlow, "--minutes"),
        (OwnStep(["no-such-program"]), ToolMissing, "no-such-program"),
    ],
)
def test_a_step_that_does_not_do_its_work_is_no_measurement(tmp_path, step, error, said):
    with pytest.raises(error, match=said):
        measure_step(step, tmp_path, repeats=1)
    assert not list(tmp_path.iterdir())


def test_what_a_step_leaves_running_is_ended(tmp_path):
    mark = tmp_path / "pid"
    with pytest.raises(ProbeFailed):
        measure_step(shell(f"sleep 1000 & echo $! > {mark}; exit 1"), tmp_path, repeats=1)
    status = Path(f"/proc/{mark.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"command": []}, "after --"), ({"bands": ("B4",)}, "B4 is no band"), ({"side": 512}, "1024"), ({"products": 0}, "0 products")],
)
def test_bad_settings_are_refused(fields, said):
    with pytest.raises(BadSetting, match=said):
        OwnStep(**{"command": ["true"]} | fields)


def test_the_command_writes_a_profile_with_which_a_need_is_asked(tmp_path):
    out, need = tmp_path / "mine.json", tmp_path / "need.json"
    words = ["profile", "--out", str(out), "--name", "mine", "--bands", "B04", "--repeats", "1", "--scratch", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, [*words, "--", sys.executable, "-c", STEP])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["profile"] == json.loads(out.read_text())
    need.write_text(json.dumps({"work": {"tiles": 3}}))
    asked = ["answer", str(need), "--profile", str(out), "--database-url", f"sqlite:///{tmp_path / 'p.db'}", "--json"]
    assert json.loads(CliRunner().invoke(app, asked).stdout)["need"]["profile"]["name"] == "mine"
    out.write_text('{"cpu_seconds": -1}')
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 65
    assert "mine.json" in refused.output
