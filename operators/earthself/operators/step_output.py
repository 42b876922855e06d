"""How a step ended and what it left: its result document, its exit code, its output folder, checked against docs/steps.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import OutOfMemory, StepFailed
from earthself.operators.resources import MemoryShare, spell

if TYPE_CHECKING:
    from earthself.data.reference import Reference
    from earthself.operators._process import Outcome

_RESULT_LIMIT = 4096
_BAD_INPUT, _TRY_AGAIN, _OUT_OF_MEMORY, _STOPPED = 65, 75, 137, 143


def result_document(path: Path, name: str, exit_code: int) -> dict[str, Any]:
    """Read and check the step's result document; a step that ended badly may have left none."""
    if not path.is_file():
        return {"status": "done" if exit_code == 0 else "failed", "message": "", "metrics": {}, "warnings": []}
    with path.open("rb") as file:
        raw = file.read(16 * _RESULT_LIMIT)
    try:
        document = json.loads(raw)
        problem = _problem(document, exit_code)
    except ValueError as error:
        problem = f"it is not JSON ({error})"
    if problem and exit_code == 0:
        raise StepFailed(
            f"the result document of {name} cannot be used: {problem}; docs/steps.md says what belongs in it", exit_code=1, retry=False
        )
    if problem:
        return {"status": "failed", "message": "", "metrics": {}, "warnings": []}
    return {"metrics": {}, "warnings": [], "message": ""} | dict(document)


def _problem(document: Any, exit_code: int) -> str:  # noqa: ANN401
    if not isinstance(document, dict):
        return f"it holds {type(document).__name__}, not an object"
    if (size := len(json.dumps(document, ensure_ascii=False).encode())) > _RESULT_LIMIT:
        return f"it has {size} bytes, at most {_RESULT_LIMIT} are read"
    if exit_code == 0 and document.get("status") not in ("done", "nothing"):
        return f"status is {document.get('status')!r}, not 'done' or 'nothing'"
    metrics, warnings = document.get("metrics", {}), document.get("warnings", [])
    if not isinstance(metrics, dict) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in metrics.values()):
        return "metrics is not an object of numbers"
    if not isinstance(warnings, list) or not all(isinstance(v, str) for v in warnings):
        return "warnings is not a list of texts"
    return "" if isinstance(document.get("message", ""), str) else "message is not a text"


def raise_for(name: str, outcome: Outcome, document: dict[str, Any], tail: list[str], share: MemoryShare) -> None:
    """Turn how a step ended into the error that says whether to try again."""
    code = outcome.exit_code
    reason = document.get("message") or " | ".join(tail) or "it said nothing"
    if outcome.stopped:
        # By Airflow: where a person marked the task, its state is set already; after lost heartbeats or a time-out it is tried again.
        raise StepFailed(f"{name} was stopped", exit_code=_STOPPED, retry=True)
    if outcome.memory_exceeded:
        peak = f"{spell(outcome.peak_memory)} {'or more (the limit was reached)' if outcome.peak_at_least else '(seen)'}"
        by_itself = "" if code == _OUT_OF_MEMORY else f"; it was one of its processes, the step itself ended with {code}"
        what = f"{name} was killed for memory: {share}, peak {peak if outcome.peak_memory else 'not known'}{by_itself}"
        advice = "give it more with resources=StepResources(memory=…), or less to do"
        raise OutOfMemory(f"{what}; {advice}", what=what, exit_code=_OUT_OF_MEMORY, retry=False)
    if code == 0:
        return
    if code == _OUT_OF_MEMORY:
        what = f"{name} was killed for memory or from outside (exit code 137; {share}): {reason}"
        raise OutOfMemory(what, what=what, exit_code=code, retry=True)
    if code == _BAD_INPUT:
        raise StepFailed(f"{name}: {reason}", exit_code=code, retry=False)
    if code == _TRY_AGAIN:
        raise StepFailed(f"{name}: {reason} (it asks to be tried again)", exit_code=code, retry=True)
    if code > 128:
        raise StepFailed(f"{name} was ended by signal {code - 128}: {reason}", exit_code=code, retry=True)
    raise StepFailed(f"{name} failed with exit code {code}: {reason}", exit_code=code, retry=bool(document.get("retry")))


def put_in_place(source: Path, made: Path, output: Path, document: dict[str, Any], name: str) -> Reference:
    """Let a whole output take its place, with the area of interest beside it."""
    from earthself.data.reference import Reference
    from earthself.operators import catalogs

    if document["status"] == "nothing" and not (made / catalogs.CATALOG).is_file():
        catalogs.write_catalog(made, name, [])
    if not (made / catalogs.CATALOG).is_file():
        raise StepFailed(f"{name} left no catalog.json in its output folder although it ended well", exit_code=1, retry=False)
    paths = catalogs.item_paths(made / catalogs.CATALOG)
    for path in paths:
        _check_item(path, made, name)
    if (source / catalogs.AREA).is_file() and not (made / catalogs.AREA).exists():
        shutil.copyfile(source / catalogs.AREA, made / catalogs.AREA)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    made.rename(output)
    return Reference.to_file(output / catalogs.CATALOG, len(paths))


def _check_item(path: Path, made: Path, name: str) -> None:
    from earthself.data.workspace import read_json

    for key, asset in dict(read_json(path).get("assets") or {}).items():
        href = str(asset.get("href", ""))
        if href.startswith(str(made)):
            raise StepFailed(
                f"asset {key!r} of {path.name} from {name} has the absolute path {href}; hrefs inside the output are relative",
                exit_code=1,
                retry=False,
            )
        if "://" not in href and not href.startswith("/") and not (path.parent / href).exists():
            raise StepFailed(f"asset {key!r} of {path.name} from {name} points to {href}, where nothing is", exit_code=1, retry=False)
