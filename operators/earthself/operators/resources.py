"""What a step may use, in Kubernetes' own notation, so that the same words serve a process and a pod."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

from earthself.operators.errors import BadRequest

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]|[KMGT]i)?", re.ASCII)


@dataclass(frozen=True)
class StepResources:
    """A step's share of a machine."""

    cpu: float = 1.0
    """Cores, above 0; fractions are allowed."""
    memory: str = "2Gi"
    """Memory that the step's processes may use together; a step that grows past it is killed (exit code 137)."""
    scratch: str = "20Gi"
    """Temporary disk space; enforced in a cluster only."""
    gpu: int = 0
    """Graphics processors; given in a cluster only."""
    memory_up_to: str | None = None
    """A step that is killed for memory is tried again with twice as much, and so on until this; None: it fails."""

    def __post_init__(self) -> None:
        if isinstance(self.cpu, bool) or not isinstance(self.cpu, (int, float)) or not 0 < self.cpu <= 1024:
            raise BadRequest(f"cpu={self.cpu!r} is not a number of cores; give a number above 0 such as 2 or 0.5")
        if isinstance(self.gpu, bool) or not isinstance(self.gpu, int) or self.gpu < 0:
            raise BadRequest(f"gpu={self.gpu!r} is not a number of graphics processors; give 0 or more")
        quantity(self.memory, "memory")
        quantity(self.scratch, "scratch")
        if self.memory_up_to is not None and quantity(self.memory_up_to, "memory_up_to") < self.memory_bytes:
            raise BadRequest(f"memory_up_to={self.memory_up_to!r} is less than memory={self.memory!r}; give at least that, or leave it out")

    @classmethod
    def from_value(cls, value: StepResources | dict[str, Any] | None) -> StepResources:
        """Accept a dict where a DAG file gives one; None takes the defaults."""
        if isinstance(value, StepResources):
            return value
        try:
            return cls(**(value or {}))
        except TypeError as error:
            raise BadRequest(f"resources={value!r}: {error}; StepResources has cpu, memory, memory_up_to, scratch, gpu") from error

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        return quantity(self.memory, "memory")

    @property
    def share(self) -> MemoryShare:
        """The memory that it is given where nothing says otherwise."""
        return MemoryShare(self.memory_bytes, self.memory_bytes)

    @property
    def memory_most(self) -> int:
        """The most memory that an attempt may get, bytes."""
        return self.memory_bytes if self.memory_up_to is None else quantity(self.memory_up_to, "memory_up_to")

    @property
    def threads(self) -> int:
        """Threads that libraries may start: whole cores, at least 1."""
        return max(1, math.floor(self.cpu))

    def only_in_a_cluster(self) -> list[str]:
        """Name what was asked for beyond the defaults that a process on this machine is not held to."""
        asked = []
        if self.scratch != type(self).scratch:
            asked.append(f"scratch={self.scratch} (the disk's free space is the limit)")
        if self.gpu:
            asked.append(f"gpu={self.gpu} (the step sees the graphics processors that this machine has)")
        return asked


@dataclass(frozen=True)
class MemoryShare:
    """What a step was given of a machine's memory; a pod's template may say other than the step."""

    request: int | None
    """What was kept free for it, bytes; None where nothing was."""
    limit: int | None
    """What it might not pass, bytes; None where there was no limit but the machine's."""

    def __str__(self) -> str:
        request, limit = ("none" if size is None else spell(size) for size in (self.request, self.limit))
        return f"request {request}, limit {limit}"


def workers() -> int:
    """How many heavy steps run side by side: EARTHSELF_WORKERS, else the cores of this machine."""
    return int(os.environ.get("EARTHSELF_WORKERS") or 0) or os.cpu_count() or 1


def quantity(text: str, what: str) -> int:
    """Read `4Gi`, `500M` or a plain number of bytes; raises `BadRequest`."""
    found = _QUANTITY.fullmatch(str(text).strip())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if size <= 0:
        raise BadRequest(f"{what}={text!r} is not a size; write for example 4Gi, 500M or a number of bytes")
    return size


def spell(size: float) -> str:
    """Write bytes for people, in binary units."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"
