"""The step contract, kept once: a function that is given a `StepContext` and returns a `StepResult` becomes a process.

The runner owns what every step would otherwise get wrong: parameters from the command line, an output folder that is
there whole or not at all, the result document and its limit, exit codes, progress lines, and stopping when told to.
The contract itself, for steps in any language, stands in docs/steps.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earthself.data.workspace import write_json
from earthself.processing.catalog import read_items, write_items
from earthself.processing.errors import BadInput, ProcessingError

if TYPE_CHECKING:
    import pystac
    from earthself.data.area import Area

RESULT_LIMIT = 4096
"""Bytes of JSON that a result document may have."""


@dataclass(frozen=True)
class StepResult:
    """What a step says about its work; the runner adds the number of outputs, seconds, CPU seconds and peak memory."""

    status: Literal["done", "nothing"] = "done"
    """`nothing` when there was nothing to do or nothing came of it; `message` says why."""
    message: str = ""
    """One sentence for people."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers by name; units belong into the names, such as `bytes_read`, `seconds_reading`."""
    warnings: Sequence[str] = ()
    """What a reader of the result must know, one sentence each."""


@dataclass(frozen=True)
class StepContext:
    """What a step may use: local folders, a share of the machine, and a way to say how far it is."""

    name: str
    """The step's name, for titles and messages."""
    input: Path
    """Folder with the input `catalog.json`; read only."""
    output: Path
    """Folder to write into; it takes the place of the step's output when the step has ended well."""
    scratch: Path
    """Folder for temporary files, removed afterwards."""
    cpus: float
    """Cores that the step may use."""
    memory: int | None = None
    """Bytes that the step may use, or None where no limit is known."""
    _written: list[int] = field(default_factory=list, repr=False)
    _said: list[float] = field(default_factory=list, repr=False)

    def items(self) -> list[pystac.Item]:
        """Items of the input catalog, asset hrefs absolute; raises `BadInput` where the catalog cannot be read."""
        return read_items(self.input)

    def area(self) -> Area | None:
        """Read the area of interest from `area.geojson` beside the input catalog (lon/lat), or None where there is none."""
        path = self.input / "area.geojson"
        if not path.is_file():
            return None
        from earthself.data.area import Area

        try:
            return Area.from_conf(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise BadInput(f"{path} cannot be read as JSON: {error}") from error

    def progress(self, fraction: float, text: str = "") -> None:
        """Say on standard error how far the step is (0 to 1) and what it is doing; at most five lines a second."""
        now = time.monotonic()
        if self._said and now - self._said[-1] < 0.2 and fraction < 1:
            return
        self._said[:] = [now]
        line = " ".join(f"progress {min(max(fraction, 0.0), 1.0):.2f} {text}".split())
        print(line, file=sys.stderr, flush=True)  # noqa: T201 the contract's progress line

    def write(self, items: Iterable[pystac.Item], **extra_files: object) -> None:
        """Write the output `catalog.json`, its items, and further files (bytes, text, or anything that JSON can hold).

        Assets that lie in `output` get relative hrefs. Everything appears at once when the step has ended well.
        """
        for name, content in extra_files.items():
            path = self.output / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            else:
                write_json(path, content)
        self._written[:] = [write_items(self.output, items, self.name)]

    @property
    def outputs(self) -> int | None:
        """How many items were written, or None before `write`."""
        return self._written[0] if self._written else None


Step = Callable[..., StepResult]
"""A step: `def name(ctx: StepContext, *, parameter: type = default, ...) -> StepResult`."""


def step_main(function: Step, arguments: Sequence[str] | None = None) -> int:
    """Run a function as a step with the folders of `EARTHSELF_STEP_*` or `--input`, `--output`; returns the exit code.

    The one line that a creator's program needs: `sys.exit(step_main(my_step))`.
    """
    from earthself.processing.runner import run_step

    return run_step(function, sys.argv[1:] if arguments is None else list(arguments))


def result_document(result: StepResult, outputs: int) -> dict[str, Any]:
    """Make the result document, cut to `RESULT_LIMIT` bytes: first warnings from the end, then metrics, then the message.

    What was cut is said in a last warning. Numbers that JSON cannot hold (NaN, infinity) are left out.
    """
    if result.status not in {"done", "nothing"}:
        raise ProcessingError(f"a step's status is 'done' or 'nothing', not {result.status!r}")
    metrics = {name: value for name, value in result.metrics.items() if isinstance(value, (int, float)) and abs(value) < float("inf")}
    return fit(
        {"status": result.status, "outputs": outputs, "message": result.message, "metrics": metrics, "warnings": list(result.warnings)}
    )


def fit(document: dict[str, Any]) -> dict[str, Any]:
    """Cut a result document until it fits into `RESULT_LIMIT` bytes of JSON."""
    document = document | {"message": _cut(document["message"], 1000), "warnings": [_cut(each, 400) for each in document["warnings"]]}
    warnings, metrics = list(document["warnings"]), dict(document["metrics"])
    left_out = 0
    while size(document) > RESULT_LIMIT and (warnings or metrics):
        if warnings:
            warnings.pop()
            left_out += 1
        else:
            metrics.popitem()
        said = [f"{left_out} further warnings are in the step's log"] if left_out else []
        document = document | {"warnings": warnings + said, "metrics": metrics}
    return document


def size(document: Mapping[str, Any]) -> int:
    """Bytes of a document as it is written."""
    return len(json.dumps(document, ensure_ascii=False, allow_nan=False).encode())


def _cut(text: str, limit: int) -> str:
    encoded = str(text).encode()
    return str(text) if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"
