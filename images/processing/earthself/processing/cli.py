"""`earthself-step`: run a step by hand, with the same folders, parameters and exit codes as in a workflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from earthself.data.errors import EarthSelfError
from earthself.processing.errors import BadInput
from earthself.processing.parameters import parameters_of
from earthself.processing.runner import run_step
from earthself.processing.step import Step

GROUP = "earthself.steps"
_USAGE = """usage: earthself-step NAME --input DIR --output DIR [--result FILE] [--scratch DIR] [--json] [--PARAMETER VALUE ...]

Runs one step: reads DIR/catalog.json, and area.geojson beside it; leaves DIR/catalog.json in the output folder.
The folders may also come from EARTHSELF_STEP_INPUT, _OUTPUT, _RESULT and _SCRATCH.
Exit codes: 0 done, 2 usage, 65 bad input, 75 try again, 137 out of memory, 143 stopped, 1 failed.

  --help   this text; after a NAME, that step's parameters
  --json   the result document on standard output; without a NAME, the list of steps"""


@dataclass(frozen=True)
class _Known:
    """A step that some installed distribution offers."""

    name: str
    distribution: str
    function: Step | None
    problem: str

    def describe(self) -> dict[str, Any]:
        if self.function is None:
            return {"name": self.name, "distribution": self.distribution, "problem": self.problem}
        parameters = [parameter.describe() for parameter in parameters_of(self.function)]
        return {"name": self.name, "distribution": self.distribution, "summary": _summary(self.function), "parameters": parameters}

    def text(self) -> str:
        if self.function is None:
            return f"  {self.name}\n      {self.problem}"
        lines = [f"  {self.name}\n      {_summary(self.function)}", *(f"      {each.line()}" for each in parameters_of(self.function))]
        return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `earthself-step`; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        steps = "\n".join(step.text() for step in _all_steps())
        _say(f"{_USAGE}\n\nSteps:\n{steps}", error=not words)
        return 0 if words else 2
    if words == ["--json"]:
        _say(json.dumps([step.describe() for step in _all_steps()], indent=1, default=str))
        return 0
    name, *rest = words
    if name.startswith("-"):
        _say(f"error: the first argument is the step's name, not {name}; earthself-step --help lists them", error=True)
        return 2
    try:
        function = load_step(name)
        if _asks_for_help(rest):
            _say(f"{_USAGE}\n\n{_Known(name, '', function, '').text()}")
            return 0
    except EarthSelfError as error:
        _say(f"error: {error}", error=True)
        return error.exit_code
    return run_step(function, rest, name)


def load_step(name: str) -> Step:
    """Find the function of an installed step; raises `BadInput` when there is none of that name or it cannot be loaded."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join(sorted(entry_points(group=GROUP).names))
        raise BadInput(f"there is no step {name!r}; installed are {known}")
    try:
        function: Step = next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        raise BadInput(f"step {name!r} cannot be loaded: {error}") from error
    return function


def _asks_for_help(words: Sequence[str]) -> bool:
    """Whether an option is a question for help; the value of another option may look like one and is none."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in {"-h", "--help"}:
            return True
        if rest and word.startswith("--") and "=" not in word and word != "--json":
            rest.pop(0)
    return False


def _all_steps() -> list[_Known]:
    steps = []
    for entry in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        distribution = entry.dist.name if entry.dist else ""
        try:
            steps.append(_Known(entry.name, distribution, load_step(entry.name), ""))
        except BadInput as error:
            steps.append(_Known(entry.name, distribution, None, str(error)))
    return steps


def _summary(function: Step) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _say(text: str, *, error: bool = False) -> None:
    (sys.stderr if error else sys.stdout).write(text + "\n")
