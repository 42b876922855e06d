"""All probes by name."""

from __future__ import annotations

from collections.abc import Sequence

from earthself.benchmark.errors import BadSetting
from earthself.benchmark.probes import catalogue, cpu, disk, made, memory, network, object_store, pod, raster, steps
from earthself.benchmark.probing import Probe

_MODULES = (cpu, memory, disk, network, object_store, raster, catalogue, steps, pod, made)
PROBES = {probe.name: probe for module in _MODULES for probe in module.PROBES}


def probes(names: Sequence[str] = ()) -> list[Probe]:
    """Give the probes of these names, all where none is named; raises `BadSetting` for one that is not there."""
    if unknown := [name for name in names if name not in PROBES]:
        raise BadSetting(f"there is no probe {unknown[0]!r}; there are {', '.join(PROBES)}")
    return [PROBES[name] for name in dict.fromkeys(names)] or list(PROBES.values())
