"""Where a measurement was made, as labels: what this machine, or the pod that it is, has of processor, memory and system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

_CPU, _CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
IMAGE = "EARTHSELF_IMAGE"
"""Variable with the image and digest that a pod was made from."""


def environment() -> dict[str, str]:
    """Give `cpu_model`, `cpu_cores` and `memory_bytes` (that may be used, by limits too), `kernel`, `machine`, `image`, where known."""
    found = {
        "cpu_model": _model(),
        "cpu_cores": f"{cores():g}",
        "memory_bytes": str(memory()),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "image": os.environ.get(IMAGE, ""),
    }
    return {name: value for name, value in found.items() if value}


def cores() -> float:
    """Give the cores that may be used: of the machine, of this process, of its container."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota, period = _words("cpu.max") or (_words("cpu/cpu.cfs_quota_us") + _words("cpu/cpu.cfs_period_us")) or ["max", "1"]
    return allowed if quota in ("max", "-1") else min(allowed, int(quota) / int(period))


def memory() -> int:
    """Give the bytes of memory that may be used."""
    limit = next((words[0] for name in ("memory.max", "memory/memory.limit_in_bytes") if (words := _words(name))), "max")
    total = int(psutil.virtual_memory().total)
    return total if limit == "max" else min(total, int(limit))


def _words(name: str) -> list[str]:
    try:
        return (_CGROUP / name).read_text().split()
    except OSError:
        return []


def _model() -> str:
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
