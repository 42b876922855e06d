"""Measure a creator's own step: run as it is on products made for it, its profile taken from outside, so that it may be in any language."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from earthself.benchmark.environment import cores, memory
from earthself.benchmark.errors import BadSetting, ProbeFailed, ToolMissing, TooSlow
from earthself.benchmark.probes import probes
from earthself.benchmark.probing import REPEATS, Setting
from earthself.benchmark.products import SMALLER, make_products
from earthself.benchmark.statistics import LEAST, NOISY, Summary, summary
from earthself.data.sentinel2 import BANDS, TILE_MEGAPIXELS

SMALLEST = 1024
# The step's parent: what a process used is told to its parent only, and its peak of memory begins with that of the one it was forked from.
_WATCH = """
import json, os, subprocess, sys
step = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(step.pid, 0)
told = {"code": os.waitstatus_to_exitcode(status), "cpu_seconds": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss}
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""
_LONGEST_ERROR = 1000
_BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


@dataclass(frozen=True)
class OwnStep:
    """A step that keeps the contract of docs/steps.md, and what it is given."""

    command: Sequence[str]
    """Program and parameters, run in the current folder; the folders of the contract are in its environment."""
    name: str = "given"
    """Of its profile."""
    bands: Sequence[str] = _BANDS
    """Bands of each product, beside its scene classes (SCL)."""
    products: int = 1
    """Dates of one place that it is given at once."""
    side: int = 2048
    """Pixels of 10 m along each side of a product, at least 1,024."""
    seconds: float = 600.0
    """How long a run may take."""

    def __post_init__(self) -> None:
        if not self.command:
            raise BadSetting("there is no command to measure; give it after --, such as: -- python my_step.py --above 0.5")
        if unknown := [band for band in self.bands if band not in BANDS]:
            raise BadSetting(f"{', '.join(unknown)} is no band of Sentinel-2; there are {', '.join(BANDS)}")
        if self.side < SMALLEST or self.products < 1:
            raise BadSetting(f"{self.products} products of {self.side} pixels a side say too little; give 1 or more of {SMALLEST} or more")


@dataclass(frozen=True)
class Profiled:
    """What a step takes: for each megapixel (of 10 m) of a product, and for each run beside."""

    step: OwnStep
    cpu_seconds: float
    """For a megapixel, of all cores together."""
    cpu_begin: float
    """Processor seconds of a run, whatever it is given."""
    begin: float
    """Other seconds of a run, whatever it is given."""
    threads: int
    """Cores that it keeps busy."""
    memory: float
    """GiB at the peak with what it was measured with, which were `megapixels`."""
    growth: float
    """GiB for a megapixel."""
    megapixels: float
    read: float
    """10^9 bytes of rasters for a megapixel."""
    written: float
    """10^9 bytes for a megapixel."""
    speed: float
    """Of a core here, Mpixel/s of the probe `numpy_one`."""
    runs: int
    doubts: Sequence[str]
    """Why it should be measured again."""

    def profile(self, megapixels: float = TILE_MEGAPIXELS) -> dict[str, Any]:
        """Give it for `profile` of a need, for tiles of so many megapixels; what is doubtful does not count as measured."""
        number = self.step.products
        found = {
            "name": self.step.name,
            "cpu_seconds": self.cpu_seconds * megapixels + self.cpu_begin / number,
            "memory_gib": self.memory + self.growth * max(0.0, number * megapixels - self.megapixels),
            "read_gb": self.read * megapixels,
            "write_gb": self.written * megapixels,
            "speed": self.speed,
            "threads": self.threads,
            "start_seconds": self.begin / number,
        }
        rounded: dict[str, Any] = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}
        return rounded if self.doubts else rounded | {"measured": datetime.now(UTC).date().isoformat(), "runs": self.runs}


@dataclass(frozen=True)
class _Used:
    """What one run took."""

    seconds: float
    cpu_seconds: float
    """Of it and all that it started."""
    memory: float
    """GiB that the largest of its processes had at its peak."""
    read: float
    """10^9 bytes of rasters that it was given."""
    written: float
    """10^9 bytes that it left."""


def measure_step(step: OwnStep, scratch: Path, *, repeats: int = REPEATS, note: Callable[[int], None] = lambda _: None) -> Profiled:
    """Run a step with few pixels and with many, `repeats` times over: what a tile takes, and what a run takes whatever it is given.

    `note` hears of each run before it begins, numbered from 0; there are two for each repeat. Raises `ToolMissing` where there is no such
    program, `TooSlow` and `ProbeFailed` where the step does not do its work.
    """
    if shutil.which(step.command[0]) is None:
        raise ToolMissing(f"there is no program {step.command[0]}; give its path, or install it")
    (core,) = probes(["numpy_one"])
    few, many, speeds = [], [], []
    for number in range(repeats):
        note(2 * number)
        few.append(_run(step, scratch, step.side // SMALLER))
        note(2 * number + 1)
        many.append(_run(step, scratch, step.side))
        speeds.append(core.once(Setting(scratch, seconds=1.0))["pixels"])
    return _profiled(step, few, many, speeds)


def _profiled(step: OwnStep, few: Sequence[_Used], many: Sequence[_Used], speeds: Sequence[float]) -> Profiled:
    small, large = (step.products * side**2 / 1e6 for side in (step.side // SMALLER, step.side))

    def each(name: str) -> Summary:
        return summary([(getattr(more, name) - getattr(less, name)) / (large - small) for less, more in zip(few, many, strict=True)])

    cpu, wall, growth, speed = each("cpu_seconds"), each("seconds"), each("memory"), summary(speeds)
    if cpu.median <= 0 or wall.median <= 0:
        raise ProbeFailed(f"the step took no longer for {step.side} pixels a side than for {step.side // SMALLER}; give a larger --side")
    before = summary([less.cpu_seconds - cpu.median * small for less in few])
    begin = summary([less.seconds - wall.median * small for less in few])
    doubts = [
        f"{name} varies by {known.spread:.0%}, more than {NOISY:.0%}: let this machine have nothing else to do, or give a larger --side"
        for name, known in (("the processor's time", cpu), ("the core's speed", speed))
        if known.count >= LEAST and not known.trusted
    ]
    if len(many) < LEAST:
        doubts.append(f"{len(many)} repeats are too few to be trusted; give {LEAST} or more")
    cpu_begin = max(0.0, before.median)
    return Profiled(
        step,
        cpu.median,
        cpu_begin,
        max(0.0, begin.median - cpu_begin),
        max(1, min(round(cpu.median / wall.median), int(cores()))),
        summary([one.memory for one in many]).median,
        max(0.0, growth.median),
        large,
        each("read").median,
        max(0.0, each("written").median),
        speed.median,
        len(many),
        doubts,
    )


def _run(step: OwnStep, scratch: Path, side: int) -> _Used:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="earthself-step-") as name:
        folder = Path(name)
        make_products(folder / "in", step.bands, step.products, side)
        (folder / "scratch").mkdir()
        places = {"INPUT": "in", "OUTPUT": "out", "RESULT": "result.json", "SCRATCH": "scratch"}
        env = {f"EARTHSELF_STEP_{key}": str(folder / place) for key, place in places.items()}
        env |= {"EARTHSELF_STEP_CPUS": f"{cores():g}", "EARTHSELF_STEP_MEMORY": str(memory())}
        begun = time.perf_counter()
        usage = _watched(step, folder, env)
        seconds = time.perf_counter() - begun
        if not (folder / "out/catalog.json").is_file():
            raise ProbeFailed("the step left no catalog.json in the folder that EARTHSELF_STEP_OUTPUT names (docs/steps.md)")
        read, written = (sum(file.stat().st_size for file in folder.glob(places)) / 1e9 for places in ("in/*/*.tif", "out/**/*.*"))
        return _Used(seconds, usage["cpu_seconds"], usage["peak_kib"] / (1 << 20), read, written)


def _watched(step: OwnStep, folder: Path, env: Mapping[str, str]) -> Mapping[str, float]:
    """Run it, and give what it and its children used."""
    said, usage = folder / "said.txt", folder / "usage.json"
    words = [sys.executable, "-E", "-S", "-c", _WATCH, str(usage), *step.command]
    with said.open("wb") as to:
        process = subprocess.Popen(words, env=os.environ | dict(env), stdout=to, stderr=to, start_new_session=True)
        try:
            process.wait(step.seconds)
        except subprocess.TimeoutExpired:
            raise TooSlow(f"the step did not end within {step.seconds:g} s; give more by --minutes, or a smaller --side") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it left running
            process.wait()
    found: dict[str, float] = json.loads(usage.read_text()) if usage.is_file() else {"code": process.returncode}
    if found["code"]:
        last = said.read_text(errors="replace").strip()[-_LONGEST_ERROR:]
        raise ProbeFailed(f"the step ended with {found['code']}: {last or 'it said nothing'}")
    return found
