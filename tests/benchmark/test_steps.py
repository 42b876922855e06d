"""Steps as programs: what they are said to take is what they were made to take."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.benchmark.probes import probes, steps
from earthself.benchmark.probing import Run, Setting, tool
from earthself.benchmark.products import make_products
from earthself.benchmark.samples import FAILED
from earthself.local.sample import DATA

SIDE = 1024
BURN = """
import time
import numpy as np
import rasterio
from earthself.processing import StepResult

def burn(ctx, *, cpu: float = 0.0, wait: float = 0.0, once: float = 0.0, mebibytes: int = 0) -> StepResult:
    size = 0.0
    for item in ctx.items():
        with rasterio.open(item.assets["B02"].href) as band:
            size += band.width * band.height / 1e6
    held = np.ones(mebibytes << 20, np.uint8)
    until = time.process_time() + cpu * size
    while time.process_time() < until:
        pass
    time.sleep(wait * size + once)
    ctx.write(ctx.items())
    return StepResult(message=f"held {held.size}")
"""


@pytest.fixture
def burn(tmp_path, monkeypatch):
    """A step that takes what it is told: seconds for a megapixel, and once."""
    offered = tmp_path / "more" / "burn-1.dist-info"
    offered.mkdir(parents=True)
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: burn\nVersion: 1\n")
    (offered / "entry_points.txt").write_text("[earthself.steps]\nburn = burn:burn\n")
    (offered.parent / "burn.py").write_text(BURN)
    monkeypatch.setenv("PYTHONPATH", str(offered.parent))

    def run(*options: str):
        return steps.measured(steps.Work("burn", ["B02", "B11"], products=2, options=options), Setting(tmp_path, side=SIDE))

    return run


def measure(folder: Path, name: str, **changes) -> dict[str, float | str]:
    found = list(Run({}, Setting(folder, **({"side": SIDE} | changes)), 1).samples(probes([name])))
    return {sample.metric: sample.labels["error"] if sample.metric == FAILED else sample.value for sample in found}


@pytest.mark.parametrize("name", ["step_sign", "step_composite"])
def test_the_platforms_own_steps_are_measured(name, tmp_path):
    found = measure(tmp_path, name)
    assert set(found) == {measure.name for measure in probes([name])[0].measures}
    assert all(value > 0 for value in found.values())
    assert not list(tmp_path.iterdir()), "nothing stays on the disk"


def test_a_step_that_measures_steps_keeps_its_own_result(tmp_path, monkeypatch, burn):
    for name in ("INPUT", "OUTPUT", "RESULT"):
        monkeypatch.setenv(f"EARTHSELF_STEP_{name}", str(tmp_path / name))
    burn("--cpu", "1")
    assert not [name for name in ("INPUT", "OUTPUT", "RESULT") if (tmp_path / name).exists()]


def test_seconds_and_memory_come_out_as_they_were_put_in(burn):
    busy = burn("--cpu", "2", "--wait", "0.5", "--once", "1")
    assert busy["cpu_seconds"] == pytest.approx(2, abs=0.4)
    # A busy machine gives a process its seconds later, hardly earlier.
    assert busy["seconds"] >= 2.2
    assert busy["start"] >= 1
    held = burn("--cpu", "1", "--mebibytes", "128")
    assert held["memory"] - busy["memory"] == pytest.approx(0.125, abs=0.03)
    assert held["read"] == busy["read"]


def test_a_step_that_takes_no_longer_for_more_pixels_tells_nothing_of_a_pixel(burn, monkeypatch):
    used = steps._Used(whole=2, seconds=1, cpu_seconds=1, memory=1, read=1)
    monkeypatch.setattr(steps, "_run", lambda *_: used)
    with pytest.raises(steps.ProbeFailed, match=r"took no longer for more pixels .* give a larger --side"):
        burn()


def test_the_memory_of_who_measures_is_not_taken_for_that_of_the_step():
    held = np.ones(300 << 20, np.uint8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >= 300 << 10
    said = tool(*steps._APART, sys.executable, "-c", "import resource; print(resource.getrusage(0).ru_maxrss)", seconds=60)
    assert int(said) < 100 << 10
    del held


def test_the_products_are_as_hard_to_pack_as_real_ones(tmp_path):
    work = steps.Work("sign", steps._SIGNED)
    make_products(tmp_path / "in", work.bands, work.products, 1200)

    def packed(path: Path) -> float:
        """Bytes a pixel, of those with data."""
        with rasterio.open(path) as file:
            return path.stat().st_size / np.count_nonzero(file.read(1))

    real = np.mean([packed(path) for band in work.bands for path in DATA.glob(f"*/{band}.tif")])
    made = np.mean([packed(tmp_path / f"in/product-0/{band}.tif") for band in work.bands])
    assert made == pytest.approx(real, rel=0.25)


def test_values_of_different_products_and_versions_are_told_apart(tmp_path):
    (sign,) = probes(["step_sign"])
    said = sign.parameters(Setting(tmp_path, side=1024))
    assert said == {"step": "sign", "version": steps._version(), "products": "1", "bands": "10", "pixels": "1024x1024"}


def test_a_step_that_is_not_installed_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "DISTRIBUTION", "earthself-nowhere")
    (found,) = Run({}, Setting(tmp_path), 1).samples(probes(["step_sign"]))
    assert found.labels["reason"] == "missing"
    assert "pip install earthself-nowhere" in found.labels["error"]


def test_a_step_that_fails_or_does_nothing_says_why(tmp_path, burn):
    with pytest.raises(steps.ProbeFailed, match=r"step composite: .*--mask"):
        steps.measured(steps.Work("composite", ["B02"], options=("--mask", "guess")), Setting(tmp_path, side=256))
    with pytest.raises(steps.ProbeFailed, match=r"step sign did nothing: .*B03"):
        steps.measured(steps.Work("sign", ["B02"]), Setting(tmp_path, side=256))
