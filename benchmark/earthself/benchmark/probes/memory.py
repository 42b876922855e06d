"""How fast memory is read and written (sysbench, blocks of 1 MiB, all cores)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from earthself.benchmark.environment import cores
from earthself.benchmark.errors import ProbeFailed
from earthself.benchmark.probing import Measure, Probe, Setting, tool

_LATE = 30.0
_MIB = 2**20 / 1e6


def _bandwidth(setting: Setting) -> Mapping[str, float]:
    return {way: _way(way, setting) for way in ("read", "write")}


def _way(way: str, setting: Setting) -> float:
    options = (
        f"--threads={max(1, int(cores()))}",
        f"--time={max(1.0, setting.seconds / 2):.0f}",
        "--memory-block-size=1M",
        "--memory-total-size=100T",
    )
    said = tool("sysbench", "memory", *options, f"--memory-oper={way}", "run", seconds=setting.seconds + _LATE)
    if not (found := re.search(r"\(([\d.]+) MiB/sec\)", said)):
        raise ProbeFailed(f"sysbench does not say how fast it was: {said[-200:]}")
    return float(found[1]) * _MIB


PROBES = [
    Probe(
        "memory",
        "memory read and written on all cores (sysbench)",
        [Measure("read", "MB/s", "higher"), Measure("write", "MB/s", "higher")],
        _bandwidth,
        lambda _: {"threads": str(max(1, int(cores()))), "block": "1 MiB"},
        ["sysbench"],
    )
]
