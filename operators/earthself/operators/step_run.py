"""What one attempt of a step consists of: its program, its folders, its share; the same for a process and a pod."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest
from earthself.operators.resources import MemoryShare, StepResources

if TYPE_CHECKING:
    from earthself.operators._process import Outcome

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GDAL_NUM_THREADS", "RAYON_NUM_THREADS")

_TAKEN = ("steps", "times", "notes")
"""Folders of a run's work folder that are nobody's output."""


@dataclass(frozen=True)
class StepRun:
    """One attempt of a step."""

    name: str
    """What messages call it."""
    index: int
    """Airflow's map index, -1 for a task that is not mapped."""
    command: Sequence[str]
    """The program with its fixed arguments; empty for an image's own."""
    arguments: Sequence[str]
    """The parameters as `--name value`."""
    resources: StepResources
    """What it may use."""
    root: Path
    """The workspace."""
    work: Path
    """The run's work folder, which holds all that the step may read."""
    folder: Path
    """Where its log and its accounts stay."""
    source: Path
    """The folder that it reads."""
    output: Path
    """Where its output takes its place in the end."""
    part: tuple[int, int] | None = None
    """Which of the input's items it is about, the first and how many; None: all of them."""

    @property
    def staging(self) -> Path:
        """What is there while it runs only."""
        return self.folder / "staging"

    @property
    def made(self) -> Path:
        """The folder that it writes its output to."""
        return self.staging / "output"

    @property
    def result(self) -> Path:
        """The result document."""
        return self.staging / "result.json"

    def variables(self, scratch: Path) -> dict[str, str]:
        """Give the environment by which the step finds everything (docs/steps.md)."""
        return {
            "EARTHSELF_STEP_INPUT": str(self.source),
            "EARTHSELF_STEP_OUTPUT": str(self.made),
            "EARTHSELF_STEP_RESULT": str(self.result),
            "EARTHSELF_STEP_SCRATCH": str(scratch),
            "EARTHSELF_STEP_CPUS": f"{self.resources.cpu:g}",
            "EARTHSELF_STEP_MEMORY": str(self.resources.memory_bytes),
            **dict.fromkeys(_THREADS, str(self.resources.threads)),
        }


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    outcome: Outcome
    """Exit code, and what it used."""
    tail: Sequence[str]
    """The last lines that it said, for an error that has no better words."""
    image: str | None = None
    """The image that it ran from, with its digest; None for a process here."""
    share: MemoryShare | None = None
    """What it was given of the memory, where that may be other than it asked for."""
    moved: Mapping[str, int | bool] | None = None
    """What its staging took, where it was staged: bytes `sent` and `fetched`, and whether they `crossed` clouds."""


def program(step: str | None, command: Sequence[str] | None, image: str | None) -> list[str]:
    """Give the words that start a step; none where an image starts its own program."""
    if image and not step and not command:
        return []
    if bool(step) == bool(command):
        raise BadRequest("give either step='name' or command=['program', …]")
    if command:
        if isinstance(command, str):
            raise BadRequest(f"command={command!r} is one string; give a list: the program and its arguments, no shell")
        return [str(word) for word in command]
    from importlib.metadata import entry_points

    names = sorted(entry_points(group="earthself.steps").names)
    if step not in names:
        raise BadRequest(f"there is no step {step!r}; installed are {', '.join(names) or 'none'}")
    return [sys.executable, "-m", "earthself.processing", str(step)]


def inputs_of(value: Any) -> list[Path]:  # noqa: ANN401 - a reference, a path, or a list of them
    """Find the catalogues that the inputs name; none for None."""
    if value is None:
        return []
    given = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
    paths = [_catalog(one) for one in given if one is not None]
    if not paths:
        raise BadRequest("inputs is an empty list; no task before this one left a catalogue")
    return paths


def output_folder(work: Path, name: str) -> Path:
    """Give the folder below the run's work folder that a name means; raises `BadRequest` for one that lies elsewhere."""
    folder = Path(os.path.normpath(work / name))
    if not folder.is_relative_to(work) or folder == work:
        raise BadRequest(f"output={str(name)!r} is no folder below the run's work folder")
    first = folder.relative_to(work).parts[0]
    if first in _TAKEN:
        raise BadRequest(f"output={str(name)!r} lies in {first}/, where tasks keep their accounts; choose another name")
    return folder


def arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Write parameters as a step's command line: `--name value`; None is left out; lists, dicts and truth values are JSON."""
    words: list[str] = []
    for name, value in parameters.items():
        if not str(name).replace("-", "_").isidentifier():
            raise BadRequest(f"{name!r} cannot be a parameter's name; use letters, digits and underscores")
        if value is None:
            continue
        text = json.dumps(value) if isinstance(value, (bool, list, tuple, dict)) else str(value)
        words += [f"--{name}", text]
    return words


def _catalog(value: Any) -> Path:  # noqa: ANN401
    """Find the catalogue that an input names: a reference (checked), a folder, or a file."""
    from earthself.data.reference import Reference

    if isinstance(value, Mapping):
        return Reference.from_dict(dict(value)).path()
    if not isinstance(value, (str, Path)):
        raise BadRequest(f"inputs={value!r} is neither a reference nor a path")
    path = Path(value)
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_absolute() or not path.is_file():
        raise BadRequest(f"inputs={str(value)!r} is not a catalogue; give a reference, or the absolute path of a folder with catalog.json")
    return path
