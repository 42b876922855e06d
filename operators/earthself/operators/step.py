"""Runs a step: any program that reads a STAC catalogue from one folder and leaves one in another (docs/steps.md).

The operator owns what the step should not have to know: staging inputs, secrets, limits, the task's log, retries, and that
an output is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.data.errors import EarthSelfError
from earthself.operators import environment, step_output
from earthself.operators.base import EarthSelfOperator, map_index
from earthself.operators.errors import BadRequest, StepFailed
from earthself.operators.resources import StepResources, spell

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial
    from earthself.data.workspace import RunFolder
    from earthself.operators._process import Outcome, StepProcess

_RUNTIMES = ("local", "pod")
_GRACE_SECONDS = 4.0  # Airflow's supervisor kills a task 5 s after SIGTERM
_TAIL_LINES = 5
_TAKEN = ("steps", "times", "notes")
"""Folders of a run's work folder that are nobody's output."""


class ProcessingStepOperator(EarthSelfOperator):
    """Run a step on a catalogue and return the reference of the catalogue that it left.

    A step whose inputs are empty catalogues is not started: its output is an empty catalogue.

    :param step: name of an installed step (entry point group `earthself.steps`), or
    :param command: the program and its fixed arguments; parameters follow as `--name value`.
    :param image: container image; needs the runtime `pod`.
    :param inputs: reference dict of a catalogue, a path, or a list of them (read as one catalogue).
    :param parameters: passed as `--name value`; None is left out, lists and dicts go as JSON.
    :param resources: `StepResources` or a dict of its fields.
    :param runtime: `local` (a process on the worker); None takes EARTHSELF_RUNTIME, else `local`.
    :param output: output folder below the run's `work` folder; the task id (with the map index) when not given.
    :param cloud: where a pod should run; said once in the log and not used by `local`.
    :param eodag_conn_id: connection whose provider settings the step may read; None gives it none.
    :param env: further environment variables of the step; of the worker's it sees neither the platform's own nor secrets.
    """

    template_fields: Sequence[str] = ("step", "command", "image", "inputs", "parameters", "output_folder", "env", "cloud")
    template_fields_renderers = {"parameters": "json", "inputs": "json", "env": "json"}  # noqa: RUF012 - Airflow's own way
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        inputs: Any = None,  # noqa: ANN401 - a dict, an XComArg, a path, or a list of them
        step: str | None = None,
        command: Sequence[str] | None = None,
        image: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        resources: StepResources | dict[str, Any] | None = None,
        step_resources: dict[str, Any] | None = None,
        runtime: str | None = None,
        output: str | None = None,
        cloud: str | None = None,
        eodag_conn_id: str | None = "eodag_default",
        env: Mapping[str, str] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs
        self.step = step
        self.command = command
        self.image = image
        self.parameters = parameters or {}
        self.step_resources = resources if resources is not None else step_resources
        self.runtime = runtime
        self.output_folder = output
        self.cloud = cloud
        self.eodag_conn_id = eodag_conn_id
        self.env = env or {}
        self._process: StepProcess | None = None
        self._stopped = False

    @classmethod
    def partial(cls, *, resources: StepResources | dict[str, Any] | None = None, **kwargs: Any) -> OperatorPartial:  # noqa: ANN401
        """Prepare the operator for `expand`; Airflow takes `resources` of a mapped task for its own, so they travel under another name."""
        if resources is not None:
            kwargs["step_resources"] = asdict(StepResources.from_value(resources))
        return super().partial(**kwargs)

    def work(self, context: Context) -> dict[str, Any]:
        """Run the step in a process of its own; returns the reference dict of its output catalogue."""
        from earthself.operators import accounts, catalogs

        resources = StepResources.from_value(self.step_resources)
        self._check_runtime(resources)
        command = [*self._command(), *arguments(self.parameters)]
        index = map_index(context)
        run = self.run_folder(context)
        folder = catalogs.empty_folder(run.step(self.task_id, index))
        staging = folder / "staging"
        source = self._stage_inputs(staging)
        output = self._output(run, index)
        if self.inputs is not None and not catalogs.item_paths(source / catalogs.CATALOG):
            self.log.info("The input catalogue is empty: nothing to do")
            shutil.rmtree(staging, ignore_errors=True)
            area = catalogs.area_beside(source / catalogs.CATALOG)
            return accounts.left(folder, catalogs.write_catalog(catalogs.empty_folder(output), self._name, [], area))
        try:
            outcome, document, tail = self._run(command, source, staging, folder, resources)
            account = {"step": self._name, "try_number": context["ti"].try_number, **asdict(outcome), "document": document}
            accounts.ended(folder, account)
            step_output.raise_for(self._name, outcome, document, tail, resources)
            reference = step_output.put_in_place(source, staging / "output", output, document, self._name)
            self._remember(context, source, outcome, document)
        except EarthSelfError as error:
            accounts.failed(folder, error)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for warning in document.get("warnings", []):
            self.log.warning(warning)
        used = f"{outcome.seconds:.1f} s, {outcome.cpu_seconds:.1f} CPU-s, {spell(outcome.peak_memory)} at most"
        self.log.info(f"{self._name}: {document['status']}, {reference.count} items, {used}. {document['message']}".rstrip())
        return accounts.left(folder, reference)

    def on_kill(self) -> None:
        """End the step and everything that it started: SIGTERM, then SIGKILL after the grace period."""
        self._stopped = True
        if self._process is not None:
            self._process.stop(_GRACE_SECONDS)

    @property
    def _name(self) -> str:
        return self.step or str(self.task_id)

    def _check_runtime(self, resources: StepResources) -> None:
        runtime = self.runtime or os.environ.get("EARTHSELF_RUNTIME") or "local"
        if runtime not in _RUNTIMES:
            raise BadRequest(f"runtime={runtime!r} is unknown; choose from {', '.join(_RUNTIMES)}")
        if runtime == "pod" or self.image:
            asked = f"image={self.image!r}" if self.image else "runtime='pod'"
            raise BadRequest(
                f"{asked} needs a cluster, which this release cannot use yet; run it with runtime='local' and step=… or command=[…]"
            )
        only = resources.only_in_a_cluster() + ([f"cloud={self.cloud!r} (the step runs on this machine)"] if self.cloud else [])
        if only:
            self.log.info(f"Only a cluster enforces {'; '.join(only)}")

    def _command(self) -> list[str]:
        if bool(self.step) == bool(self.command):
            raise BadRequest("give either step='name' or command=['program', …]")
        if self.command:
            if isinstance(self.command, str):
                raise BadRequest(f"command={self.command!r} is one string; give a list: the program and its arguments, no shell")
            return [str(word) for word in self.command]
        from importlib.metadata import entry_points

        names = sorted(entry_points(group="earthself.steps").names)
        if self.step not in names:
            raise BadRequest(f"there is no step {self.step!r}; installed are {', '.join(names) or 'none'}")
        return [sys.executable, "-m", "earthself.processing", str(self.step)]

    def _stage_inputs(self, staging: Path) -> Path:
        """Choose the folder that the step reads: the catalogue's own, or one that lists the items of several."""
        from earthself.operators import catalogs

        staging.mkdir(parents=True)
        given = self.inputs if isinstance(self.inputs, Sequence) and not isinstance(self.inputs, (str, bytes)) else [self.inputs]
        paths = [_catalog(value) for value in given if value is not None]
        if not paths and self.inputs is None:
            return catalogs.write_catalog(staging / "input", "nothing", []).path().parent
        if not paths:
            raise BadRequest("inputs is an empty list; no task before this one left a catalogue")
        if len(paths) == 1:
            return paths[0].parent
        area = next((area for area in map(catalogs.area_beside, paths) if area), None)
        items = [item for path in paths for item in catalogs.item_paths(path)]
        return catalogs.link_catalog(staging / "input", self.task_id, items, area).path().parent

    def _output(self, run: RunFolder, index: int) -> Path:
        name = self.output_folder or (self.task_id if index < 0 else f"{self.task_id}/{index:04d}")
        folder = Path(os.path.normpath(run.work / name))
        if not folder.is_relative_to(run.work) or folder == run.work:
            raise BadRequest(f"output={str(name)!r} is no folder below the run's work folder")
        first = folder.relative_to(run.work).parts[0]
        if first in _TAKEN:
            raise BadRequest(f"output={str(name)!r} lies in {first}/, where tasks keep their accounts; choose another name")
        return folder

    def _run(
        self, command: list[str], source: Path, staging: Path, folder: Path, resources: StepResources
    ) -> tuple[Outcome, dict[str, Any], list[str]]:
        from earthself.operators._process import StepProcess

        tail: list[str] = []
        scratch = staging / "scratch"
        scratch.mkdir()
        with (folder / "log").open("w", encoding="utf-8") as log, self._sources() as sources:

            def on_line(line: str) -> None:
                log.write(line + "\n")
                log.flush()
                if not self._progress(line):
                    self.log.info(line)
                    tail[:] = [*tail[1 - _TAIL_LINES :], line]

            env = environment.for_steps(os.environ) | {
                "EARTHSELF_STEP_INPUT": str(source),
                "EARTHSELF_STEP_OUTPUT": str(staging / "output"),
                "EARTHSELF_STEP_RESULT": str(folder / "result.json"),
                "EARTHSELF_STEP_SCRATCH": str(scratch),
                "EARTHSELF_STEP_CPUS": f"{resources.cpu:g}",
                "EARTHSELF_STEP_MEMORY": str(resources.memory_bytes),
                **dict.fromkeys(_THREADS, str(resources.threads)),
                **sources,
                **{name: str(value) for name, value in self.env.items()},
            }
            (staging / "output").mkdir()
            self._process = StepProcess(command, env=env, cwd=scratch, memory=resources.memory_bytes)
            if self._stopped:
                raise StepFailed(f"{self._name} was stopped before it began", exit_code=143, retry=True)
            outcome = self._process.run(on_line)
        return outcome, step_output.result_document(folder / "result.json", self._name, outcome.exit_code), tail

    def _progress(self, line: str) -> bool:
        """Log `progress 0.42 reading B04` as what it means; False for any other line."""
        word, _, rest = line.partition(" ")
        number, _, text = rest.partition(" ")
        try:
            fraction = float(number) if word == "progress" else -1.0
        except ValueError:
            return False
        if not 0 <= fraction <= 1:
            return False
        self.log.info(f"{100 * fraction:3.0f} % {text}".rstrip())
        return True

    def _sources(self) -> Any:  # noqa: ANN401 - a context manager of a dict
        from contextlib import nullcontext

        if not self.eodag_conn_id:
            return nullcontext({})
        from earthself.hooks.eodag import EodagHook

        return EodagHook(self.eodag_conn_id).settings_file()

    def _remember(self, context: Context, source: Path, outcome: Outcome, document: dict[str, Any]) -> None:
        """Add what the step took to the history that estimates are made of; a lost row is no reason to fail.

        A step that does not say how much it did (`items` or `pixels`) teaches nothing and is left out.
        """
        metrics = document["metrics"]
        if not {"items", "pixels"} & set(metrics):
            return
        from earthself.operators import catalogs
        from earthself.operators.errors import OperatorError
        from earthself.operators.history import History, Record

        ti = context["ti"]
        record = Record(
            step=self._name[:250],
            version=_version(self.step),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            products=int(metrics.get("items", len(catalogs.item_paths(source / catalogs.CATALOG)))),
            pixels=int(metrics.get("pixels", 0)),
            bytes_read=int(metrics.get("bytes_read", 0)),
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
            peak_memory=outcome.peak_memory,
        )
        try:
            with History() as history:
                history.add(record)
        except OperatorError as error:
            self.log.warning(f"not remembered for later estimates: {error}")


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GDAL_NUM_THREADS", "RAYON_NUM_THREADS")


def _version(step: str | None) -> str:
    """Give the version of the distribution that offers an installed step."""
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group="earthself.steps", name=step)), None) if step else None
    return found.dist.version if found and found.dist else ""


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
