"""The probes as a step (docs/steps.md): measures the machine that it runs on, and leaves the samples as a file.

It keeps the contract by itself: this package stands below the steps' runtime, and needs no database where it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from earthself.benchmark.errors import BadSetting
from earthself.benchmark.planning import Target
from earthself.benchmark.probes import probes
from earthself.benchmark.probing import REPEATS, Probe, Run, Setting
from earthself.benchmark.samples import FAILED, Sample, write
from earthself.data.errors import EarthSelfError
from earthself.data.workspace import write_json, write_text

SAMPLES = "samples.ndjson"
"""File of the output folder with all samples, failed ones too."""
SETTINGS = tuple(each for each in fields(Setting) if each.name != "scratch" and not each.name.startswith(("make_", "remove_")))
"""What a caller may say of a `Setting`, each a parameter of this name; commands are for those who sit at the machine."""
_STOPPED = 143
_GRACE = 3.0
"""Seconds after SIGTERM that a probe may take to tidy up; Airflow kills a task after 5."""
_MOST_REPEATS = 1000
_LIMIT, _LONGEST = 4096, 300
"""Bytes of a result document, and characters of each sentence in it."""


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C arrived; not an Exception, so that no probe takes it for a failure of its own."""


class _TimeIsUp(Exception):
    """No further repeat may begin."""


@dataclass(frozen=True)
class _Found:
    """What was measured."""

    uri: str
    begun: float
    """Seconds since 1970, as `ended`."""
    ended: float
    samples: Sequence[Sample]
    left: Sequence[str]
    """Probes that time did not suffice for."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the step; returns its exit code: 0 done, 65 bad input, 143 stopped, 1 failed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        asked = _parser().parse_args(words)
        document, code = _step(asked), 0
    except _Stopped:
        document, code = _failure("the probes were stopped", retry=True), _STOPPED
    except EarthSelfError as error:
        document, code = _failure(str(error), retry=error.retry), error.exit_code
    except Exception as error:  # noqa: BLE001 - the process ends here and says why
        traceback.print_exc()
        document, code = _failure(f"{type(error).__name__}: {error}", retry=False), 1
    if name := os.environ.get("EARTHSELF_STEP_RESULT"):
        Path(name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    (sys.stderr if code else sys.stdout).write(f"{document['status']}: {document['message']}\n")
    return code


def _step(asked: argparse.Namespace) -> dict[str, Any]:
    output = _output()
    target = Target(None, asked.cloud.lower(), asked.region, asked.zone, asked.offer)
    said = {each.name: value for each in SETTINGS if (value := getattr(asked, each.name)) is not None}
    with tempfile.TemporaryDirectory(dir=os.environ.get("EARTHSELF_STEP_SCRATCH"), prefix="probes-") as scratch:
        setting = Setting(Path(scratch), **said)
        chosen = probes([name.strip() for name in asked.probes.split(",") if name.strip()])
        if not asked.probes.strip():
            chosen = [each for each in chosen if each.fits(setting)]
        found = _measured(Run(target.place, setting, asked.repeats), chosen, 60 * asked.minutes)
    _leave(output, target, found)
    return _result(found)


def _measured(run: Run, chosen: Sequence[Probe], seconds: float) -> _Found:
    begun, until = time.time(), time.monotonic() + seconds
    at, samples, left = 0, list[Sample](), list[str]()

    def note(probe: Probe, number: int) -> None:
        nonlocal at
        at = chosen.index(probe)
        if time.monotonic() > until:
            raise _TimeIsUp
        share = (at * run.repeats + number) / (len(chosen) * run.repeats)
        sys.stderr.write(f"progress {share:.2f} {probe.name} {number + 1} of {run.repeats}\n")
        sys.stderr.flush()

    try:
        samples.extend(run.samples(chosen, note))
    except _TimeIsUp:
        left = [each.name for each in chosen[at:]]
    return _Found(run.uri, begun, time.time(), samples, left)


def _leave(output: Path, target: Target, found: _Found) -> None:
    """Write samples, item and catalogue, the catalogue last; nothing of them stays where that fails."""
    begun, ended = (datetime.fromtimestamp(each, UTC).isoformat().replace("+00:00", "Z") for each in (found.begun, found.ended))
    place = {f"earthself:{name}": value for name, value in target.place.items() if value}
    catalog = {"href": "../catalog.json", "type": "application/json"}
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": found.uri, "geometry": None,
        "properties": {"datetime": begun, "start_datetime": begun, "end_datetime": ended, **place},
        "links": [{"rel": rel, **catalog} for rel in ("root", "parent")],
        "assets": {"samples": {"href": f"../{SAMPLES}", "type": "application/x-ndjson", "roles": ["data"], "title": "What was measured"}},
    }  # fmt: skip
    links = [
        {"rel": "root", "href": "./catalog.json", "type": "application/json"},
        {"rel": "item", "href": f"./{found.uri}/{found.uri}.json", "type": "application/geo+json"},
    ]
    try:
        write_text(output / SAMPLES, "".join(write(found.samples)))
        write_json(output / found.uri / f"{found.uri}.json", item)
        about = {"type": "Catalog", "stac_version": "1.1.0", "id": "probes", "description": "What probes measured", "links": links}
        write_json(output / "catalog.json", about)
    except BaseException:
        shutil.rmtree(output / found.uri, ignore_errors=True)
        (output / SAMPLES).unlink(missing_ok=True)
        raise


def _result(found: _Found) -> dict[str, Any]:
    failed = [sample for sample in found.samples if sample.metric == FAILED]
    measured = {sample.test for sample in found.samples} - {sample.test for sample in failed}
    warnings = [f"{one.test} {one.labels['reason']}: {one.labels['error']}" for one in failed]
    if found.left:
        warnings.insert(0, f"the time was up before these were done: {', '.join(found.left)}")
    return _fitting({
        "status": "done" if len(found.samples) > len(failed) else "nothing",
        "outputs": 1,
        "message": f"{len(measured)} probes measured, {len(failed)} failed, {len(found.left)} without time",
        "metrics": {"samples": len(found.samples), "failed": len(failed), "seconds": round(found.ended - found.begun, 3)},
        "warnings": [warning[:_LONGEST] for warning in warnings],
    })  # fmt: skip


def _fitting(document: dict[str, Any]) -> dict[str, Any]:
    """Leave warnings out from the end until the document is as short as the contract wants; the samples say all of it."""
    warnings, kept = document["warnings"], len(document["warnings"])
    while len(json.dumps(document, ensure_ascii=False).encode()) > _LIMIT:
        kept -= 1
        document = document | {"warnings": [*warnings[:kept], f"{len(warnings) - kept} further failures stand in {SAMPLES}"]}
    return document


def _failure(message: str, *, retry: bool) -> dict[str, Any]:
    return {"status": "failed", "outputs": 0, "message": message[:_LONGEST], "retry": retry, "metrics": {}, "warnings": []}


def _output() -> Path:
    named = os.environ.get("EARTHSELF_STEP_OUTPUT")
    if not named:
        raise BadSetting("EARTHSELF_STEP_OUTPUT names no folder; by hand, use earthself-suggest probe")
    output = Path(named)
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise BadSetting(f"the output folder {output} is not empty; name another one")
    return output


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the interpreter passes both
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    last = threading.Timer(_GRACE, os._exit, [_STOPPED])
    last.daemon = True
    last.start()
    raise _Stopped


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """What cannot be understood is bad input, which is never tried again."""
        raise BadSetting(f"{message}; --help says what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m earthself.benchmark.step", description=__doc__, allow_abbrev=False)
    for name in Target().place:
        parser.add_argument(f"--{name}", default="", help=f"{name} of the machine, a label of the samples")
    parser.add_argument("--probes", default="", help="names, separated by commas; else all whose place is named")
    parser.add_argument("--repeats", type=_above_0(int, _MOST_REPEATS), default=REPEATS, help="how often each probe measures")
    parser.add_argument("--minutes", type=_above_0(float, 1e6), default=1e6, help="no repeat begins after so many minutes")
    for each in SETTINGS:
        kind = {"int": int, "float": float}.get(str(each.type).partition(" ")[0], str)
        parser.add_argument(
            f"--{each.name}", type=_text if kind is str else _above_0(kind, 1e9), help=f"{each.name} of earthself-suggest probe"
        )
    return parser


def _above_0(kind: Callable[[str], float], most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {most:g}")
        return value

    return read


def _text(value: str) -> str:
    if len(value) > 2000 or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{value[:80]!r} is no line of at most 2000 characters")
    return value


if __name__ == "__main__":
    sys.exit(main())
