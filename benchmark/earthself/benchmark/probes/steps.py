"""What the platform's own steps take for a megapixel of products, run as the programs that they are on a machine.

The products are made for it (`earthself.benchmark.products`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from earthself.benchmark.environment import cores
from earthself.benchmark.errors import ProbeFailed, ToolMissing
from earthself.benchmark.probing import Measure, Probe, Setting, tool
from earthself.benchmark.products import SMALLER, make_products

DISTRIBUTION = "earthself-processing"
_LATE, _LATE_EACH = 120.0, 60.0
"""Seconds that a step may take, and those for each megapixel."""
# A program begins with the highest memory of the process that it was forked from; this shell, which has next to none, stands between.
_APART = ("sh", "-c", '"$@"; exit "$?"', "sh")


@dataclass(frozen=True)
class Work:
    """A step, and the products that it is given."""

    step: str
    """Its name in the entry point group `earthself.steps`."""
    bands: Sequence[str]
    """Bands of each product, beside its scene classes."""
    products: int = 1
    """Dates of the same place."""
    options: Sequence[str] = ()
    """Parameters of the step, as words."""

    def megapixels(self, side: int) -> float:
        """Millions of 10 m pixels of all its products, of so many pixels along each side."""
        return self.products * side**2 / 1e6


@dataclass(frozen=True)
class _Used:
    """What one run took."""

    whole: float
    """Seconds of the process."""
    seconds: float
    """Seconds of the step in it, as it says."""
    cpu_seconds: float
    """Seconds of all cores, as it says."""
    memory: float
    """GiB at the peak, as it says."""
    read: float
    """Megabytes of its rasters."""


def measured(work: Work, setting: Setting) -> Mapping[str, float]:
    """Run a step with few pixels and with many: by what it takes for those that are more, and what it takes whatever their number.

    Raises `ToolMissing` where the steps are not installed, `TooSlow` and `ProbeFailed` where this one does not do its work.
    """
    if not _version():
        raise ToolMissing(f"the steps are not installed here; get them with: pip install {DISTRIBUTION}")
    small = setting.side // SMALLER
    few, many = _run(work, setting.scratch, small), _run(work, setting.scratch, setting.side)
    more = work.megapixels(setting.side) - work.megapixels(small)
    each = {name: (getattr(many, name) - getattr(few, name)) / more for name in ("seconds", "cpu_seconds", "read")}
    if min(each.values()) <= 0:
        raise ProbeFailed(f"step {work.step} took no longer for more pixels ({setting.side} a side) than for few; give a larger --side")
    return each | {"start": few.whole - each["seconds"] * work.megapixels(small), "memory": many.memory}


def _run(work: Work, scratch: Path, side: int) -> _Used:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="earthself-step-") as name:
        folder = Path(name)
        make_products(folder / "in", work.bands, work.products, side)
        result = folder / "result.json"
        folders = {"input": folder / "in", "output": folder / "out", "scratch": folder, "result": result}
        words = [word for option, path in folders.items() for word in (f"--{option}", str(path))]
        begun = time.perf_counter()
        try:
            tool(
                *_APART, sys.executable, "-m", "earthself.processing", work.step, *words, *work.options,
                seconds=_LATE + _LATE_EACH * work.megapixels(side), cwd=folder, env={"EARTHSELF_STEP_CPUS": f"{cores():g}"},
            )  # fmt: skip
        except ProbeFailed as error:
            raise type(error)(f"step {work.step}: {error}") from error
        whole = time.perf_counter() - begun
        said = _said(work.step, result)
        read = sum(file.stat().st_size for file in folder.glob("in/*/*.tif")) / 1e6
        return _Used(whole, said["seconds"], said["cpu_seconds"], said["peak_memory_bytes"] / (1 << 30), read)


def _said(step: str, document: Path) -> Mapping[str, float]:
    """Read what a step says of itself when it has ended (docs/steps.md)."""
    try:
        result = json.loads(document.read_text())
        used = {name: float(result["metrics"][name]) for name in ("seconds", "cpu_seconds", "peak_memory_bytes")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProbeFailed(f"step {step} does not say what it took ({error})") from error
    if result["status"] != "done":
        raise ProbeFailed(f"step {step} did nothing: {result.get('message')}")
    return used


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


def _parameters(work: Work, setting: Setting) -> Mapping[str, str]:
    return {
        "step": work.step, "version": _version(), "products": str(work.products), "bands": str(len(work.bands)),
        "pixels": f"{setting.side}x{setting.side}",
    }  # fmt: skip


def _probe(work: Work, about: str) -> Probe:
    measures = [
        Measure("seconds", "s/Mpixel", "lower"),
        Measure("cpu_seconds", "s/Mpixel", "lower"),
        Measure("start", "s", "lower"),
        Measure("memory", "GiB", "lower"),
        Measure("read", "MB/Mpixel", "lower"),
    ]
    return Probe(f"step_{work.step}", about, measures, partial(measured, work), partial(_parameters, work))


_SIGNED = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_COMBINED = ("B02", "B03", "B04", "B08", "B11", "B12")
PROBES = [
    _probe(Work("sign", _SIGNED), "land cover of a product, by the step `sign`"),
    _probe(Work("composite", _COMBINED, products=5), "the median of five products, by the step `composite`"),
]
