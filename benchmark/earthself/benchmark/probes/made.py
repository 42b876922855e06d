"""How long a host, or a whole cluster, takes from being asked for until it is ready: by the commands that make and remove it here.

Which tool that is, is the operator's choice (SafeScale, Terraform, a cloud's own); the command has to end when what it makes is ready.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from functools import partial

from earthself.benchmark.errors import BadSetting, ProbeFailed
from earthself.benchmark.probing import Measure, Probe, Setting, tool

_LONGEST = 3600.0
"""Seconds that making may take, and removing."""


def _ready(kind: str, setting: Setting) -> Mapping[str, float]:
    make, remove = (_words(getattr(setting, f"{verb}_{kind}"), f"--{verb}-{kind}") for verb in ("make", "remove"))
    begun = time.perf_counter()
    try:
        tool(*make, seconds=_LONGEST)
        seconds = time.perf_counter() - begun
    finally:
        # Also after a failure, and when a person ends it: half a machine costs as much as a whole one.
        _removed(kind, remove)
    return {"ready": seconds}


def _removed(kind: str, words: list[str]) -> None:
    try:
        tool(*words, seconds=_LONGEST)
    except (ProbeFailed, OSError) as error:
        raise ProbeFailed(f"the {kind} may still be there, and cost money; look, and remove it by hand: {error}") from error


def _words(command: str | None, option: str) -> list[str]:
    """Give program and arguments; raises `BadSetting` for a command that a shell could not read either."""
    try:
        found = shlex.split(command or "")
    except ValueError as error:
        raise BadSetting(f"{option} cannot be read ({error}): {command}") from error
    if not found:
        raise BadSetting(f"nobody says by which command; give {option}, such as: 'sh make.sh'")
    return found


def _parameters(kind: str, setting: Setting) -> Mapping[str, str]:
    return {"made_by": str(getattr(setting, f"make_{kind}") or "")}


PROBES = [
    Probe(
        f"ready_{kind}", f"time until a {kind} is ready that a command makes (removed again by another)", [Measure("ready", "s", "lower")],
        partial(_ready, kind), partial(_parameters, kind), asks=[f"make_{kind}", f"remove_{kind}"],
    )
    for kind in ("host", "cluster")
]  # fmt: skip
