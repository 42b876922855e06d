"""What the processor does: prime numbers, encryption, and what Earth observation is made of, medians of stacks of pixels."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from earthself.benchmark.environment import cores
from earthself.benchmark.errors import ProbeFailed
from earthself.benchmark.probing import Measure, Probe, Setting, tool

_LATE = 30.0
_LAYERS, _SIDE = 8, 512


def _threads(many: bool) -> int:
    return max(1, int(cores())) if many else 1


def _sysbench(many: bool, setting: Setting) -> Mapping[str, float]:
    words = ("cpu", f"--threads={_threads(many)}", f"--time={setting.seconds:.0f}", "--cpu-max-prime=20000", "run")
    said = tool("sysbench", *words, seconds=setting.seconds + _LATE)
    if not (found := re.search(r"events per second:\s*([\d.]+)", said)):
        raise ProbeFailed(f"sysbench does not say how many events there were: {said[-200:]}")
    return {"events": float(found[1])}


def _openssl(setting: Setting) -> Mapping[str, float]:
    words = ("speed", "-mr", "-elapsed", "-seconds", f"{max(1.0, setting.seconds):.0f}", "-bytes", "16384", "-evp", "aes-256-gcm")
    said = tool("openssl", *words, seconds=setting.seconds + _LATE)
    if not (found := re.search(r"^\+F:\d+:[^:]+:([\d.]+)$", said, re.MULTILINE)):
        raise ProbeFailed(f"openssl does not say how fast it was: {said[-200:]}")
    return {"encrypted": float(found[1]) / 1e6}


def _medians(many: bool, setting: Setting) -> Mapping[str, float]:
    threads = _threads(many)
    stack = np.random.default_rng(1).random((_LAYERS, _SIDE, _SIDE), dtype=np.float32)
    until = time.perf_counter() + setting.seconds

    def work() -> int:
        done = 0
        while time.perf_counter() < until:
            np.median(stack, axis=0)
            done += 1
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(lambda _: work(), range(threads)))
    return {"pixels": done * _SIDE * _SIDE / 1e6 / (time.perf_counter() - begun)}


def _used(many: bool, _setting: Setting) -> Mapping[str, str]:
    return {"threads": str(_threads(many))}


_EVENTS = [Measure("events", "events/s", "higher")]
_PIXELS = [Measure("pixels", "Mpixel/s", "higher")]
PROBES = [
    Probe("cpu_one", "prime numbers on one core (sysbench)", _EVENTS, partial(_sysbench, False), partial(_used, False), ["sysbench"]),
    Probe("cpu_all", "prime numbers on all cores (sysbench)", _EVENTS, partial(_sysbench, True), partial(_used, True), ["sysbench"]),
    Probe(
        "cpu_encryption", "AES-256-GCM on one core (openssl)", [Measure("encrypted", "MB/s", "higher")], _openssl,
        lambda _: {"threads": "1", "cipher": "aes-256-gcm", "block": "16384"}, ["openssl"],
    ),
    Probe("numpy_one", "median of eight layers on one core (numpy)", _PIXELS, partial(_medians, False), partial(_used, False)),
    Probe("numpy_all", "median of eight layers on all cores (numpy)", _PIXELS, partial(_medians, True), partial(_used, True)),
]  # fmt: skip
