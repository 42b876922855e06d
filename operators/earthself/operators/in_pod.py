"""A step in a pod: begun by a worker, waited for by the triggerer where it takes long, brought to its end by a worker."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.data.errors import EarthSelfError
from earthself.data.manifest import IMAGE_VARIABLE
from earthself.hooks.cluster import Cluster, ClusterError
from earthself.operators import dask_cluster, environment, manifest
from earthself.operators._process import Outcome
from earthself.operators.clouds import Cloud
from earthself.operators.dask_cluster import DaskCluster, dask_object
from earthself.operators.errors import BadRequest, StepFailed, StepNotStarted
from earthself.operators.manifest import SCRATCH, SECRETS, Step
from earthself.operators.step_run import Ended, StepRun
from earthself.triggers.pods.dask import MANAGED as DASK
from earthself.triggers.pods.life import FILES, Life, Plan, stamped
from earthself.triggers.pods.lines import Place
from earthself.triggers.pods.look import Look
from earthself.triggers.pods.spoken import Spoken
from earthself.triggers.step_pod import StepPodTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_KILL_SECONDS = 4.0
_LOOK_PAUSE = 0.5
_SOURCES = "sources.json"
_TRY_AGAIN, _KILLED = 75, 128
"""What staging ends with that another try may mend."""


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
    """How long the pod may take to start, and its Dask cluster before it."""
    dask: DaskCluster | None = None
    """The Dask cluster beside it."""
    made_of: str = ""
    """Digest of what the step reads; a pod that was made of something else is not adopted."""


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
        self._killed = False
        self.tried_again = False
        """Whether Airflow tries the task again where it fails in a way that passes."""
        self.gone = False
        """Whether the pod has been taken away, so that nothing uses its folders any more."""
        self._spoken = Spoken(log.info)

    def begin(self, context: Context, wanted: Wanted, stage: Callable[[], None]) -> Ended:
        """Make the pod, or take on the one that an earlier try made, and stay with it for a while; raises `Deferred` after that."""
        plan, secret = self._plan(context, wanted)
        return self._settled(plan, asyncio.run(self._begin(plan, secret, stage)))

    # What a pod with a workspace of its own does otherwise: `earthself.operators.staged_pod`.
    _around: Sequence[str] = ()

    def _lent_files(self) -> Sequence[str]:
        """Name the files that `_lent` gives."""
        return ()

    def _lent(self) -> dict[str, str]:
        """Give what is put into the Secret only when the pod is made."""
        return {}

    def _variables(self) -> dict[str, str]:
        """Give the environment by which the step finds its folders."""
        return self._run.variables(SCRATCH)

    def _manifest(self, context: Context, step: Step, name: str, secret: str | None) -> dict[str, Any]:
        return manifest.manifest(context, self._cloud, step, name, secret)

    def end(self, event: Mapping[str, Any]) -> Ended:
        """Go on where the triggerer fired."""
        if "error" in event:
            if not event["retry"]:
                with suppress(ClusterError):  # what it failed with is what counts
                    asyncio.run(self._remove(Plan(**event["plan"])))
            raise StepFailed(str(event["error"]), exit_code=int(event["exit_code"]), retry=bool(event["retry"]))
        self._spoken = Spoken(self._log.info, event["tail"])
        plan, look = Plan(**event["plan"]), Look(**event["end"])
        return self._settled(plan, asyncio.run(self._finish(plan, look, Place(**event["place"]))))

    def done(self) -> None:
        """Hear that the output has taken its place."""

    def kill(self) -> None:
        """Take the pod away; called by a signal in the middle of anything, hence a thread and a loop of its own."""
        self._killed = True
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
                await self._unless_killed(life)
                if secret is not None:
                    secret["stringData"] |= self._lent()
                made = await self._made(life, secret)
                await self._unless_killed(life)
                if not made:
                    self._log.info(f"pod {plan.name} in namespace {plan.namespace} waits: {life.seen.why}")
                    raise Deferred(self._trigger(life))
            end = await life.follow(self._cloud.patience)
            if end is None:
                raise Deferred(self._trigger(life))
            return await self._take_away(life, end)

    async def _unless_killed(self, life: Life) -> None:
        """Make nothing for a task that was ended meanwhile, and leave nothing of what was being made; Python goes on after SIGTERM."""
        if self._killed:
            await life.remove()
            raise StepFailed(f"{self._run.name} was stopped before it began", exit_code=143, retry=True)

    async def _made(self, life: Life, secret: dict[str, Any] | None) -> bool:
        """Make the pod; a Dask cluster is waited for as long as a worker has patience."""
        if await life.make(secret):
            return True
        until = time.monotonic() + self._cloud.patience
        while life.plan.dask is not None and time.monotonic() < until and not self._killed:
            await asyncio.sleep(_LOOK_PAUSE)
            if await life.make():
                return True
        return False

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
        with (self._run.folder / "log").open("w", encoding="utf-8") as log:
            async for line in life.whole_log():
                log.write(line)
        try:
            self._bring(end)
        except EarthSelfError as error:
            if not (error.retry and self.tried_again):
                await life.remove()
            raise
        await life.remove()
        self.gone = True
        return end

    def _bring(self, end: Look) -> None:
        """Bring what the step left to where its task finds it; the pod stays until that is done, so that no next try runs it."""

    def _trigger(self, life: Life) -> StepPodTrigger:
        place = asdict(life.place)
        return StepPodTrigger(
            plan=life.plan.to_dict(), conn_id=self._cloud.conn_id, place=place, tail=self._spoken.tail, step=self._run.name
        )

    def _plan(self, context: Context, wanted: Wanted) -> tuple[Plan, dict[str, Any] | None]:
        ti, run = context["ti"], self._run
        name = manifest.pod_name(self._cloud.files(), ti.dag_id, ti.run_id, ti.task_id, run.index)
        own = {str(key): str(value) for key, value in wanted.env.items()}
        open_env = environment.for_steps(own)
        hidden = {key: value for key, value in own.items() if key not in open_env}
        files = {_SOURCES: wanted.sources} if wanted.sources is not None else {}
        step = Step(
            image=wanted.image,
            # An installed step is started by the image's own Python, not by that of the worker.
            command=["python", *run.command[1:]] if run.command[:1] == [sys.executable] else run.command,
            arguments=run.arguments,
            env=open_env
            | self._variables()
            | {IMAGE_VARIABLE: wanted.image}
            | self._dask_address(name, wanted)
            | ({"EARTHSELF_SOURCES": str(SECRETS / _SOURCES)} if files else {}),
            secret_env=sorted(hidden),
            secret_files=sorted(files),
            resources=run.resources,
            root=run.root,
            reads=self._seen(),
            writes=[run.staging],
            template=wanted.template,
            made_of=wanted.made_of,
        )
        secret = name if hidden or files or self._lent_files() else None
        pod = self._manifest(context, step, name, secret)
        dask = stamped(dask_object(wanted.dask, pod, manifest.CONTAINER, DASK | {FILES: self._cloud.files()})) if wanted.dask else None
        plan = Plan(
            pod,
            manifest.CONTAINER,
            secret,
            start_seconds=wanted.start_seconds,
            deadline=wanted.deadline,
            around=self._around,
            dask=dask,
        )
        return plan, manifest.secret_object(pod, name, hidden | files) if secret else None

    def _dask_address(self, name: str, wanted: Wanted) -> dict[str, str]:
        namespace = manifest.namespace(self._cloud, wanted.template)
        return {"DASK_SCHEDULER_ADDRESS": dask_cluster.address(name, namespace)} if wanted.dask else {}

    def _seen(self) -> list[Path]:
        """Give what the pod sees of the workspace: the run's work, and an input that lies elsewhere in it."""
        run = self._run
        if not run.source.is_relative_to(run.root):
            raise BadRequest(f"input {run.source} lies outside of the workspace {run.root}, which is all that a pod sees; copy it there")
        return [run.work] if run.source.is_relative_to(run.work) else [run.work, run.source]

    def _settled(self, plan: Plan, end: Look) -> Ended:
        """Say how the step ended as if it had been a process here."""
        run = self._run
        if end.stage in ("hopeless", "unstarted"):
            raise StepNotStarted(f"{run.name} did not run: {end.why}", exit_code=1, retry=end.stage == "unstarted")
        if end.stage == "overfull":
            more = "give it more with resources=StepResources(scratch=…), or less to do"
            raise StepFailed(f"{run.name} was ended for its disk: {end.why}; {more}", exit_code=1, retry=False)
        if end.stage == "unstaged":
            raise StepFailed(
                f"{run.name}: {end.why}", exit_code=(code := int(end.exit_code or 1)), retry=code == _TRY_AGAIN or code > _KILLED
            )
        if end.stage == "overdue":
            raise StepFailed(f"{run.name} was ended: {end.why}", exit_code=143, retry=True)
        if end.stage == "interrupted":
            raise StepFailed(f"{run.name} was interrupted, not by itself: {end.why}", exit_code=143, retry=True)
        if end.said and not run.result.is_file():
            (run.folder / "result.json").write_text(end.said, encoding="utf-8")
        code, share = int(end.exit_code or 0), manifest.memory_share(plan.pod)
        # A container's peak goes with it; that its limit was reached is all that Kubernetes tells.
        peak = (share.limit or 0) if end.killed_for_memory else 0
        outcome = Outcome(code, end.seconds, 0.0, peak, end.killed_for_memory, stopped=False, peak_at_least=end.killed_for_memory)
        return Ended(outcome, self._spoken.tail, end.image or None, share)


def hand_over(folders: list[Path]) -> None:
    """Give folders to whom the pod runs as, where the worker is root."""
    user, group = manifest.owner()
    if os.getuid() == 0:
        for folder in folders:
            os.chown(folder, user, group)
