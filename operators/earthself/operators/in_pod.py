"""A step in a pod: begun by a worker, waited for by the triggerer where it takes long, brought to its end by a worker."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.hooks.cluster import Cluster
from earthself.operators import environment, manifest
from earthself.operators._process import Outcome
from earthself.operators.clouds import Cloud
from earthself.operators.errors import BadRequest, StepFailed
from earthself.operators.manifest import SCRATCH, SECRETS, Step
from earthself.operators.step_run import Ended, StepRun
from earthself.triggers.pods.life import Life, Plan
from earthself.triggers.pods.lines import Place
from earthself.triggers.pods.look import Look
from earthself.triggers.pods.spoken import Spoken
from earthself.triggers.step_pod import StepPodTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_KILL_SECONDS = 4.0
_SOURCES = "sources.json"


@dataclass(frozen=True)
class Wanted:
    """What a task wants of its pod, beside the run's folders."""

    image: str
    """Container image."""
    env: Mapping[str, str]
    """Environment that the task gives; what looks like a secret travels as one."""
    sources: str | None
    """Provider settings with their credentials, as JSON; None for a step that reads from no provider."""
    template: Mapping[str, Any]
    """Pod template of the step's own."""
    deadline: float | None
    """When the task must have ended, seconds since 1970."""
    start_seconds: float
    """How long the pod may take to start."""


class Deferred(Exception):
    """The triggerer is to wait on; holds the trigger."""

    def __init__(self, trigger: StepPodTrigger) -> None:
        super().__init__("the triggerer waits on")
        self.trigger = trigger


class PodStep:
    """A step's pod as its task sees it."""

    def __init__(self, cloud: Cloud, run: StepRun, log: Any) -> None:  # noqa: ANN401
        self._cloud = cloud
        self._run = run
        self._log = log
        self._life: Life | None = None
        self.gone = False
        """Whether the pod has been taken away, so that nothing uses its folders any more."""
        self._spoken = Spoken(log.info)

    def begin(self, context: Context, wanted: Wanted, stage: Callable[[], None]) -> Ended:
        """Make the pod, or take on the one that an earlier try made, and stay with it for a while; raises `Deferred` after that."""
        plan, secret = self._plan(context, wanted)
        return self._settled(asyncio.run(self._begin(plan, secret, stage)))

    def end(self, event: Mapping[str, Any]) -> Ended:
        """Go on where the triggerer fired."""
        if "error" in event:
            raise StepFailed(str(event["error"]), exit_code=int(event["exit_code"]), retry=bool(event["retry"]))
        self._spoken = Spoken(self._log.info, event["tail"])
        look = Look(**event["end"])
        return self._settled(asyncio.run(self._finish(Plan(**event["plan"]), look, Place(**event["place"]))))

    def kill(self) -> None:
        """Take the pod away; called by a signal in the middle of anything, hence a thread and a loop of its own."""
        if self._life is None:
            return
        plan = self._life.plan
        thread = threading.Thread(target=lambda: asyncio.run(self._remove(plan)), daemon=True)
        thread.start()
        thread.join(_KILL_SECONDS)

    async def _begin(self, plan: Plan, secret: dict[str, Any] | None, stage: Callable[[], None]) -> Look:
        async with Cluster(self._cloud.conn_id, self._cloud.extras) as cluster:
            self._life = life = Life(cluster, plan, say=self._spoken, note=self._log.info)
            if not await life.find():
                stage()
                if not await life.make(secret):
                    self._log.info(f"no room yet in namespace {plan.namespace}, it waits: {life.seen.why}")
                    raise Deferred(self._trigger(life))
            end = await life.follow(self._cloud.patience)
            if end is None:
                raise Deferred(self._trigger(life))
            return await self._take_away(life, end)

    async def _finish(self, plan: Plan, end: Look, place: Place) -> Look:
        async with Cluster(self._cloud.conn_id, self._cloud.extras) as cluster:
            self._life = life = Life(cluster, plan, say=self._spoken, note=self._log.info, place=place)
            life.seen = end
            return await self._take_away(life, end)

    async def _remove(self, plan: Plan) -> None:
        async with Cluster(self._cloud.conn_id, self._cloud.extras) as cluster:
            life = Life(cluster, plan, say=self._spoken, note=self._log.info)
            life.seen = Look("running")  # it may: then it gets its grace
            await life.remove()

    async def _take_away(self, life: Life, end: Look) -> Look:
        self._run.folder.mkdir(parents=True, exist_ok=True)
        (self._run.folder / "log").write_text(await life.whole_log(), encoding="utf-8")
        await life.remove()
        self.gone = True
        return end

    def _trigger(self, life: Life) -> StepPodTrigger:
        return StepPodTrigger(plan=life.plan.to_dict(), conn_id=self._cloud.conn_id, place=asdict(life.place), tail=self._spoken.tail)

    def _plan(self, context: Context, wanted: Wanted) -> tuple[Plan, dict[str, Any] | None]:
        ti, run = context["ti"], self._run
        name = manifest.pod_name(ti.dag_id, ti.run_id, ti.task_id, run.index)
        own = {str(key): str(value) for key, value in wanted.env.items()}
        open_env = environment.for_steps(own)
        hidden = {key: value for key, value in own.items() if key not in open_env}
        files = {_SOURCES: wanted.sources} if wanted.sources is not None else {}
        step = Step(
            image=wanted.image,
            # An installed step is started by the image's own Python, not by that of the worker.
            command=["python", *run.command[1:]] if run.command[:1] == [sys.executable] else run.command,
            arguments=run.arguments,
            env=open_env | run.variables(SCRATCH) | ({"EARTHSELF_SOURCES": str(SECRETS / _SOURCES)} if files else {}),
            secret_env=sorted(hidden),
            secret_files=sorted(files),
            resources=run.resources,
            root=run.root,
            reads=self._seen(),
            writes=[run.staging],
            template=wanted.template,
        )
        secret = name if hidden or files else None
        pod = manifest.manifest(context, self._cloud, step, name, secret)
        plan = Plan(pod, manifest.CONTAINER, secret, start_seconds=wanted.start_seconds, deadline=wanted.deadline)
        return plan, manifest.secret_object(pod, name, hidden | files) if secret else None

    def _seen(self) -> list[Path]:
        """Give what the pod sees of the workspace: the run's work, and an input that lies elsewhere in it."""
        run = self._run
        if not run.source.is_relative_to(run.root):
            raise BadRequest(f"input {run.source} lies outside of the workspace {run.root}, which is all that a pod sees; copy it there")
        return [run.work] if run.source.is_relative_to(run.work) else [run.work, run.source]

    def _settled(self, end: Look) -> Ended:
        """Say how the step ended as if it had been a process here."""
        run = self._run
        if end.stage in ("hopeless", "unstarted"):
            raise StepFailed(f"{run.name} did not run: {end.why}", exit_code=1, retry=end.stage == "unstarted")
        if end.stage == "overdue":
            raise StepFailed(f"{run.name} was ended: {end.why}", exit_code=143, retry=True)
        if end.stage == "interrupted":
            raise StepFailed(f"{run.name} was interrupted, not by itself: {end.why}", exit_code=143, retry=True)
        if end.said and not run.result.is_file():
            (run.folder / "result.json").write_text(end.said, encoding="utf-8")
        code = int(end.exit_code or 0)
        return Ended(Outcome(code, end.seconds, 0.0, 0, end.killed_for_memory, stopped=False), self._spoken.tail, end.image or None)


def hand_over(folders: list[Path]) -> None:
    """Give folders to whom the pod runs as, where the worker is root."""
    user, group = manifest.owner()
    if os.getuid() == 0:
        for folder in folders:
            os.chown(folder, user, group)
