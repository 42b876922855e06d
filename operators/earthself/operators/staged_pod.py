"""A step in a pod of a cloud that does not share the workspace: staged in, run from its unchanged image, staged out.

Staging in and the step are init containers, one after the other, and staging out is the container that follows: Kubernetes itself sees
to it that a step which failed stages nothing out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators import counting, manifest
from earthself.operators.clouds import WORKSPACE, Cloud
from earthself.operators.errors import BadRequest
from earthself.operators.in_pod import PodStep
from earthself.operators.resources import spell
from earthself.operators.shipping import Part, Shipping, shipping
from earthself.operators.step_run import Ended, StepRun
from earthself.triggers.pods.life import Plan, stamped

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.triggers.pods.look import Look

_IN, _OUT = "stage-in", "stage-out"
_KEYS = Path("/earthself/keys")
_PROFILES = "storage.json"
_SAID = "/dev/termination-log"
"""Where the step leaves its result document: the one file of a container that is kept when it fails."""
_SHARE = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}


class StagedPodStep(PodStep):
    """A step's pod that gets its folders through an object storage."""

    def __init__(self, cloud: Cloud, run: StepRun, log: Any, way: Shipping) -> None:  # noqa: ANN401
        super().__init__(replace(cloud, workspace={"emptyDir": {}}), run, log)
        self._way = way
        self._moved: dict[str, int | bool] = {}
        self._image = str(cloud.image or "")
        if not self._image:
            raise BadRequest(f"connection {cloud.conn_id} has a storage but no image, which is what stages; give its field earthself one")

    _around = (_IN, _OUT)

    @cached_property
    def _there(self) -> list[Part]:
        return self._way.there()

    def _lent_files(self) -> Sequence[str]:
        from earthself.data.storage import Storage

        storage = Storage()
        profiles = {storage.profile(url) for url in (self._way.output, *(one.url for one in self._there))}
        return sorted([_PROFILES, *(f"keys-{one.name}.json" for one in profiles if one.credentials is not None)])

    def _lent(self) -> dict[str, str]:
        """Send the input, then ask for keys, so that they are as young as can be."""
        sent = self._way.send(self._there)
        crossing = "to another cloud" if self._way.crosses else "within its region"
        self._log.info(f"{spell(sent)} ({sent} bytes) sent {crossing}, to {self._way.input}")
        for one in self._there:
            self._log.info(f"{one.folder} lies there already, at {one.url}")
        loan = self._way.lend(_KEYS, self._there)
        if loan.expires is not None:
            self._log.info(f"the pod's keys to the storage end at {loan.expires:%Y-%m-%d %H:%M:%S} UTC")
        return loan.files

    def _variables(self) -> dict[str, str]:
        return super()._variables() | {"EARTHSELF_STEP_RESULT": _SAID}

    def _seen(self) -> list[Path]:
        """Give the places of the workspace that are made in the pod: the run's work, and what else of it the step reads."""
        run = self._run
        return [run.work, *sorted({path.parent for path in self._way.closure() if not path.is_relative_to(run.work)})]

    def _manifest(self, context: Context, step: manifest.Step, name: str, secret: str | None) -> dict[str, Any]:
        pod = manifest.manifest(context, self._cloud, step, name, secret)
        parts = [Part(self._way.input, "."), *self._there]
        root = str(self._run.root)
        come = [word for one in parts for word in ("--part", one.url, one.folder)]
        made = str(self._run.made.relative_to(self._run.root))
        bring = self._stager(_IN, ["in", root, *come, "--empty", made])
        return stamped(_around(pod, bring, self._stager(_OUT, ["out", str(self._run.made), self._way.output]), self._keys(str(secret))))

    def _stager(self, name: str, words: Sequence[str]) -> dict[str, Any]:
        command = ["python", "-m", "earthself.data.staged", *words]
        return {
            "name": name,
            "image": self._image,
            "command": [word.replace("$", "$$") for word in command],
            "env": [{"name": "EARTHSELF_STORAGE", "value": str(_KEYS / _PROFILES)}],
            "volumeMounts": [
                {"name": WORKSPACE, "mountPath": str(self._run.root)},
                {"name": "storage-keys", "mountPath": str(_KEYS), "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            ],
            "resources": _SHARE,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        }

    def _keys(self, secret: str) -> dict[str, Any]:
        items = [{"key": name, "path": name} for name in self._lent_files()]
        return {"name": "storage-keys", "secret": {"secretName": secret, "items": items, "defaultMode": 0o400}}

    def _settled(self, plan: Plan, end: Look) -> Ended:
        ended = super()._settled(plan, end)
        return replace(ended, moved=self._moved) if self._moved else ended

    def _bring(self, end: Look) -> None:
        if end.stage != "ended" or end.exit_code != 0 or end.killed_for_memory:
            return
        moved = self._moved = self._way.fetch()
        self._log.info(f"{spell(moved['fetched'])} ({moved['fetched']} bytes) of output fetched from {self._way.output}")
        counting.staged(self._cloud.conn_id, moved, self._log)

    def done(self) -> None:
        """The output has taken its place: the next step in this cloud reads the copy that lies there."""
        from earthself.data.errors import DataError

        try:
            self._way.remember()
        except DataError as error:
            self._log.warning(f"what was sent to {self._way.input} could not be removed, the storage's own rules must: {error}")


def pod_step(cloud: Cloud, run: StepRun, inputs: Sequence[Path], context: Context, log: Any) -> PodStep:  # noqa: ANN401
    """Make a step's pod as its cloud has it: with the workspace as a volume, or through a storage."""
    if not cloud.storage:
        return PodStep(cloud, run, log)
    ti = context["ti"]
    names = [ti.dag_id, ti.run_id, ti.task_id, *([str(run.index)] if run.index >= 0 else [])]
    made = StagedPodStep(cloud, run, log, shipping(cloud, run, inputs, names))
    made.tried_again = ti.try_number <= ti.max_tries
    return made


def _around(pod: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Put the containers around the step; containers of a template run beside the last one."""
    spec = dict(pod["spec"])
    step = next(one for one in spec["containers"] if one["name"] == manifest.CONTAINER)
    spec["initContainers"] = [*spec.get("initContainers", []), before, step]
    spec["containers"] = [after, *(one for one in spec["containers"] if one is not step)]
    spec["volumes"] = [*spec["volumes"], keys]
    return dict(pod) | {"spec": spec}
