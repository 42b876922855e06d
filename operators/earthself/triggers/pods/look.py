"""What the state of a pod means for its step: whether it waits, runs or has ended, and whether waiting helps.

A pod's state is the API's JSON; nothing here asks or waits, so each state that a cluster was seen in is a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Stage = Literal["queued", "starting", "running", "ended", "interrupted", "hopeless", "unstarted", "overdue"]


@dataclass(frozen=True)
class Look:
    """A step's pod at one moment."""

    stage: Stage
    """queued: no node has taken it; starting: a node has; ended: the step's own exit; interrupted: something ended it that was not the
    step; hopeless: it cannot start as it is; unstarted: it did not in the time that it had; overdue: it had to end before now."""
    why: str = ""
    """What the cluster says about it, in its own words."""
    patient: bool = False
    """Whether it waits only for others to end, which is no fault and has no limit of time."""
    exit_code: int | None = None
    """What the step's container ended with."""
    killed_for_memory: bool = False
    """Whether the kernel ended it at its memory limit."""
    said: str = ""
    """The termination message."""
    seconds: float = 0.0
    """How long the step's container ran, by the node's clock."""
    image: str = ""
    """What it ran from, with the digest that the node found."""


_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|does not exist|no such host|unauthorized|access denied|denied:|authentication required|"
    r"is not present with pull policy of Never|InvalidImageName|invalid reference|couldn't parse image",
    re.IGNORECASE,
)
_BUSY_REGISTRY = re.compile(r"429|toomanyrequests|too many requests|rate limit|timeout|timed out|50[0234]|connection re", re.IGNORECASE)
_ONLY_FULL = re.compile(r"Insufficient |Too many pods|0/\d+ nodes are available: \d+ node\(s\) were unschedulable")
_NEVER = ("InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NOT_THE_STEP = {
    "Evicted", "DeadlineExceeded", "Preempting", "Preempted", "NodeLost", "NodeShutdown",
    "Shutdown", "Terminated", "UnexpectedAdmissionError",
}  # fmt: skip


def look(pod: dict[str, Any], container: str) -> Look:
    """Say what a pod's state means for the container of its step; other containers do not count."""
    status = pod.get("status") or {}
    if status.get("reason") in _NOT_THE_STEP:
        return Look("interrupted", _said(status))
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    own = next((one for one in states if one.get("name") == container), None)
    ended = ((own or {}).get("state") or {}).get("terminated")
    if ended:
        return replace(_ended(pod, ended), image=_image(own or {}))
    if pod["metadata"].get("deletionTimestamp"):
        return Look("interrupted", "the pod is being deleted from outside")
    if status.get("phase") in ("Failed", "Succeeded"):
        return _without_its_step(states, status)
    if "running" in ((own or {}).get("state") or {}):
        return Look("running")
    if not status or not _condition(status, "PodScheduled"):
        return _queued(status)
    return _starting(states)


def _ended(pod: dict[str, Any], ended: dict[str, Any]) -> Look:
    reason, message = str(ended.get("reason") or ""), str(ended.get("message") or "")
    if reason in ("ContainerCannotRun", "StartError"):
        return Look("hopeless", f"the image's program cannot be started ({message.strip()}); check command and image")
    if reason == "ContainerStatusUnknown":
        return Look("interrupted", "the node has lost the container")
    seconds = max(0.0, (_time(ended.get("finishedAt")) - _time(ended.get("startedAt"))).total_seconds())
    code = int(ended.get("exitCode", 1))
    if _deleted_before(pod, ended):
        return Look("interrupted", f"the pod was deleted from outside (the step ended with {code})", seconds=seconds)
    return Look("ended", reason, exit_code=code, killed_for_memory=reason == "OOMKilled", said=message, seconds=seconds)


def _deleted_before(pod: dict[str, Any], ended: dict[str, Any]) -> bool:
    """Whether the step ended only after somebody had deleted its pod: then its exit code may be its answer to SIGTERM."""
    until = pod["metadata"].get("deletionTimestamp")
    if not until:
        return False
    asked = _time(until) - timedelta(seconds=int(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
    return _time(ended.get("finishedAt")) >= asked


def _without_its_step(states: Iterable[dict[str, Any]], status: dict[str, Any]) -> Look:
    """Tell why a pod has ended whose step never began: what ran before it failed."""
    for one in states:
        ended = (one.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            text = str(ended.get("message") or ended.get("reason") or "").strip()
            return Look("ended", f"{one['name']} failed", exit_code=int(ended["exitCode"]), said=text)
    return Look("interrupted", _said(status))


def _queued(status: dict[str, Any]) -> Look:
    condition: dict[str, Any] = next((one for one in status.get("conditions") or [] if one.get("type") == "PodScheduled"), {})
    why = str(condition.get("message") or "no scheduler has looked at it")
    return Look("queued", why, patient=bool(_ONLY_FULL.search(why)))


def _starting(states: Iterable[dict[str, Any]]) -> Look:
    for one in states:
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        why = f"{reason}: {message}".strip(": ")
        if reason in _NEVER or (
            reason in ("ErrImagePull", "ImagePullBackOff") and _NO_SUCH_IMAGE.search(message) and not _BUSY_REGISTRY.search(message)
        ):
            return Look("hopeless", f"image {one.get('image')} cannot be had ({why}); check its name, the registry and imagePullSecrets")
        if reason in ("CreateContainerError", "RunContainerError"):
            return Look("hopeless", f"the container cannot be made ({why}); check the pod template")
        if reason not in ("", "ContainerCreating", "PodInitializing"):
            return Look("starting", why)
    return Look("starting", "the node prepares it")


def _image(own: dict[str, Any]) -> str:
    """Put name and digest together: what came from a registry has both, what was loaded by hand the digest only."""
    name, found = str(own.get("image") or ""), str(own.get("imageID") or "").removeprefix("docker-pullable://")
    return found if "@" in found or not name else f"{name}@{found}" if found else name


def _condition(status: dict[str, Any], name: str) -> bool:
    return any(one.get("type") == name and one.get("status") == "True" for one in status.get("conditions") or [])


def _said(status: dict[str, Any]) -> str:
    return " ".join(str(status[key]) for key in ("reason", "message") if status.get(key)) or f"the pod is {status.get('phase')}"


def _time(text: Any) -> datetime:  # noqa: ANN401
    return datetime.fromisoformat(str(text)) if text else datetime.fromtimestamp(0, UTC)
