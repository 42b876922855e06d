"""One run of a workflow: how far it is, why it failed, what it left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from earthself.client.advice import advice
from earthself.client.errors import ClientError, NotThere, RequestRefused, RunFailed, ServerNotThere, TryAgain
from earthself.client.estimate import Estimate
from earthself.client.rest import Note, Rest
from earthself.client.results import ClassArea, ResultFolder

FINISHED = frozenset({"success", "failed"})
_DONE = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_PUBLISH = "publish"
_REFUSALS = frozenset({"BadInput", "BadRequest", "BrokerRefused", "CredentialsRefused", "RadiometryDisagrees"})
"""Classes of the server's errors that the user must mend (exit 65), as the log of a failed task names them."""
_PATIENCE = 120.0
"""Seconds that a run which is waited for outlives its web server: as long as a restart may take."""


@dataclass(frozen=True)
class Progress:
    """How one task of a run stands; a task that is mapped over batches counts as one."""

    task: str
    """The task's id."""
    state: str
    """waiting, running, success, failed, skipped, or "not started" where something before it failed."""
    done: int
    """Instances that ended."""
    total: int
    """Instances known so far, at least 1."""
    seconds: float
    """From the first start to the last end, or to now."""


class Run:
    """A run that was started; all it knows it asks the server for."""

    def __init__(self, rest: Rest, dag_id: str, run_id: str, conf: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> None:
        """Name a run; `sleep` is what waits between two looks, in seconds."""
        self._rest = rest
        self.dag_id = dag_id
        self.run_id = run_id
        self.conf = conf
        self._sleep = sleep
        self._address = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        self._kept: ResultFolder | None = None

    def __repr__(self) -> str:
        return f"Run({self.dag_id!r}, {self.run_id!r})"

    @property
    def status(self) -> str:
        """Airflow's state: queued, running, success or failed."""
        return str(self._rest.get(self._address)["state"])

    @property
    def url(self) -> str:
        """Where the run is shown in the web interface."""
        return f"{self._rest.url}/dags/{quote(self.dag_id)}/runs/{quote(self.run_id)}"

    def wait(
        self,
        progress: Callable[[list[Progress]], None] | None = None,
        timeout: float | None = None,
        interval: float = 0.5,
        note: Note | None = None,
    ) -> Run:
        """Wait until the run ends and return it; `timeout` and `interval` in seconds.

        `progress` is called with all tasks whenever one of them changed or ran for another second, `note` with a line when the
        server does not answer: a restart of it is waited for (2 minutes). Raises `RunFailed` with the reason that the failed
        task logged (`RequestRefused` where the request is what must change), and `TryAgain` after the timeout or the 2 minutes;
        the run goes on then.
        """
        deadline = time.monotonic() + timeout if timeout is not None else None
        shown: list[tuple[str, str, int, int, int]] = []
        while True:
            left = _PATIENCE if deadline is None else min(_PATIENCE, max(0.0, deadline - time.monotonic()))
            with self.patient(left, note):
                status = self.status
                if progress:
                    tasks = self.tasks()
                    if (now := [(task.task, task.state, task.done, task.total, int(task.seconds)) for task in tasks]) != shown:
                        shown = now
                        progress(tasks)
                if status == "failed":
                    raise self._failure()
            if status == "success":
                return self
            if deadline is not None and time.monotonic() > deadline:
                raise TryAgain(
                    f"the run {self.run_id} is still {status} after {timeout:g} s; it goes on, look again with `earthself status`"
                )
            self._sleep(interval)

    @contextmanager
    def patient(self, seconds: float = _PATIENCE, note: Note | None = None) -> Iterator[None]:
        """Bear a server that does not answer for so many seconds; then raise `TryAgain`, which says that the run goes on."""
        try:
            with self._rest.patient(seconds, note):
                yield
        except (ServerNotThere, TryAgain) as error:
            raise TryAgain(
                f"{self._rest.url} has not answered for {seconds:.0f} s, but the run {self.run_id} is kept and goes on; do not start it "
                f"again: `earthself status {self.run_id}` shows it when the server is back"
            ) from error

    def tasks(self) -> list[Progress]:
        """Return how each task stands, in the order of the workflow."""
        instances = self._instances()
        names = [task["task_id"] for task in self._rest.get(f"/api/v2/dags/{quote(self.dag_id)}/tasks")["tasks"]]
        order = {name: number for number, name in enumerate(names)}
        grouped: dict[str, list[dict[str, Any]]] = {}
        for instance in instances:
            grouped.setdefault(instance["task_id"], []).append(instance)
        found = [_progress(name, group) for name, group in grouped.items()]
        starts = {name: min((str(i["start_date"]) for i in group if i["start_date"]), default="~") for name, group in grouped.items()}
        return sorted(found, key=lambda task: (starts[task.task], order.get(task.task, len(order))))

    def estimate(self) -> Estimate | None:
        """Return what the run's first task said that it will cost, or None while it has not."""
        found = self._returned("estimate")
        return Estimate.from_dict(found) if found and "products" in found else None

    def reason(self) -> str:
        """Return what the first failed task logged as the reason, or an empty text where nothing failed."""
        return str(self._failure())

    def _failure(self) -> RunFailed:
        """Make the error of a failed run from the log of the task that failed first."""
        failed = [instance for instance in self._instances() if instance["state"] == "failed"]
        if not failed:
            return RunFailed()
        first = min(failed, key=lambda instance: str(instance["end_date"]))
        address = f"{self._address}/taskInstances/{quote(first['task_id'])}/logs/{first['try_number']}"
        try:
            events = self._rest.get(address, map_index=first["map_index"], full_content="true").get("content", [])
        except ClientError:
            events = []
        lines = [event for event in events if isinstance(event, dict) and event.get("level") in {"error", "critical"}]
        text = str(lines[0]["event"]) if lines else f"its log says no more; read it at {self.url}"
        raised = {cause.get("exc_type") for event in lines for cause in event.get("error_detail") or ()}
        kind = RequestRefused if raised & _REFUSALS else RunFailed
        return kind(f"{first['task_id']} failed: {text}")

    @property
    def result(self) -> dict[str, Any]:
        """The document `result.json` of the finished run; raises `NotThere` while there is none."""
        return self._results().json("result.json")

    @property
    def report(self) -> str:
        """Where the report is: a path on this machine, or a URL."""
        return self.place("report.html")

    def place(self, name: str) -> str:
        """Return where a file of the result is: a path on this machine, or a URL."""
        return self._results().place(name)

    def read(self, name: str) -> bytes:
        """Return the content of a file of the result."""
        return self._results().read(name)

    def areas(self) -> list[ClassArea]:
        """Return the hectares per class, largest first; unclassified (0) and unobserved (-1) last."""
        return self._results().areas()

    def to_xarray(self) -> Any:  # noqa: ANN401 - an xarray.DataArray; the package is optional
        """Open the map as `xarray.DataArray` (band, y, x); needs xarray and rasterio."""
        return self._results().to_xarray()

    def advice(self) -> list[str]:
        """Say what to do about an empty or partial result, one sentence each; empty where all is well."""
        return advice(self._rest, self.conf, self.result)

    def _results(self) -> ResultFolder:
        if self._kept is None:
            href = (self._returned(_PUBLISH) or {}).get("href")
            if not href:
                raise NotThere(f"the run {self.run_id} has published nothing (it is {self.status}); wait for it, or see why it failed")
            self._kept = ResultFolder(self._rest, self.dag_id, self.run_id, str(PurePath(href).parent))
        return self._kept

    def _returned(self, task: str) -> dict[str, Any] | None:
        """Return what a task handed on, where it is an object and there already."""
        try:
            value = self._rest.get(f"{self._address}/taskInstances/{task}/xcomEntries/return_value").get("value")
        except NotThere:
            return None
        return value if isinstance(value, dict) else None

    def _instances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._rest.get(f"{self._address}/taskInstances", limit=100, offset=len(found))
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found


def _progress(name: str, group: list[dict[str, Any]]) -> Progress:
    states = Counter(str(instance["state"]) for instance in group)
    done = sum(count for state, count in states.items() if state in _DONE)
    if states["failed"]:
        state = "failed"
    elif states["upstream_failed"]:
        state = "not started"
    elif done == len(group):
        state = "skipped" if states["skipped"] + states["removed"] == len(group) else "success"
    elif done or states["running"] or states["queued"] or states["up_for_retry"]:
        state = "running"
    else:
        state = "waiting"
    return Progress(name, state, done, len(group), _span(group, running=state == "running"))


def _span(group: Iterable[dict[str, Any]], *, running: bool) -> float:
    """Return seconds from the first start to the last end of instances, or to now while they run."""
    times = [(_time(instance["start_date"]), _time(instance["end_date"])) for instance in group if instance["start_date"]]
    if not times:
        return 0.0
    starts = [start for start, _ in times if start]
    ends = [end for _, end in times if end]
    last = datetime.now(starts[0].tzinfo) if running or not ends else max(ends)
    return max(0.0, (last - min(starts)).total_seconds())


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
