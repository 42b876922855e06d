"""Where the files of a run lie, and how they are written so that a reader never sees half of one.

The layout is that of docs/architecture.md; no other module spells out these names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthself.data.errors import BadInput, NotThere, no_room

# Airflow's own pattern for run ids; dag and task ids are narrower. No separator, so no way out of the workspace.
_NAME = re.compile(r"[A-Za-z0-9_~:+.-]{1,250}", re.ASCII)
_MAPPED = "~"


@dataclass(frozen=True)
class Workspace:
    """A folder that all runs of one platform share."""

    root: Path
    """Absolute path of the folder."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if "://" in os.fspath(root):
            raise BadInput(f"{os.fspath(root)} is a URL; a workspace is a folder: mount the volume and set EARTHSELF_WORKSPACE to its path")
        object.__setattr__(self, "root", Path(root).expanduser().absolute())

    @classmethod
    def from_env(cls) -> Workspace:
        """The workspace named by EARTHSELF_WORKSPACE, else `workspace` in EARTHSELF_HOME, else in `.earthself` of the current folder."""
        given = os.environ.get("EARTHSELF_WORKSPACE")
        return cls(given or Path(os.environ.get("EARTHSELF_HOME") or ".earthself") / "workspace")

    @property
    def catalog(self) -> Path:
        """The STAC catalogue of all published results."""
        return self.root / "catalog" / "catalog.json"

    @property
    def downloads(self) -> Path:
        """Full product downloads, shared by runs."""
        return self.root / "downloads"

    def run(self, dag_id: str, run_id: str) -> RunFolder:
        """The folder of one run, which need not exist yet."""
        return RunFolder(self, dag_id, run_id)


@dataclass(frozen=True)
class RunFolder:
    """The names of everything that one run leaves. Nothing is made until it is written."""

    workspace: Workspace
    """The workspace that the run belongs to."""
    dag_id: str
    """Airflow's id of the workflow."""
    run_id: str
    """Airflow's id of the run."""

    def __post_init__(self) -> None:
        _check_name(self.dag_id, "workflow id")
        _check_name(self.run_id, "run id")

    @property
    def path(self) -> Path:
        """The run's folder, which holds its results."""
        return self.workspace.root / "runs" / self.dag_id / self.run_id

    @property
    def work(self) -> Path:
        """What tasks hand to each other."""
        return self.path / "work"

    @property
    def land_cover(self) -> Path:
        """The map: a COG with the bands code, confidence, observations."""
        return self.path / "land_cover.tif"

    @property
    def item(self) -> Path:
        """The STAC item of the result."""
        return self.path / "item.json"

    @property
    def statistics_parquet(self) -> Path:
        """Hectares per class."""
        return self.path / "statistics.parquet"

    @property
    def statistics_csv(self) -> Path:
        """Hectares per class, as text."""
        return self.path / "statistics.csv"

    @property
    def quicklook(self) -> Path:
        """The picture."""
        return self.path / "quicklook.png"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        """What the run was made from."""
        return self.path / "manifest.json"

    @property
    def result(self) -> Path:
        """The short account of the run."""
        return self.path / "result.json"

    @property
    def outdated(self) -> Path:
        """What says that the result was made from products of which there are newer ones; not there while it is up to date."""
        return self.path / "outdated.json"

    @property
    def request(self) -> Path:
        """The validated conf, defaults filled in."""
        return self.work / "request.json"

    @property
    def found(self) -> Path:
        """Catalogue of the products found."""
        return self.work / "found" / "catalog.json"

    @property
    def superseded(self) -> Path:
        """Older copies of observations of which a newer one is used."""
        return self.work / "found" / "superseded.json"

    @property
    def known(self) -> Path:
        """Catalogue of the signatures taken from EarthSignature."""
        return self.work / "known" / "catalog.json"

    @property
    def signatures(self) -> Path:
        """Catalogue of all signatures: the input of the mosaic."""
        return self.work / "signatures" / "catalog.json"

    @property
    def batches(self) -> Path:
        """Folder with a numbered folder per batch of products still to be signed."""
        return self.work / "batches"

    def batch(self, number: int) -> Path:
        """Catalogue of one batch of products still to be signed, counted from 0."""
        return self.batches / f"{number:04d}" / "catalog.json"

    def output(self, name: str) -> Path:
        """Output folder of a whole-run step: `mosaic`, `statistics`, `quicklook`."""
        return self.work / _check_name(name, "step name")

    def step(self, task_id: str, map_index: int | None = None) -> Path:
        """Folder of a step's result document and log; Airflow's map index -1 means that the task is not mapped."""
        return self.work / "steps" / named(task_id, map_index)

    def suggestion(self, task_id: str, map_index: int | None = None) -> Path:
        """Folder of what the Cloud Suggest Engine answered to a task; the map index as above."""
        return self.path / "suggestions" / named(task_id, map_index)


def named(task_id: str, map_index: int | None) -> str:
    """Name what belongs to a task or to one of its mapped instances: `sign`, `sign~3`. Airflow takes no `~` in a task id."""
    name = _check_name(task_id, "task id")
    return name if map_index is None or map_index < 0 else f"{name}{_MAPPED}{map_index}"


def task_of(name: str) -> str:
    """Give the task id of what `named` has named."""
    return name.partition(_MAPPED)[0]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; at the end it becomes `path` in one move, or vanishes when the block fails.

    Raises `NoRoom` where the block, or the move, fails on a full disk.
    """
    # The suffix is kept, since writers of rasters and tables choose the format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except Exception as error:
        if full := no_room(error, path):
            raise full from error
        raise
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    with atomic(path) as part:
        part.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text whole or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> Path:  # noqa: ANN401 - any JSON value
    """Write a JSON document whole or not at all; NaN and infinity are refused with `ValueError`."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON document; raises `NotThere` when it is missing and `BadInput` when it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotThere(f"{path} does not exist; run the task that writes it first") from None
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}); clear the task that wrote it") from error


def _check_name(value: str, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value.startswith("."):
        raise BadInput(
            f"{what} {value!r} cannot name a folder; use letters, digits and _ ~ : + . - (at most 250, not beginning with a dot)"
        )
    return value
