"""Runs a step: any program that reads a STAC catalogue from one folder and leaves one in another (docs/steps.md).

The operator owns what the step should not have to know: staging inputs, secrets, limits, the task's log, retries, and that
an output is there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.data.errors import EarthSelfError
from earthself.operators import environment, step_output
from earthself.operators.base import EarthSelfOperator, map_index
from earthself.operators.counting import StepCount, reason
from earthself.operators.dask_cluster import DaskCluster, OnThisMachine
from earthself.operators.errors import BadRequest, StepFailed
from earthself.operators.resources import StepResources, spell
from earthself.operators.step_run import Ended, StepRun, arguments, inputs_of, output_folder, program
from earthself.triggers.pods.spoken import Spoken
from earthself.triggers.task_states import state_of
from structlog.contextvars import bound_contextvars

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial
    from earthself.operators._process import Outcome, StepProcess
    from earthself.operators.clouds import Cloud
    from earthself.operators.in_pod import PodStep

_RUNTIMES = ("local", "pod")
_GRACE_SECONDS = 4.0  # Airflow's supervisor kills a task 5 s after SIGTERM
_START_SECONDS = 600.0


class ProcessingStepOperator(EarthSelfOperator):
    """Run a step on a catalogue and return the reference of the catalogue that it left.

    A step whose inputs are empty catalogues is not started: its output is an empty catalogue.

    :param step: name of an installed step (entry point group `earthself.steps`), or
    :param command: the program and its fixed arguments; parameters follow as `--name value`.
    :param image: container image, which runs in a pod; with `command`, or with the program that it starts by itself.
    :param inputs: reference dict of a catalogue, a path, or a list of them (read as one catalogue).
    :param parameters: passed as `--name value`; None is left out, lists and dicts go as JSON.
    :param resources: `StepResources` or a dict of its fields.
    :param splittable: whether the step is right on any part of its items; killed for memory, it is tried again with half of them.
    :param may_lose: whether, with `splittable`, an item that fits in no memory is lost (`failures.json`), instead of failing the task.
    :param dask: `DaskCluster` or a dict of its fields: a Dask cluster for the step, whose address is DASK_SCHEDULER_ADDRESS.
    :param runtime: `local` (a process on the worker) or `pod`; None takes `pod` for an image, EARTHSELF_RUNTIME, else `local`.
    :param output: output folder below the run's `work` folder; the task id (with the map index) when not given.
    :param cloud: Kubernetes connection of the cloud where a pod runs, `data` for where its products are (docs/pods.md); `local` uses none.
    :param pod_template: what a pod needs beyond `resources`, as Kubernetes writes it; laid over the cloud's template.
    :param start_seconds: how long a pod may take to start, but for the time that it waits for room.
    :param eodag_conn_id: connection whose provider settings the step may read; None gives it none.
    :param env: further environment variables of the step; of the worker's it sees neither the platform's own nor secrets.
    """

    template_fields: Sequence[str] = ("step", "command", "image", "inputs", "parameters", "output_folder", "env", "cloud", "pod_template")
    template_fields_renderers = {"parameters": "json", "inputs": "json", "env": "json", "pod_template": "json"}  # noqa: RUF012 - Airflow's own way
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
        splittable: bool = False,
        may_lose: bool = False,
        dask: DaskCluster | dict[str, Any] | None = None,
        runtime: str | None = None,
        output: str | None = None,
        cloud: str | None = None,
        eodag_conn_id: str | None = "eodag_default",
        env: Mapping[str, str] | None = None,
        pod_template: Mapping[str, Any] | None = None,
        start_seconds: float = _START_SECONDS,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs
        self.step = step
        self.command = command
        self.image = image
        self.parameters = parameters or {}
        self.step_resources = resources if resources is not None else step_resources
        self.splittable = splittable
        self.may_lose = may_lose
        self.dask = dask
        self.runtime = runtime
        self.output_folder = output
        self.cloud = cloud
        self.eodag_conn_id = eodag_conn_id
        self.env = env or {}
        self.pod_template = pod_template or {}
        self.start_seconds = start_seconds
        self._process: StepProcess | None = None
        self._pod: PodStep | None = None
        self._outcome: Outcome | None = None
        self._document: dict[str, Any] = {}
        self._stopped = False
        self._apart = False

    @classmethod
    def partial(cls, *, resources: StepResources | dict[str, Any] | None = None, **kwargs: Any) -> OperatorPartial:  # noqa: ANN401
        """Prepare the operator for `expand`; Airflow takes `resources` of a mapped task for its own, so they travel under another name."""
        if resources is not None:
            kwargs["step_resources"] = asdict(StepResources.from_value(resources))
        if isinstance(kwargs.get("dask"), DaskCluster):
            kwargs["dask"] = asdict(kwargs["dask"])
        return super().partial(**kwargs)

    def work(self, context: Context) -> dict[str, Any]:
        """Run the step, as a process here or in a pod; returns the reference dict of its output catalogue."""
        run = self._laid_out(context)
        in_pod = self._apart = self._runtime(run.resources) == "pod"
        if self.inputs is not None and not self._items():
            return self._nothing_to_do(run)
        with self._counted(run, "pod" if in_pod else "local") as count, self._accounted(run):
            count.begun()
            return self._carried_out(context, run, lambda one: self._run_in_pod(context, one) if in_pod else self._run_here(one))

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on when the triggerer says how the step's pod has ended, or that there is room for what only a worker can make."""

        def end() -> dict[str, Any]:
            from earthself.operators.clouds import cloud
            from earthself.operators.staged_pod import pod_step

            self._apart = True
            run, where = self._laid_out(context), cloud(event.get("conn_id") or self.cloud)
            ended = [] if event.get("room") else [event]

            def begin(one: StepRun) -> Ended:
                if not ended:
                    return self._run_in_pod(context, one)
                self._pod = pod_step(where, one, inputs_of(self.inputs), context, self.log)
                return self._pod.end(ended.pop())

            with self._counted(run, "pod"), self._accounted(run):
                return self._carried_out(context, run, begin)

        return dict(self.noted(context, end))

    def on_kill(self) -> None:
        """End the step and everything that it started: SIGTERM, then SIGKILL after the grace period."""
        self._stopped = True
        if self._process is not None:
            self._process.stop(_GRACE_SECONDS)
        if self._pod is not None:
            self._pod.kill()

    def _laid_out(self, context: Context) -> StepRun:
        """Name everything that the step works with; nothing is made yet."""
        folders, index = self.run_folder(context), map_index(context)
        folder = folders.step(self.task_id, index)
        given = inputs_of(self.inputs)
        return StepRun(
            name=self.step or str(self.task_id),
            index=index,
            command=program(self.step, self.command, self.image),
            arguments=arguments(self.parameters),
            resources=StepResources.from_value(self.step_resources),
            root=folders.workspace.root,
            work=folders.work,
            folder=folder,
            source=given[0].parent if len(given) == 1 else folder / "staging" / "input",
            output=output_folder(folders.work, self.output_folder or (self.task_id if index < 0 else f"{self.task_id}/{index:04d}")),
        )

    def _runtime(self, resources: StepResources) -> str:
        runtime = self.runtime or ("pod" if self.image else os.environ.get("EARTHSELF_RUNTIME")) or "local"
        if runtime not in _RUNTIMES:
            raise BadRequest(f"runtime={runtime!r} is unknown; choose from {', '.join(_RUNTIMES)}")
        if runtime == "local" and self.image:
            raise BadRequest(f"image={self.image!r} runs in a pod only; leave runtime='local' out, or give step=… or command=[…] instead")
        if runtime == "local":
            only = resources.only_in_a_cluster() + ([f"cloud={self.cloud!r} (the step runs on this machine)"] if self.cloud else [])
            if only:
                self.log.info(f"Only a cluster enforces {'; '.join(only)}")
        return runtime

    def _items(self) -> list[Path]:
        from earthself.operators import catalogs

        return [item for path in inputs_of(self.inputs) for item in catalogs.item_paths(path)]

    def _nothing_to_do(self, run: StepRun) -> dict[str, Any]:
        from earthself.operators import accounts, catalogs

        self.log.info("The input catalogue is empty: nothing to do")
        area = next((area for area in map(catalogs.area_beside, inputs_of(self.inputs)) if area), None)
        folder = catalogs.empty_folder(run.folder)
        return accounts.left(folder, catalogs.write_catalog(catalogs.empty_folder(run.output), run.name, [], area))

    def _stage(self, run: StepRun) -> None:
        """Make the folders of an attempt anew; where it reads several catalogues, one that lists the items of all."""
        from earthself.operators import catalogs

        catalogs.empty_folder(run.folder)
        run.made.mkdir(parents=True)
        if run.source.parent != run.staging:
            return
        if self.inputs is None:
            catalogs.write_catalog(run.source, "nothing", [])
            return
        area = next((area for area in map(catalogs.area_beside, inputs_of(self.inputs)) if area), None)
        items = self._items()
        catalogs.link_catalog(run.source, self.task_id, items[run.part[0] : sum(run.part)] if run.part else items, area)

    def _carried_out(self, context: Context, run: StepRun, begin: Callable[[StepRun], Ended]) -> dict[str, Any]:
        """Run the step once, or as often as it takes where less work or more memory is to be tried; `begin` runs an attempt."""
        if self.may_lose and not self.splittable:
            raise BadRequest("may_lose=True gives up single items, which only splittable=True tries; give both, or leave may_lose out")
        if not self.splittable and not run.resources.memory_up_to:
            return self._finish(context, run, begin(run))
        from earthself.operators import accounts
        from earthself.operators.attempts import Attempts, carry_out

        attempts = Attempts(run, self._made_of(context, run), items=self._items(), splittable=self.splittable, may_lose=self.may_lose)

        def finish(one: StepRun) -> None:
            with self._accounted(one):
                ended = begin(one)
                try:
                    self._finish(context, one, ended)
                finally:
                    attempts.give_account()

        carry_out(attempts, finish, self.log.warning)
        attempts.put_together()
        account = attempts.give_account()
        self._document = account["document"]
        if self._outcome is not None:
            self._outcome = replace(self._outcome, **{name: account[name] for name in ("seconds", "cpu_seconds", "peak_memory")})
        reference = step_output.put_in_place(run.source, run.made, run.output, self._document, run.name)
        attempts.clear()
        return accounts.left(run.folder, reference)

    def _made_of(self, context: Context, run: StepRun) -> str:
        """Name what the attempts of a task are made of. Airflow raises `max_tries` when a person clears it: then all is made anew."""
        from earthself.operators.attempts import digest

        inputs = [[str(path), digest(path.read_text(encoding="utf-8"))] for path in inputs_of(self.inputs)]
        env = {str(name): str(value) for name, value in self.env.items()}
        again = context["ti"].max_tries
        return digest(run.name, run.command, run.arguments, asdict(run.resources), self.image, environment.for_steps(env), inputs, again)

    @contextmanager
    def _counted(self, run: StepRun, runtime: str) -> Iterator[StepCount]:
        """Count a step for the platform's metrics, and name it in the log's records."""
        count = StepCount(run.name, runtime, self.log)
        try:
            with bound_contextvars(step=run.name):
                yield count
        except Exception as error:
            count.ended(reason(error), self._outcome)
            raise
        else:
            count.ended(str(self._document["status"]), self._outcome, self._document["metrics"].get("bytes_read", 0))

    @contextmanager
    def _accounted(self, run: StepRun) -> Iterator[None]:
        """Keep why an attempt failed; what it was staged with goes, but not under a pod that is still there."""
        from earthself.operators import accounts

        try:
            yield
        except EarthSelfError as error:
            run.folder.mkdir(parents=True, exist_ok=True)
            accounts.failed(run.folder, error)
            raise
        finally:
            if self._pod.gone if self._pod is not None else not self._apart:
                shutil.rmtree(run.staging, ignore_errors=True)

    def _run_here(self, run: StepRun) -> Ended:
        from earthself.operators._process import StepProcess

        self._stage(run)
        spoken = Spoken(self.log.info)
        scratch = run.staging / "scratch"
        scratch.mkdir()
        with (run.folder / "log").open("w", encoding="utf-8") as log, self._sources() as sources:

            def on_line(line: str) -> None:
                log.write(line + "\n")
                log.flush()
                spoken(line)

            own = {name: str(value) for name, value in self.env.items()}
            env = environment.for_steps(os.environ) | run.variables(scratch) | sources | own
            self._process = StepProcess(self._with_dask(run), env=env, cwd=scratch, memory=run.resources.memory_bytes)
            if self._stopped:
                raise StepFailed(f"{run.name} was stopped before it began", exit_code=143, retry=True)
            outcome = self._process.run(on_line)
        return Ended(outcome, spoken.tail)

    def _with_dask(self, run: StepRun) -> list[str]:
        """Give the step's command line, behind what starts its Dask cluster where it asks for one."""
        command, dask = [*run.command, *run.arguments], DaskCluster.from_value(self.dask)
        if dask is None:
            return command
        share = OnThisMachine.of(dask, run.resources)
        self.log.info(f"Dask on this machine, out of the step's own share: {share.workers} workers with {spell(share.memory)} each")
        return share.program(command)

    def _run_in_pod(self, context: Context, run: StepRun) -> Ended:
        from earthself.operators.in_pod import Deferred, Wanted, hand_over
        from earthself.operators.placement import placed
        from earthself.operators.staged_pod import pod_step

        where = placed(self.cloud, self._items(), self.log)
        image = self.image or where.image
        if not image:
            raise BadRequest(
                f"{run.name} in a pod needs an image: give image=…, or `image` in the field earthself of connection {where.conn_id}"
            )

        def stage() -> None:
            self._stage(run)
            hand_over([run.staging, run.made])

        timeout = self.execution_timeout
        deadline = None if timeout is None else (context["ti"].start_date + timeout).timestamp()
        dask = DaskCluster.from_value(self.dask)
        if dask and where.storage:
            raise BadRequest(
                f"dask={self.dask!r} needs a cloud that shares the workspace as a volume; {where.conn_id} has a storage instead"
            )
        wanted = Wanted(
            image, self.env, self._sources_text(where), self.pod_template, deadline, self.start_seconds, dask, self._made_of(context, run)
        )
        if self._stopped:
            raise StepFailed(f"{run.name} was stopped before it began", exit_code=143, retry=True)
        self._pod = pod_step(where, run, inputs_of(self.inputs), context, self.log)
        try:
            return self._pod.begin(context, wanted, stage)
        except Deferred as deferred:
            # Airflow tells a worker only every few seconds, and lets no task wait that a person has ended.
            ti = context["ti"]
            if state_of(ti.get_task_states, ti.dag_id, ti.run_id, ti.task_id, run.index) != "running":
                self._pod.kill()
                raise StepFailed(f"{run.name} was ended by a person while it ran", exit_code=143, retry=False) from None
            self.defer(trigger=deferred.trigger, method_name="resume")

    def _finish(self, context: Context, run: StepRun, ended: Ended) -> dict[str, Any]:
        """Give the account of an attempt, and let its output take its place."""
        from earthself.operators import accounts
        from earthself.operators.remembering import remember

        outcome = self._outcome = ended.outcome
        if run.result.is_file():
            shutil.copyfile(run.result, run.folder / "result.json")
        document = self._document = step_output.result_document(run.folder / "result.json", run.name, outcome.exit_code)
        if self._pod is not None:  # what a pod used is known only where the step says it
            told = document["metrics"]
            known = {
                "peak_memory": outcome.peak_memory or int(told.get("peak_memory_bytes", 0)),
                "cpu_seconds": told.get("cpu_seconds", 0.0),
            }
            outcome = self._outcome = replace(outcome, **known)
        account = {"step": run.name, "try_number": context["ti"].try_number, **asdict(outcome), "image": ended.image, "document": document}
        account |= {"moved": dict(ended.moved)} if ended.moved else {}
        accounts.ended(run.folder, account)
        step_output.raise_for(run.name, outcome, document, list(ended.tail), ended.share or run.resources.share)
        reference = step_output.put_in_place(run.source, run.made, run.output, document, run.name)
        if self._pod is not None:
            self._pod.done()
        remember(run, outcome, document["metrics"], task=context["ti"], installed=self.step, log=self.log)
        for warning in document.get("warnings", []):
            self.log.warning(warning)
        peak = f"{spell(outcome.peak_memory)} at most" if outcome.peak_memory else "memory not known"
        used = f"{outcome.seconds:.1f} s, {outcome.cpu_seconds:.1f} CPU-s, {peak}"
        self.log.info(f"{run.name}: {document['status']}, {reference.count} items, {used}. {document['message']}".rstrip())
        return accounts.left(run.folder, reference)

    def _sources(self) -> Any:  # noqa: ANN401 - a context manager of a dict
        from contextlib import nullcontext

        if not self.eodag_conn_id:
            return nullcontext({})
        from earthself.hooks.eodag import EodagHook

        return EodagHook(self.eodag_conn_id).settings_file()

    def _sources_text(self, where: Cloud) -> str | None:
        """Give the provider settings for a pod, which sees no folder of the workers: it shares accounts by a service, or not."""
        if not self.eodag_conn_id:
            return None
        from earthself.data.broker import Place
        from earthself.hooks.eodag import EodagHook

        config = EodagHook(self.eodag_conn_id).config()
        shared = where.shared() or (config.shared if config.shared.is_service else None)
        if shared is None:
            self.log.info("A pod shares no provider account with others: it opens a session of its own (docs/pods.md names the broker)")
        return config.sharing(shared or Place()).to_json()
