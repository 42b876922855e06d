"""A step that was killed for memory is tried again with half its items, or with the next size up, inside the same try of its task.

What is done and what is left stands in a file of the step's folder: whoever goes on (a worker after the triggerer, the next try after
one that died) repeats nothing that was done (docs/decisions/memory.md).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.data.errors import EarthSelfError
from earthself.operators import accounts, catalogs
from earthself.operators.errors import OutOfMemory, StepFailed
from earthself.operators.resources import spell

if TYPE_CHECKING:
    from earthself.operators.step_run import StepRun

_ADDED_UP = ("seconds", "cpu_seconds")
_FAILURES = "failures.json"
_LISTS = (_FAILURES,)
"""Documents of a step that are lists, and so are put one after the other."""


@dataclass(frozen=True)
class Attempt:
    """One try of a part of the items with one size of memory."""

    first: int
    """Its first item, counted from 0 in the order of the input."""
    items: int
    """How many items it has; 0 for a step without an input."""
    memory: int
    """What it gets, bytes."""
    killed: bool = False
    """Whether it was killed for memory; its place was then taken by others, or its item was lost."""
    lost: bool = False
    """Whether its one item was given up, and stands in the step's `failures.json`."""

    def __str__(self) -> str:
        return f"{self._items()}with {spell(self.memory)}"

    def _items(self) -> str:
        return f"{self.items} item{'' if self.items == 1 else 's'} " if self.items else ""


class Attempts:
    """What was tried of a step and what is left to do, kept in its folder."""

    def __init__(self, run: StepRun, key: str, *, items: Sequence[Path], splittable: bool, may_lose: bool = False) -> None:
        """Go on where somebody left off who did the same (`key`), else begin with all items and the memory that the step asks for."""
        from earthself.data.workspace import read_json

        self._run = run
        self._key = key
        self._splittable = splittable
        self._may_lose = splittable and may_lose
        self._items = items
        self._file = run.folder / "attempts.json"
        said = read_json(self._file) if self._file.is_file() else {}
        known = said.get("of") == key
        self._left = [Attempt(**one) for one in said["left"]] if known else [Attempt(0, len(items), run.resources.memory_bytes)]
        self._ended = [Attempt(**one) for one in said["ended"]] if known else []
        if known:
            accounts.take_back(run.folder)
        else:
            catalogs.empty_folder(run.folder)
            self._write()

    def next(self) -> StepRun | None:
        """Give the attempt that is to be made, with a folder of its own; None when all items are done."""
        if not self._left:
            return None
        now = self._left[0]
        folder = self._folder(len(self._ended))
        part = (now.first, now.items) if now.items < len(self._items) else None
        staged = part is not None or self._run.source.parent == self._run.staging
        return replace(
            self._run,
            folder=folder,
            source=folder / "staging" / "input" if staged else self._run.source,
            output=folder / "output",
            part=part,
            resources=replace(self._run.resources, memory=str(now.memory)),
        )

    def done(self) -> None:
        """Note that the attempt ended well."""
        self._ended.append(self._left.pop(0))
        self._write()

    def after(self, error: OutOfMemory) -> str:
        """Plan what takes the place of an attempt that was killed for memory, and say it; raises `OutOfMemory` where nothing is."""
        now = self._left[0]
        halves = self._halves(now) or self._larger(now)
        if not halves and self._may_lose and now.items == 1:
            return self._lose(now, error)
        if not halves:
            raise self._in_vain(error) from error
        self._ended.append(replace(now, killed=True))
        self._left[:1] = halves
        self._write()
        return f"{error.what}; tried again: {', then '.join(map(str, halves))}"

    def forget(self) -> None:
        """Let the next try begin anew."""
        self._file.unlink(missing_ok=True)

    def give_account(self) -> dict[str, Any]:
        """Add up the accounts of all attempts in that of the step, whose `attempts` tells them apart; nothing where there is none yet."""
        from earthself.data.workspace import read_json

        found = [(n, self._folder(n) / accounts.ENDED) for n in range(len(self._ended) + 1)]
        each = {n: dict(read_json(path)) for n, path in found if path.is_file()}
        if not each:
            return {}
        tried = [*self._ended, *self._left[:1]]
        good = {n: one for n, one in each.items() if tried[n].lost or not tried[n].killed}
        last = dict(each[max((n for n in good if not tried[n].lost), default=max(each))])
        last |= {name: sum(one[name] for one in each.values()) for name in _ADDED_UP}
        last |= {"peak_memory": max(one["peak_memory"] for one in each.values())}
        last["document"] = _document([one["document"] for _, one in self._in_order(good)])
        last["attempts"] = [asdict(tried[n]) | {name: one[name] for name in ("exit_code", "seconds")} for n, one in each.items()]
        accounts.ended(self._run.folder, last)
        (self._run.folder / "result.json").write_text(json.dumps(last["document"]), encoding="utf-8")
        return last

    def put_together(self) -> None:
        """Make one output folder and one log of all, as if it had been one attempt."""
        made = self._run.made
        catalogs.empty_folder(made)
        well = {n: self._folder(n) / "output" for n, one in enumerate(self._ended) if one.lost or not one.killed}
        _join([folder for _, folder in self._in_order(well)], made, self._run.name)
        with (self._run.folder / "log").open("w", encoding="utf-8") as log:
            for n, one in enumerate(self._ended):
                log.write(f"attempt {n + 1}: {one}\n")
                said = self._folder(n) / "log"
                log.write(said.read_text(encoding="utf-8") if said.is_file() else "")

    def clear(self) -> None:
        """Take away what is needed no more; logs and accounts of the attempts stay."""
        self.forget()
        for n in range(len(self._ended)):
            shutil.rmtree(self._folder(n) / "output", ignore_errors=True)

    def _in_order(self, of: Mapping[int, Any]) -> list[tuple[int, Any]]:
        return sorted(of.items(), key=lambda one: [*self._ended, *self._left[:1]][one[0]].first)

    def _folder(self, number: int) -> Path:
        return self._run.folder / "attempts" / f"{number + 1:03d}"

    def _halves(self, now: Attempt) -> list[Attempt]:
        if not self._splittable or now.items < 2:
            return []
        half = (now.items + 1) // 2
        return [replace(now, items=half), replace(now, first=now.first + half, items=now.items - half)]

    def _larger(self, now: Attempt) -> list[Attempt]:
        memory = min(2 * now.memory, self._run.resources.memory_most)
        return [replace(now, memory=memory)] if memory > now.memory else []

    def _lose(self, now: Attempt, error: OutOfMemory) -> str:
        """Leave, in place of the attempt, what a step leaves that could do nothing with its one item."""
        from earthself.data.workspace import read_json, write_json

        folder, item = self._folder(len(self._ended)), read_json(self._items[now.first])["id"]
        why = f"alone with {spell(now.memory)}, {error.what}"
        made = catalogs.empty_folder(folder / "output")
        catalogs.write_catalog(made, self._run.name, [])
        write_json(made / _FAILURES, [{"id": item, "error": why, "retry": False}])
        account = dict(read_json(folder / accounts.ENDED))
        account["document"] = {"status": "nothing", "message": f"{item} is lost: {why}", "metrics": {}, "warnings": []}
        accounts.ended(folder, account)
        self._ended.append(replace(self._left.pop(0), killed=True, lost=True))
        self._write()
        return f"{error.what}; {item} is lost, the others are not"

    def _in_vain(self, error: OutOfMemory) -> OutOfMemory:
        tried = ", ".join(str(one) for one in [*(one for one in self._ended if one.killed), self._left[0]])
        can = "raise memory_up_to" if self._run.resources.memory_up_to else "give memory_up_to, or more memory"
        alone = f" a single item takes more than {spell(self._left[0].memory)};" if self._splittable and self._items else ""
        return OutOfMemory(
            f"{error.what}; killed were {tried};{alone} {can} in resources=StepResources(…), or make the items smaller",
            what=error.what, exit_code=error.exit_code, retry=error.retry,
        )  # fmt: skip

    def _write(self) -> None:
        from earthself.data.workspace import write_json

        write_json(
            self._file, {"of": self._key, "left": [asdict(one) for one in self._left], "ended": [asdict(one) for one in self._ended]}
        )


def digest(*made_of: Any) -> str:  # noqa: ANN401 - plain types
    """Give a key for what attempts are made of."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def carry_out(attempts: Attempts, finish: Callable[[StepRun], object], note: Callable[[str], object]) -> None:
    """Make all attempts that it takes; raises what the last one failed with.

    An error that another try may mend leaves what was done for it; after any other the task begins anew.
    """
    try:
        while (run := attempts.next()) is not None:
            try:
                finish(run)
            except OutOfMemory as error:
                note(attempts.after(error))
            else:
                attempts.done()
    except EarthSelfError as error:
        if not error.retry:
            attempts.forget()
        raise


def _document(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one result document of several: metrics are added up, but for peaks, of which the highest counts."""
    metrics: dict[str, float] = {}
    for one in documents:
        for name, value in one["metrics"].items():
            metrics[name] = max(metrics.get(name, value), value) if name.startswith("peak_") else metrics.get(name, 0) + value
    said = {one["status"] for one in documents}
    messages = dict.fromkeys(one["message"] for one in documents if one["message"])
    return {
        "status": "failed" if not said or "failed" in said else "done" if "done" in said else "nothing",
        "message": " | ".join(messages),
        "metrics": metrics,
        "warnings": list(dict.fromkeys(warning for one in documents for warning in one["warnings"])),
    }


def _join(folders: Sequence[Path], made: Path, name: str) -> None:
    """Put output folders together: files keep their places, catalogues and lists are joined; the folders stay whole."""
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = path.relative_to(folder)
            target = made / inside
            if str(inside) == catalogs.CATALOG or str(inside) in _LISTS:
                continue
            if target.exists():
                if target.read_bytes() == path.read_bytes():
                    continue
                raise StepFailed(
                    f"{name} left another {inside} for each part of its work, so that they cannot be put together; leave splittable out",
                    exit_code=1,
                    retry=False,
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
    for document in _LISTS:
        lists = [json.loads((folder / document).read_text(encoding="utf-8")) for folder in folders if (folder / document).is_file()]
        if lists:
            (made / document).write_text(json.dumps([one for each in lists for one in each]), encoding="utf-8")
    catalogs.join_catalogs([folder / catalogs.CATALOG for folder in folders], made / catalogs.CATALOG, name)


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # volumes there are that have no hard links
        shutil.copy2(path, target)
