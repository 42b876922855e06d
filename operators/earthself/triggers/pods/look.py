"""What the state of a pod means for its step: whether it waits, runs or has ended, and whether waiting helps.

A pod's state is the API's JSON; nothing here asks or waits, so each state that a cluster was seen in is a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

Stage = Literal[
    "queued",
    "starting",
    "arriving",
    "running",
    "leaving",
    "ended",
    "interrupted",
    "unstaged",
    "overfull",
    "hopeless",
    "unstarted",
    "overdue",
]


@dataclass(frozen=True)
class Look:
    """A step's pod at one moment."""

    stage: Stage
    """queued: no node has taken it; starting: a node has; arriving: its input is staged in; leaving: the step has ended well and its
    output is staged out; ended: the step's own exit; interrupted: something ended it that was not the step; unstaged: its input did not
    come, or its output did not go; overfull: it took more disk than it has; hopeless: it cannot start as it is; unstarted: it did not in
    the time that it had; overdue: it had to end before now."""
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
_BUSY_REGISTRY = re.compile(
    r"\b429\b|toomanyrequests|too many requests|rate limit|timeout|timed out|\b50[0234]\b|connection re", re.IGNORECASE
)
_PAUSE = re.compile(r'ImagePullBackOff: Back-off pulling image "[^"]*"')
_ONLY_FULL = re.compile(r"Insufficient |Too many pods|0/\d+ nodes are available: \d+ node\(s\) were unschedulable")
_OWN_DISK = re.compile(
    r"EmptyDir volume .* exceeds|ephemeral local storage usage exceeds|exceeded its local ephemeral storage limit", re.IGNORECASE
)
_NEVER = ("InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NOT_THE_STEP = {
    "Evicted", "DeadlineExceeded", "Preempting", "Preempted", "NodeLost", "NodeShutdown",
    "Shutdown", "Terminated", "UnexpectedAdmissionError",
}  # fmt: skip


def look(pod: dict[str, Any], container: str, around: Sequence[str] = ()) -> Look:
    """Say what a pod's state means for the container of its step; others do not count but for the two that stage in and out around it."""
    seen = _step(pod, container)
    return _staged(pod, seen, *around) if around else seen


def _step(pod: dict[str, Any], container: str) -> Look:
    status = pod.get("status") or {}
    if status.get("reason") == "Evicted" and _OWN_DISK.search(str(status.get("message"))):
        return Look("overfull", str(status["message"]).strip())
    if status.get("reason") in _NOT_THE_STEP:
        return Look("interrupted", _said(status))
    states = _states(status)
    own = _named(states, container)
    if ended := _terminated(own):
        return replace(_ended(pod, ended), image=_image(own))
    if pod["metadata"].get("deletionTimestamp"):
        return Look("interrupted", "the pod is being deleted from outside")
    if status.get("phase") in ("Failed", "Succeeded"):
        return _without_its_step(states, status)
    if "running" in (own.get("state") or {}):
        return Look("running")
    if not status or not _condition(status, "PodScheduled"):
        return _queued(status)
    return _starting(states)


def _staged(pod: dict[str, Any], step: Look, before: str, after: str) -> Look:
    """Put what stages in and out into what is seen of the step: it has not ended before its output has left."""
    states = _states(pod.get("status") or {})
    if step.stage == "ended" and step.exit_code == 0 and not step.killed_for_memory:
        last = _named(states, after)
        done = _terminated(last)
        if done and (failed := _not_moved(pod, done, "output could not be staged out")):
            return replace(failed, image=step.image)
        if done:
            return step
        gone = pod["metadata"].get("deletionTimestamp") or pod["status"].get("phase") in ("Failed", "Succeeded")
        return Look("interrupted", "the pod was ended while its output was staged out") if gone else replace(step, stage="leaving")
    first = _named(states, before)
    if (done := _terminated(first)) and (failed := _not_moved(pod, done, "input could not be staged in")):
        return failed
    return Look("arriving", "its input is staged in") if step.stage == "starting" and "running" in (first.get("state") or {}) else step


def _not_moved(pod: dict[str, Any], ended: dict[str, Any], what: str) -> Look | None:
    """Say why staging failed, None where it did not; the words are those of its container's log."""
    seen = _ended(pod, ended)
    if seen.stage != "ended" or seen.exit_code == 0:
        return seen if seen.stage != "ended" else None
    lines = [line for line in seen.said.strip().splitlines() if line]
    said = lines[-1].removeprefix("error: ") if lines else seen.why
    return Look("unstaged", f"its {what}: {said or 'it said nothing'} (exit code {seen.exit_code})", exit_code=seen.exit_code)


def _states(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _named(states: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((one for one in states if one.get("name") == name), {})


def _terminated(one: dict[str, Any]) -> dict[str, Any]:
    return dict((one.get("state") or {}).get("terminated") or {})


def after(before: Look, now: Look) -> Look:
    """What is known of a pod that was seen before: a node that pauses between two pulls says no longer why the first one failed."""
    pauses = now.stage == before.stage == "starting" and _PAUSE.fullmatch(now.why) and before.why.startswith("ErrImagePull")
    return before if pauses else now


def _ended(pod: dict[str, Any], ended: dict[str, Any]) -> Look:
    reason, message = str(ended.get("reason") or ""), str(ended.get("message") or "")
    if reason in ("ContainerCannotRun", "StartError"):
        return Look("hopeless", f"the image's program cannot be started ({message.strip()}); check command and image")
    if reason == "ContainerStatusUnknown":
        return Look("interrupted", "the node has lost the container")
    seconds = max(0.0, (_time(ended.get("finishedAt")) - _time(ended.get("startedAt"))).total_seconds())
    code = int(ended.get("exitCode", 1))
    if pod["metadata"].get("deletionTimestamp"):  # it may be its answer to SIGTERM; the node's clock and the server's need not agree
        return Look("interrupted", f"the pod was deleted from outside (the step ended with {code})", seconds=seconds)
    return Look("ended", reason, exit_code=code, killed_for_memory=reason == "OOMKilled", said=message, seconds=seconds)


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
        if reason in _NEVER or (reason in ("ErrImagePull", "ImagePullBackOff") and _no_such_image(message, str(one.get("image") or ""))):
            return Look("hopeless", f"image {one.get('image')} cannot be had ({why}); check its name, the registry and imagePullSecrets")
        if reason in ("CreateContainerError", "RunContainerError"):
            return Look("hopeless", f"the container cannot be made ({why}); check the pod template")
        if reason not in ("", "ContainerCreating", "PodInitializing"):
            return Look("starting", why)
    return Look("starting", "the node prepares it")


def _no_such_image(message: str, name: str) -> bool:
    """Whether a registry said that an image is not there for us; its name, which may be made of any words and numbers, does not count."""
    said = message.replace(name, "") if name else message
    return bool(_NO_SUCH_IMAGE.search(said)) and not _BUSY_REGISTRY.search(said)


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
