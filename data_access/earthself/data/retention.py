"""How long a workspace keeps what: working files, runs without a result, results; and how they go, one whole thing at a time.

What goes is renamed away first and deleted then, so that nobody sees half of it, and who is killed in between has lost nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from earthself.data.errors import BadInput, TryAgain
from earthself.data.results import changing_catalog, href, is_result, listed
from earthself.data.workspace import RunFolder, Workspace

RULES_VARIABLE = "EARTHSELF_RETENTION"
"""Holds the rules as a JSON object, such as {"runs_days": 30}."""
_HOUR, _DAY = 3600.0, 86400.0
_TRASH = ".trash"
# What writers leave that were killed: workspace.atomic, transfer, folders, the steps' output folders, publishing.
_LITTER = re.compile(r"\..+\.part(\.[^/]*)?|\..+\.(partial|old)|\.publish")


@dataclass(frozen=True)
class Rules:
    """How long things are kept after the last change in them; 0 keeps for ever."""

    scratch_hours: float = 24.0
    """Working files of finished runs, shared downloads, what killed writers left."""
    runs_days: float = 90.0
    """Runs that have published no map: failed ones, and those that found nothing."""
    results_days: float = 0.0
    """Published results, which leave the catalogue too."""

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value < float("inf")):
                raise BadInput(f"{rule.name}={value!r} is no rule; use 0 (keep for ever) or a number from 1 up")

    @classmethod
    def from_env(cls) -> Rules:
        """The rules in EARTHSELF_RETENTION, by default those above; raises `BadInput` for what are none."""
        text = os.environ.get(RULES_VARIABLE) or "{}"
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            known = ", ".join(rule.name for rule in fields(cls))
            raise BadInput(f"{RULES_VARIABLE}={text!r} holds no rules ({error}); it is a JSON object of {known}") from None


@dataclass(frozen=True)
class Disposal:
    """One thing that goes, whole or not at all."""

    kind: str
    """`work` (a run's working files), `run`, `result`, `download` or `leftover`."""
    path: str
    """Where it lies below the workspace."""
    size: int
    """Bytes on the disk that go with it."""
    quiet_hours: float
    """Hours since anything in it changed."""
    error: str | None = None
    """Why it is still there, where it could not be removed."""


@dataclass(frozen=True)
class Cleaned:
    """What was, or would be, removed."""

    disposals: tuple[Disposal, ...]
    """Everything that the rules dispose of."""
    running: tuple[str, ...]
    """Runs that were left alone because they are not finished."""
    free_before: int
    """Bytes free on the disk before."""
    free_after: int
    """Bytes free on the disk after."""

    @property
    def size(self) -> int:
        """Bytes of everything disposed of."""
        return sum(each.size for each in self.disposals if each.error is None)


def clean(
    workspace: Workspace,
    rules: Rules,
    unfinished: Collection[tuple[str, str]] = (),
    *,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Cleaned:
    """Dispose of what the rules name; with `dry_run` only say what that would be.

    Runs in `unfinished` (pairs of workflow and run id) are left alone, as is every run in which anything changed within the rule's time.
    Raises `BadInput` for a workspace that is none or whose catalogue is damaged, `TryAgain` while another process cleans.
    """
    if not workspace.root.is_dir():
        raise BadInput(f"{workspace.root} is no folder; name the workspace")
    before = shutil.disk_usage(workspace.root).free
    with contextlib.nullcontext() if dry_run else _alone(workspace.root / _TRASH):
        running = set(unfinished)
        planned = list(_plan(workspace, rules, running, now))
        sizes = _sizes([workspace.root / each.path for each in planned])
        found = [Disposal(each.kind, each.path, size, each.quiet_hours) for each, size in zip(planned, sizes, strict=True)]
        if not dry_run:
            _empty(workspace.root / _TRASH)
            found = [_dispose(workspace, each, now) for each in found]
    left = [f"{run.dag_id}/{run.run_id}" for run in _runs(workspace) if (run.dag_id, run.run_id) in running]
    return Cleaned(tuple(found), tuple(left), before, shutil.disk_usage(workspace.root).free)


def _plan(workspace: Workspace, rules: Rules, running: set[tuple[str, str]], now: Callable[[], float]) -> Iterator[Disposal]:
    published = listed(workspace.catalog)
    active: list[RunFolder] = []
    taken: list[Path] = []
    for run in _runs(workspace):
        quiet = _quiet(run.path, now)
        disposal = None
        if (run.dag_id, run.run_id) not in running:
            disposal = _of_run(run, rules, quiet, result=is_result(run, published), age=now() - _changed(run.result))
        if (run.dag_id, run.run_id) in running or not _over(quiet, rules.scratch_hours * _HOUR):
            active.append(run)
        if disposal is not None:
            taken.append(workspace.root / disposal.path)
            yield disposal
    if not rules.scratch_hours:
        return
    untouchable = [*taken, *(run.path for run in active if (run.dag_id, run.run_id) in running)]
    yield from _leftovers(workspace, rules, untouchable, now)
    yield from _downloads(workspace, rules, active, now)


def _of_run(run: RunFolder, rules: Rules, quiet: float, *, result: bool, age: float) -> Disposal | None:
    root, hours = run.workspace.root, quiet / _HOUR
    idle = quiet >= _HOUR  # whoever writes into it now is not disturbed, however old the result is
    if result and idle and _over(age, rules.results_days * _DAY):
        return Disposal("result", str(run.path.relative_to(root)), 0, hours)
    if not result and _over(quiet, rules.runs_days * _DAY):
        return Disposal("run", str(run.path.relative_to(root)), 0, hours)
    if (result or run.result.is_file()) and run.work.is_dir() and _over(quiet, rules.scratch_hours * _HOUR):
        return Disposal("work", str(run.work.relative_to(root)), 0, hours)
    return None


def _leftovers(workspace: Workspace, rules: Rules, untouchable: list[Path], now: Callable[[], float]) -> Iterator[Disposal]:
    trash = workspace.root / _TRASH
    for where, folders, files in os.walk(workspace.root):
        here = Path(where)
        folders[:] = [name for name in folders if here / name != trash and here / name not in untouchable]
        for name in [name for name in (*folders, *files) if _LITTER.fullmatch(name)]:
            quiet = _quiet(here / name, now)
            if _over(quiet, rules.scratch_hours * _HOUR):
                yield Disposal("leftover", str((here / name).relative_to(workspace.root)), 0, quiet / _HOUR)
        folders[:] = [name for name in folders if not _LITTER.fullmatch(name)]


def _downloads(workspace: Workspace, rules: Rules, active: list[RunFolder], now: Callable[[], float]) -> Iterator[Disposal]:
    """Shared downloads that are old, and that no document of a run that may go on names."""
    if not workspace.downloads.is_dir():
        return
    documents = [path for run in active for path in run.work.rglob("*.json")]
    texts = [path.read_text(errors="replace") for path in documents if path.is_file()]
    for path in sorted(workspace.downloads.iterdir()):
        quiet = _quiet(path, now)
        if _LITTER.fullmatch(path.name) or not _over(quiet, rules.scratch_hours * _HOUR):
            continue
        if not any(f"{workspace.downloads.name}/{path.name}" in text for text in texts):
            yield Disposal("download", str(path.relative_to(workspace.root)), 0, quiet / _HOUR)


def _dispose(workspace: Workspace, planned: Disposal, now: Callable[[], float]) -> Disposal:
    """Take one thing away, unless somebody has begun to change it."""
    path = workspace.root / planned.path
    gone = workspace.root / _TRASH / f"{planned.kind}-{secrets.token_hex(8)}"
    try:
        if _quiet(path, now) < min(_HOUR, planned.quiet_hours * _HOUR):
            return _with(planned, "it is being changed; the next cleaning looks at it again")
        if planned.kind == "result":
            run = workspace.run(path.parent.name, path.name)
            with changing_catalog(workspace.catalog) as links:
                links[:] = [link for link in links if link["href"] != href(run)]
        path.rename(gone)
        _delete(gone)
    except FileNotFoundError:
        return _with(planned, "somebody else removed it")
    except OSError as error:
        return _with(planned, f"{error.strerror or error}: {error.filename}; mend its rights and clean again")
    return planned


def _with(planned: Disposal, error: str) -> Disposal:
    return Disposal(planned.kind, planned.path, planned.size, planned.quiet_hours, error)


@contextlib.contextmanager
def _alone(trash: Path) -> Iterator[None]:
    """Hold the trash, for one process; raises `TryAgain` while another has it."""
    trash.mkdir(exist_ok=True)
    with (trash / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryAgain(f"another process cleans {trash.parent}; try again when it is done") from None
        yield


def _empty(trash: Path) -> None:
    """Delete what an interrupted cleaning had renamed away."""
    for path in trash.iterdir():
        if path.name != ".lock":
            with contextlib.suppress(OSError):  # what cannot be deleted now is tried again by the next cleaning
                _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _runs(workspace: Workspace) -> Iterator[RunFolder]:
    for path in sorted((workspace.root / "runs").glob("*/*")):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(BadInput):  # not named like a run: nothing that a run wrote
                yield workspace.run(path.parent.name, path.name)


def _over(seconds: float, limit: float) -> bool:
    return bool(limit) and seconds >= limit


def _tree(path: Path) -> Iterator[os.stat_result]:
    """What lies at or below a path, without following links; what goes away meanwhile is passed over."""
    with contextlib.suppress(FileNotFoundError):
        yield path.lstat()
    for where, folders, files in os.walk(path):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                yield (Path(where) / name).lstat()


def _quiet(path: Path, now: Callable[[], float]) -> float:
    """Seconds since anything at or below a path changed."""
    return now() - max((each.st_mtime for each in _tree(path)), default=now())


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _sizes(paths: Iterable[Path]) -> list[int]:
    """Bytes on the disk that go with each of some things, in this order: those of a file go with the last of its names."""
    seen: dict[tuple[int, int], int] = {}
    sizes = []
    for path in paths:
        size = 0
        for each in _tree(path):
            key = (each.st_dev, each.st_ino)
            seen[key] = seen.get(key, 0) + 1
            if stat.S_ISDIR(each.st_mode) or seen[key] == each.st_nlink:
                size += each.st_blocks * 512
        sizes.append(size)
    return sizes
