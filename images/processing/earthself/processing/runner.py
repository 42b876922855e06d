"""Runs one step as this process: folders, parameters, signals, result document, exit code.

An exit code is what Airflow, Kubernetes and a shell agree on, so every way to end has one: 0 done, 65 bad input,
75 try again, 137 out of memory, 143 stopped by SIGTERM, and anything else failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from earthself.data.errors import EarthSelfError
from earthself.processing.errors import BadInput
from earthself.processing.folders import check_folders, growing
from earthself.processing.parameters import parameters_of, parse
from earthself.processing.step import Step, StepContext, StepResult, fit, result_document

OUT_OF_MEMORY = 137
STOPPED = 143
GRACE_SECONDS = 3.0
"""Seconds after SIGTERM in which the step may tidy up by itself; Airflow kills a task 5 s after SIGTERM, Kubernetes a pod after 30."""

_OPTIONS = ("input", "output", "result", "scratch")


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C arrived; not an Exception, so that no step swallows it."""


@dataclass(frozen=True)
class _Call:
    """The command line and environment of one run, taken apart."""

    input: Path
    output: Path
    scratch: Path | None
    cpus: float
    memory: int | None
    as_json: bool
    parameters: tuple[str, ...]


def run_step(function: Step, arguments: Sequence[str], name: str | None = None) -> int:
    """Run `function` with the folders of the environment or of `--input`, `--output`; returns the exit code."""
    name = name or str(getattr(function, "__name__", "step"))
    as_json = "--json" in arguments
    result_file = _result_file(arguments)
    try:
        call = _read_call(name, arguments)
        with _stoppable() as partials:
            document = _run(function, name, call, partials)
    except _Stopped:
        return _end(_failed(f"{name} was stopped", retry=True), result_file, as_json, STOPPED)
    except EarthSelfError as error:
        return _end(_failed(str(error), retry=error.retry), result_file, as_json, error.exit_code)
    except MemoryError:
        return _end(_failed(f"{name} ran out of memory; give it more or a smaller area", retry=False), result_file, as_json, OUT_OF_MEMORY)
    except Exception as error:  # noqa: BLE001 the process ends here and says why
        traceback.print_exc()
        return _end(_failed(f"{type(error).__name__}: {error}", retry=False), result_file, as_json, 1)
    return _end(document, result_file, as_json, 0)


def _run(function: Step, name: str, call: _Call, partials: list[Path]) -> dict[str, Any]:
    values = parse(parameters_of(function), call.parameters)
    check_folders(call.input, call.output)
    _limit_threads(call.cpus)
    begin, cpu = time.perf_counter(), _cpu_seconds()
    with growing(call.output) as partial, _scratch(call.scratch, name) as scratch:
        partials += [partial, scratch]
        context = StepContext(name, call.input, partial, scratch, call.cpus, call.memory)
        result = function(context, **values)
        if not isinstance(result, StepResult):
            raise BadInput(f"step {name} returned {type(result).__name__}; it must return a StepResult")
        if context.outputs is None:
            context.write([])
        for warning in result.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        measured = {
            "seconds": round(time.perf_counter() - begin, 3),
            "cpu_seconds": round(_cpu_seconds() - cpu, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        return result_document(replace(result, metrics=measured | dict(result.metrics)), context.outputs or 0)


def _result_file(arguments: Sequence[str]) -> Path | None:
    """Find the file of the result document before all else, so that it can say what is wrong with the rest of the command line."""
    for word, following in pairwise((*arguments, "")):
        text = following if word == "--result" else word.removeprefix("--result=") if word.startswith("--result=") else ""
        if text:
            return Path(text)
    variable = os.environ.get("EARTHSELF_STEP_RESULT")
    return Path(variable) if variable else None


def _read_call(name: str, arguments: Sequence[str]) -> _Call:
    given: dict[str, str] = {}
    parameters: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, equals, text = word.removeprefix("--").partition("=")
        if word == "--json":
            continue
        if word.startswith("--") and option in _OPTIONS:
            if not equals and not rest:
                raise BadInput(f"--{option} needs a path")
            given[option] = text if equals else rest.pop(0)
        else:
            parameters += [word] if equals or not rest or not word.startswith("--") else [word, rest.pop(0)]
    paths = {option: given.get(option) or os.environ.get(f"EARTHSELF_STEP_{option.upper()}") for option in _OPTIONS}
    for option in ("input", "output"):
        if not paths[option]:
            raise BadInput(f"step {name} needs --{option} DIR or EARTHSELF_STEP_{option.upper()}")
    return _Call(
        Path(str(paths["input"])).absolute(),
        Path(str(paths["output"])).absolute(),
        Path(paths["scratch"]) if paths["scratch"] else None,
        _number("EARTHSELF_STEP_CPUS") or float(_cores()),
        int(_number("EARTHSELF_STEP_MEMORY") or 0) or None,
        "--json" in arguments,
        tuple(parameters),
    )


def _number(variable: str) -> float | None:
    text = os.environ.get(variable)
    try:
        value = float(text) if text else None
    except ValueError as error:
        raise BadInput(f"{variable} is {text!r}, not a number") from error
    if value is not None and value <= 0:
        raise BadInput(f"{variable} is {text}; it must be above 0")
    return value


def _failed(message: str, *, retry: bool) -> dict[str, Any]:
    return fit({"status": "failed", "outputs": 0, "message": message, "retry": retry, "metrics": {}, "warnings": []})


def _end(document: dict[str, Any], file: Path | None, as_json: bool, code: int) -> int:
    if file:
        # In place: it may be a file that a container runtime mounts, and nobody reads it before the process has ended.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    elif code == 0:
        sys.stdout.write(f"{document['status']}: {document['outputs']} items. {document['message']}".rstrip() + "\n")
    if code:
        sys.stderr.write(f"error: {document['message']}\n")
    sys.stderr.flush()
    sys.stdout.flush()
    return code


@contextlib.contextmanager
def _scratch(folder: Path | None, name: str) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[list[Path]]:
    """Let SIGTERM end the step; yields the list of folders to remove should it not end by itself.

    A signal handler in Python waits until the interpreter runs again, which a read that hangs inside a library may put
    off for minutes: a watcher thread, woken by the signal itself, ends the process after the grace period.
    """
    folders: list[Path] = []
    if threading.current_thread() is not threading.main_thread():
        yield folders
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    done = threading.Event()

    def watch() -> None:
        while (byte := os.read(receiver, 1)) and byte[0] not in (signal.SIGTERM, signal.SIGINT):
            pass
        if byte and not done.wait(GRACE_SECONDS):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(STOPPED)

    old = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    old_fd = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield folders
    finally:
        done.set()
        signal.set_wakeup_fd(old_fd)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(sender)
        watcher.join()
        os.close(receiver)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 the interpreter passes both
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Stopped


def _limit_threads(cpus: float) -> None:
    """Libraries that start a thread a core would fight over the share that this step has."""
    threads = str(max(1, int(cpus)))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, threads)


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
