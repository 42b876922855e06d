"""What the disk of a folder does, past the memory that hides it (fio, direct): whole files, and 4 KiB here and there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from earthself.benchmark.errors import ProbeFailed
from earthself.benchmark.probing import Measure, Probe, Setting, tool

_LATE = 120.0
_DEPTH = 16


def _fio(setting: Setting, block: str, ways: Mapping[str, str]) -> dict[str, Any]:
    """Do each way in its turn on one file; what fio says of it by our name for it."""
    need = setting.megabytes << 20
    if (free := shutil.disk_usage(setting.scratch).free) < 1.1 * need:
        have = f"{setting.scratch} has {free / 1e6:.0f} MB free"
        raise ProbeFailed(f"{have}, less than the {need / 1e6:.0f} MB to be written; name another folder")
    options = {
        "name": "probe", "filename": "file", "bs": block, "iodepth": _DEPTH, "size": f"{setting.megabytes}m", "direct": 1,
        "ioengine": "libaio", "runtime": f"{setting.seconds:g}", "output-format": "json", "group_reporting": 1, "end_fsync": 1,
    }  # fmt: skip
    words = [f"--{option}={value}" for option, value in options.items()]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=setting.scratch, prefix="earthself-fio-") as folder:
        for name, way in ways.items():
            said = tool("fio", f"--rw={way}", *words, seconds=2 * setting.seconds + _LATE, cwd=Path(folder))
            try:
                found[name] = json.loads(said[said.index("{") :])["jobs"][0][name]
            except (ValueError, LookupError) as error:
                raise ProbeFailed(f"fio does not say how fast it was: {said[-200:]}") from error
    return found


def _sequential(setting: Setting) -> Mapping[str, float]:
    found = _fio(setting, "1m", {"write": "write", "read": "read"})
    return {name: way["bw_bytes"] / 1e6 for name, way in found.items()}


def _random(setting: Setting) -> Mapping[str, float]:
    found = _fio(setting, "4k", {"write": "randwrite", "read": "randread"})
    return {f"{name}_operations": way["iops"] for name, way in found.items()} | {
        f"{name}_wait": way["clat_ns"]["mean"] / 1e6 for name, way in found.items()
    }


def _used(block: str, setting: Setting) -> Mapping[str, str]:
    return {"block": block, "depth": str(_DEPTH), "megabytes": str(setting.megabytes)}


PROBES = [
    Probe(
        "disk_sequential",
        "a file written and read in blocks of 1 MiB (fio)",
        [Measure("write", "MB/s", "higher"), Measure("read", "MB/s", "higher")],
        _sequential,
        partial(_used, "1 MiB"),
        ["fio"],
    ),
    Probe(
        "disk_random",
        "4 KiB here and there in a file (fio)",
        [Measure(f"{way}_operations", "operations/s", "higher") for way in ("write", "read")]
        + [Measure(f"{way}_wait", "ms", "lower") for way in ("write", "read")],
        _random,
        partial(_used, "4 KiB"),
        ["fio"],
    ),
]
