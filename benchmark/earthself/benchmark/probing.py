"""A probe is one thing that is measured, some times over; whatever keeps it from measuring is a sample, too, and the next one goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from earthself.benchmark.environment import environment
from earthself.benchmark.errors import BadSetting, BenchmarkError, ProbeFailed, Refused, ToolMissing, TooSlow
from earthself.benchmark.samples import FAILED, Sample
from earthself.data.errors import CredentialsRefused, EarthSelfError
from earthself.data.query import DEFAULT_COLLECTION

REPEATS = 5
"""How often a probe measures, unless told."""
_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Measure:
    """One value that a probe gives."""

    name: str
    unit: str
    better: Literal["higher", "lower"]


@dataclass(frozen=True)
class Setting:
    """What a probe may use; each takes of it what it needs."""

    scratch: Path
    """A folder on the disk that is measured; what a probe leaves there it removes itself."""
    seconds: float = 5.0
    """How long a repeat measures, where that is a matter of choice."""
    megabytes: int = 1024
    """How much a repeat writes to the disk."""
    server: str | None = None
    """host or host:port of an iperf3 that listens (`iperf3 -s`)."""
    storage: str | None = None
    """Prefix of an object storage that may be written, `s3://PROFILE@bucket/prefix`."""
    object_mib: int = 32
    """Size of the large object there."""
    raster: str | None = None
    """Address of a COG at the place that is measured."""
    jp2: str | None = None
    """Address of a JPEG2000 there."""
    provider: str | None = None
    """EODAG provider whose catalogue is asked; its settings are those of steps (`EARTHSELF_SOURCES`)."""
    collection: str = DEFAULT_COLLECTION
    """EODAG collection that is searched."""
    area: str | None = None
    """Where products are wanted: west,south,east,north in degrees."""
    period: str | None = None
    """When: FIRST/LAST, dates or times of RFC 3339; the last is not part of it."""
    order_minutes: float | None = None
    """How long an offline product that is ordered may take; without it nothing is ordered."""
    side: int = 2048
    """Pixels of 10 m along each side of the products that steps are given."""
    namespace: str | None = None
    """Namespace of a Kubernetes cluster in which a pod may be made; which cluster, the kubeconfig says, or the pod that we are in."""
    image: str | None = None
    """Image of that pod; it must have the program `sleep`."""
    make_host: str | None = None
    """Command that makes a host, and ends when it is ready; `remove_host` is run after it, whatever happened."""
    remove_host: str | None = None
    make_cluster: str | None = None
    """The same for a whole cluster."""
    remove_cluster: str | None = None


@dataclass(frozen=True)
class Probe:
    """One thing that is measured."""

    name: str
    about: str
    measures: Sequence[Measure]
    once: Callable[[Setting], Mapping[str, float]]
    """One repeat: a value for each measure; raises `ProbeFailed`."""
    parameters: Callable[[Setting], Mapping[str, str]] = lambda _: {}
    """What a value depends on beside the place; only values of the same parameters can be compared."""
    needs: Sequence[str] = ()
    """Programs without which it cannot measure."""
    asks: Sequence[str] = ()
    """Fields of the setting without which it has nothing to measure."""

    def fits(self, setting: Setting) -> bool:
        """Tell whether the setting names all that it asks for."""
        return all(getattr(setting, name) for name in self.asks)


@dataclass(frozen=True)
class Run:
    """One run of probes at one place."""

    place: Mapping[str, str]
    """Labels: cloud, region, zone, offer; what is not known is left out."""
    setting: Setting
    repeats: int = REPEATS
    uri: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise BadSetting(f"{self.repeats} repeats measure nothing; give 1 or more, {REPEATS} to be trusted")

    def samples(self, probes: Sequence[Probe], note: Callable[[Probe, int], None] = lambda *_: None) -> Iterator[Sample]:
        """Measure; `note` hears of each repeat before it begins. What fails is a sample that says so, and ends that probe only."""
        where = environment() | {name: value for name, value in self.place.items() if value}
        for probe in probes:
            labels = where | dict(probe.parameters(self.setting))
            try:
                for need in probe.needs:
                    if shutil.which(need) is None:
                        raise ToolMissing(f"there is no program {need}; get it with: apt-get install {need}")
                for number in range(self.repeats):
                    note(probe, number)
                    values = probe.once(self.setting)
                    for measure in probe.measures:
                        yield Sample(probe.name, measure.name, values[measure.name], measure.unit, labels, time.time(), self.uri)
            except (ProbeFailed, OSError) as error:
                reason = error.reason if isinstance(error, ProbeFailed) else "failed"
                told = {"reason": reason, "error": " ".join(str(error).split())[:_LONGEST_ERROR]}
                yield Sample(probe.name, FAILED, 1.0, "", labels | told, time.time(), self.uri)


def labels_of(*names: str) -> Callable[[Setting], Mapping[str, str]]:
    """Give the parameters of a probe that are fields of the setting."""
    return partial(_fields, names)


def _fields(names: Sequence[str], setting: Setting) -> Mapping[str, str]:
    return {name: str(found if (found := getattr(setting, name)) is not None else "") for name in names}


@contextmanager
def data_errors() -> Iterator[None]:
    """Say what `earthself.data` meets as a probe does; raises `Refused`, `ProbeFailed`."""
    try:
        yield
    except BenchmarkError:
        raise
    except CredentialsRefused as error:
        raise Refused(str(error)) from error
    except EarthSelfError as error:
        raise ProbeFailed(str(error)) from error


def tool(*words: str, seconds: float, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program and give what it says; raises `ProbeFailed` where it fails, `TooSlow` where it does not end in time.

    `env` is put into its environment beside what is there.
    """
    process = subprocess.Popen(
        words, env=os.environ | {"LC_ALL": "C"} | dict(env or {}), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        said, complained = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TooSlow(f"{words[0]} did not end within {seconds:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise ProbeFailed(f"{words[0]} ended with {process.returncode}: {(complained.strip() or said.strip())[-_LONGEST_ERROR:]}")
    return said
