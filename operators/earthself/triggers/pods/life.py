"""From a plan to a step's end: make the pod or adopt it, follow it and its log, and leave nothing behind.

The pod of a task has one name, made from the task's own: whoever tries to make it a second time finds the first. That is why a worker that
died loses nothing, and why no request that had to be sent twice makes two pods.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from earthself.hooks.cluster import Cluster, ClusterAway, ClusterError, Exists, Object, QuotaUsedUp
from earthself.triggers.pods import dask
from earthself.triggers.pods.lines import Lines, Place
from earthself.triggers.pods.look import Look, after, look

SPEC = "earthself.io/spec"
"""Annotation: what the pod was made from; a pod made from something else is not adopted."""
INPUTS = "earthself.io/inputs"
"""Annotation: a digest of what the step reads and of how often a person has cleared its task; the paths may be the same."""
TASK = "earthself.io/task"
"""Annotation: the task that an object belongs to."""
MANAGED = {"app.kubernetes.io/managed-by": "earthself"}
"""Label of everything that is made here."""
FILES = "earthself.io/files"
"""Label: where the files are that an object works on; what has another one belongs to another platform."""
_GONE_SECONDS = 90.0
_LAST_LINES_SECONDS = 30.0
_NO_LOG_PAUSE = 0.3
_OVER = ("ended", "interrupted", "unstaged", "overfull")
"""How a step that ran is no more."""
_GRACE = {"ended": 1, "interrupted": 1, "unstaged": 1, "overfull": 1, "queued": 0, "starting": 0, "hopeless": 0, "unstarted": 0}
"""Seconds that a pod gets to end whose step does not run (any more); what runs gets the pod's own."""


@dataclass(frozen=True)
class Plan:
    """A step's pod as it is to be; travels from the worker to the triggerer."""

    pod: Object
    """The manifest, with name and namespace."""
    container: str
    """Name of the container that is the step."""
    secret: str | None = None
    """Name of the Secret that goes with the pod."""
    uid: str | None = None
    """Of the pod, once it was seen; then no other one is made."""
    start_seconds: float = 600.0
    """How long it may take to start, but for the time that it waits for room."""
    deadline: float | None = None
    """When the step must have ended, seconds since 1970."""
    around: Sequence[str] = ()
    """Names of the containers that stage in and out before and after the step; none where a volume does without."""
    dask: Object | None = None
    """The DaskCluster object that is to be there before the pod, and goes with it."""
    lacks_secret: bool = False
    """There was no room for the Secret, which only a worker can make: nobody else has what is in it."""

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return str(self.pod["metadata"]["namespace"])

    def to_dict(self) -> dict[str, Any]:
        """Give plain types for a trigger's arguments."""
        return asdict(self)


def stamped(pod: Object) -> Object:
    """Write into a pod's manifest, or another, what it was made from, but for what differs from try to try."""
    labels = {name: value for name, value in (pod["metadata"].get("labels") or {}).items() if name != "try_number"}
    core = {"spec": pod["spec"], "labels": labels, "inputs": (pod["metadata"].get("annotations") or {}).get(INPUTS)}
    digest = hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()
    metadata = pod["metadata"] | {"annotations": (pod["metadata"].get("annotations") or {}) | {SPEC: digest}}
    return pod | {"metadata": metadata}


def belonging(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, str]:
    """Give the annotation that says whose an object is; labels would cut long ids short."""
    return {TASK: json.dumps({"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index})}


def task_of(found: Object) -> dict[str, Any]:
    """Read whose an object is; nothing where it does not say."""
    said = (found["metadata"].get("annotations") or {}).get(TASK)
    return dict(json.loads(said)) if said else {}


class Life:
    """One step's pod, followed by one worker or one triggerer at a time."""

    def __init__(
        self, cluster: Cluster, plan: Plan, *, say: Callable[[str], None], note: Callable[[str], None], place: Place | None = None
    ) -> None:
        """`say` takes the step's own lines, `note` what there is to say about the pod; `place` is how far the log was read before."""
        self._cluster = cluster
        self.plan = plan
        self._say = say
        self._note = note
        self._lines = Lines(place or Place())
        self.seen = Look("queued", "it is being made")
        self._changed = asyncio.Event()
        self._started = asyncio.Event()
        self._created = time.time()

    @property
    def place(self) -> Place:
        """How far the log was read."""
        return self._lines.place

    async def find(self) -> bool:
        """Look for a pod that an earlier worker made for the same; one made for something else goes. True where there is one."""
        pod = await self._cluster.get("pods", self.plan.namespace, self.plan.name)
        if pod is None:
            return False
        spec = (pod["metadata"].get("annotations") or {}).get(SPEC)
        if spec == self.plan.pod["metadata"]["annotations"][SPEC] and not pod["metadata"].get("deletionTimestamp"):
            self._take(pod)
            self._note(f"pod {self.plan.name} is there already, {pod.get('status', {}).get('phase', 'new')}: it is taken on")
            return True
        await self._cluster.delete("pods", self.plan.namespace, self.plan.name, grace=_GRACE["ended"])
        await self._gone()
        return False

    async def make(self, secret: Object | None = None) -> bool:
        """Make the pod and what belongs to it; False where the namespace has no room for it now, or its Dask cluster is not there yet.

        Leaves nothing where it raises what no other try goes on with.
        """
        try:
            return await self._make(secret)
        except (ClusterError, dask.NoDask) as error:
            if isinstance(error, dask.NoDask) or not error.retry:
                with suppress(ClusterError):
                    await self.remove()
            raise

    async def _make(self, secret: Object | None) -> bool:
        if secret is not None:
            try:
                await self._put("secrets", secret)
            except QuotaUsedUp as error:
                self.plan = replace(self.plan, lacks_secret=True)
                self.seen = Look("queued", str(error), patient=True)
        if self.plan.lacks_secret:
            return False
        if self.plan.dask is not None and (why := await self._dask(self.plan.dask)):
            self._see(Look("queued", why))
            return False
        while True:
            try:
                pod = await self._cluster.create("pods", self.plan.namespace, self.plan.pod)
            except Exists:
                if await self.find():
                    return True
                continue
            except QuotaUsedUp as error:
                self.seen = Look("queued", str(error), patient=True)
                return False
            self._created = time.time()
            self._take(pod)
            await self._own(pod)
            return True

    async def has_room(self) -> bool:
        """Ask whether the namespace has room for the Secret by now; nothing is made."""
        empty = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.plan.secret, "namespace": self.plan.namespace}}
        try:
            await self._cluster.create("secrets", self.plan.namespace, empty, dry_run=True)
        except Exists:
            return True
        except QuotaUsedUp as error:
            self._see(Look("queued", str(error), patient=True))
            return False
        return True

    def late(self) -> Look | None:
        """How it ends where its time is over, None while it is not."""
        if self.plan.deadline is None or time.time() < self.plan.deadline:
            return None
        return replace(self.seen, stage="overdue", why=f"its time is over (execution_timeout); {self.seen.why or self.seen.stage}")

    async def follow(self, seconds: float | None = None) -> Look | None:
        """Wait for the end and say the step's lines meanwhile; None when the seconds are over before. A pod that cannot start is an end."""
        over = None if seconds is None else time.time() + seconds
        watching, reading = asyncio.create_task(self._watch()), asyncio.create_task(self._read())
        try:
            while not watching.done():
                limits = [limit for limit in (over, self.plan.deadline, self._start_limit()) if limit is not None]
                left = min(limits, default=time.time() + _GONE_SECONDS) - time.time()
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({watching, changed}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
                if watching.done():
                    break
                if late := self.late():
                    return late
                limit = self._start_limit()
                if limit is not None and time.time() >= limit:
                    return Look("unstarted", f"it did not start within {self.plan.start_seconds:g} s: {self.seen.why}")
                if over is not None and time.time() >= over:
                    return None
            end = watching.result()
            if end.stage in _OVER:
                await asyncio.wait({reading}, timeout=_LAST_LINES_SECONDS)
            return end
        finally:
            for task in (watching, reading):
                task.cancel()
            await asyncio.gather(watching, reading, return_exceptions=True)

    async def whole_log(self) -> AsyncIterator[str]:
        """Give everything that the step's container said, line by line, as long as the pod is there."""
        lines = Lines(Place())
        with suppress(ClusterError):  # there is none, or the API server is away: what was said is in the task's log
            async for line in self._cluster.log(self.plan.namespace, self.plan.name, self.plan.container, since=None, follow=False):
                yield f"{lines.text(line) or ''}\n"

    async def remove(self) -> None:
        """Take the pod away with what belongs to it; one that still runs gets its own grace."""
        grace = _GRACE.get(self.seen.stage)
        await self._cluster.delete("pods", self.plan.namespace, self.plan.name, uid=self.plan.uid, grace=grace)
        if self.plan.secret:
            await self._cluster.delete("secrets", self.plan.namespace, self.plan.secret)
        if self.plan.dask is not None:
            await self._cluster.delete(dask.KIND, self.plan.namespace, self.plan.dask["metadata"]["name"])

    async def _dask(self, wanted: Object) -> str | None:
        try:
            return await dask.waits_for(self._cluster, wanted, SPEC, self.plan.start_seconds)
        except QuotaUsedUp as error:
            return str(error)

    def _take(self, pod: Object) -> None:
        self.plan = replace(self.plan, uid=str(pod["metadata"]["uid"]))
        self._see(look(pod, self.plan.container, self.plan.around))

    def _see(self, now: Look) -> None:
        now = after(self.seen, now)
        if now.stage in ("queued", "starting", "arriving") and now.why != self.seen.why:
            self._note(f"pod {self.plan.name}: {now.why}")
        if now.stage in ("running", "leaving", *_OVER):
            self._started.set()
        if now != self.seen:
            self._changed.set()
        self.seen = now

    def _start_limit(self) -> float | None:
        """When it must have started; a pod that only waits for room waits without limit, and its time begins anew."""
        if self.seen.stage not in ("queued", "starting"):
            return None
        if self.seen.patient:
            self._created = time.time()
            return None
        return self._created + self.plan.start_seconds

    async def _watch(self) -> Look:
        async for pod in self._cluster.states(self.plan.namespace, self.plan.name):
            if self.plan.uid is not None and pod["metadata"]["uid"] != self.plan.uid:
                break
            self._see(look(pod, self.plan.container, self.plan.around))
            if self.seen.stage in (*_OVER, "hopeless"):
                return self.seen
        self._see(Look("interrupted", "the pod was deleted from outside"))
        return self.seen

    async def _read(self) -> None:
        """Say the log's lines once each, through cuts of the stream, until the step has ended and all of it is read."""
        while True:
            await self._started.wait()
            last = self.seen.stage != "running"
            since = self._lines.begin()
            try:
                lines = self._cluster.log(self.plan.namespace, self.plan.name, self.plan.container, since=since, follow=not last)
                async for line in lines:
                    if not last and not line.endswith(b"\n"):
                        break  # a line that was cut comes again
                    if (text := self._lines.text(line)) is not None:
                        self._say(text)
            except ClusterAway:
                last = False
            except ClusterError:  # no log yet, or none any more
                pass
            if last:
                return
            await asyncio.sleep(_NO_LOG_PAUSE)

    async def _put(self, kind: str, body: Object) -> None:
        """Make an object that nobody else makes; one of an earlier worker is replaced."""
        name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
        while True:
            try:
                await self._cluster.create(kind, namespace, body)
            except Exists:
                await self._cluster.delete(kind, namespace, name)
            else:
                return

    async def _own(self, pod: Object) -> None:
        """Let the Secret and the Dask cluster go with the pod."""
        metadata = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        if self.plan.secret:
            await self._cluster.patch("secrets", self.plan.namespace, self.plan.secret, {"metadata": {"ownerReferences": [owner]}})
        if self.plan.dask is not None:
            await dask.own(self._cluster, self.plan.dask, owner)

    async def _gone(self) -> None:
        try:
            async with asyncio.timeout(_GONE_SECONDS):
                async for _ in self._cluster.states(self.plan.namespace, self.plan.name):
                    continue
        except TimeoutError as error:
            raise ClusterAway(
                f"pod {self.plan.name}, which an earlier try left, is still there {_GONE_SECONDS:g} s after its deletion; check its node"
            ) from error
