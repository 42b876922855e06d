"""The way in: `connect()` gives a client, the client starts workflows and estimates what they will cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import quote

from earthself.client import logins, requests
from earthself.client.advice import nothing_found
from earthself.client.errors import BadInput, NotThere, TryAgain
from earthself.client.estimate import Estimate
from earthself.client.rest import Rest
from earthself.client.run import Run

LAND_COVER_MAP = "land_cover_map"
_PAGE, _LISTINGS = 100, 3


class Client:
    """One server, as one user."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    @property
    def url(self) -> str:
        """Root of the server."""
        return self._rest.url

    @property
    def user(self) -> str:
        """Name of the user, empty where only a token is known."""
        return self._rest.user

    def land_cover_map(self, *, area: requests.AreaLike, start: str | date, end: str | date, **options: Any) -> Run:  # noqa: ANN401
        """Start the workflow `land_cover_map` and return its run at once.

        `area` is [west, south, east, north] in degrees, GeoJSON, or a file of it; the period is `[start, end)`. Options are
        the other keys of the workflow's conf: collection, provider, max_cloud_cover, mask, model, max_products, staging_hours, title.
        Raises `BadInput` when the request cannot be used, `NotAllowed` when the user may not start workflows.
        """
        return self.trigger(LAND_COVER_MAP, _conf(area, start, end, options))

    def estimate(self, *, area: requests.AreaLike, start: str | date, end: str | date, **options: Any) -> Estimate:  # noqa: ANN401
        """Ask what a land-cover map would cost; arguments as for `land_cover_map`. Nothing is started."""
        return Estimate.from_dict(self._rest.post("/earthself/api/v1/estimate", _conf(area, start, end, options)))

    def advice(self, *, area: requests.AreaLike, start: str | date, end: str | date, **options: Any) -> list[str]:  # noqa: ANN401
        """Say why no product matches and what to do about it, one sentence each; arguments as for `estimate`, which found none."""
        return nothing_found(self._rest, _conf(area, start, end, options))

    def why(self, area: requests.AreaLike, time: str) -> dict[str, Any]:
        """Ask what became of the products of an area and a time (a day, or `start/end`), or why there are none.

        Gives {start, end, watches, watched_fraction, reasons: [{verdict, text, watch, product, acquired, at, dag_id, run_id}]}.
        """
        return self._rest.post("/earthself/api/v1/why", {"area": requests.area(area), "time": requests.time(time)})

    def freshness(self, days: float = 30) -> dict[str, Any]:
        """Ask how fresh the watched areas were over the acquisitions of the last days.

        Gives {days, alerts, areas}; an area is {watch, goal, acquisitions, in_time, pending, share, met, median_hours, phases, causes,
        late, sentence}.
        """
        return self._rest.get("/earthself/api/v1/freshness", days=days)

    def outdated(self) -> list[dict[str, Any]]:
        """List the results that were made from products which a provider has reprocessed since.

        Each is {dag_id, run_id, since, products: [{product, baseline, observation, superseded_by, newer_baseline}], next}.
        """
        return list(self._rest.get("/earthself/api/v1/outdated")["results"])

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> Run:
        """Start any workflow of the server with its conf."""
        body = {"logical_date": None, "conf": dict(conf)}
        try:
            answer = self._rest.post(f"/api/v2/dags/{dag_id}/dagRuns", body)
        except NotThere as error:
            raise NotThere(f"{self.url} has no workflow {dag_id!r}; is its DAG file in the folder, without import errors?") from error
        return Run(self._rest, dag_id, answer["dag_run_id"], dict(conf))

    def run(self, run_id: str, dag_id: str = LAND_COVER_MAP) -> Run:
        """Return a run by its id; raises `NotThere` when the server does not know it."""
        answer = self._rest.get(f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
        return Run(self._rest, dag_id, answer["dag_run_id"], dict(answer.get("conf") or {}))

    def runs(self, dag_id: str = LAND_COVER_MAP, limit: int = 10) -> list[Run]:
        """Return the latest runs, newest first."""
        answer = self._rest.get(f"/api/v2/dags/{dag_id}/dagRuns", limit=limit, order_by="-run_after")
        return [Run(self._rest, dag_id, found["dag_run_id"], dict(found.get("conf") or {})) for found in answer["dag_runs"]]

    def unfinished(self) -> list[tuple[str, str]]:
        """Workflow and run id of all runs that are queued or running, of all workflows that the user may see.

        Raises `TryAgain` where they change faster than they can be listed.
        """
        for _ in range(_LISTINGS):
            found: set[tuple[str, str]] = set()
            total, asked = 1, 0
            while asked < total:
                states = {"state": ["running", "queued"], "order_by": "id", "limit": _PAGE, "offset": asked}
                answer = self._rest.get("/api/v2/dags/~/dagRuns", **states)
                found |= {(str(run["dag_id"]), str(run["dag_run_id"])) for run in answer["dag_runs"]}
                total, asked = int(answer["total_entries"]), asked + _PAGE
            if len(found) == total:
                return sorted(found)
        raise TryAgain(f"the runs at {self.url} change faster than they can be listed; try again later")


def connect(url: str | None = None, user: str | None = None, password: str | None = None) -> Client:
    """Return a client; where arguments are missing, see `earthself.client.logins.find`.

    With the local stack running in this folder nothing needs to be given: it connects as `creator`. Raises `LoginRefused`
    for a wrong password and `ServerNotThere` when nothing answers.
    """
    rest = Rest(logins.find(url, user, password))
    rest.token()
    return Client(rest)


def _conf(area: requests.AreaLike, start: str | date, end: str | date, options: Mapping[str, Any]) -> dict[str, Any]:
    known = ("collection", "provider", "max_cloud_cover", "mask", "model", "max_products", "staging_hours", "title")
    if unknown := sorted(set(options) - set(known)):
        raise BadInput(f"{unknown[0]!r} is not an option of land_cover_map; the options are {', '.join(known)}")
    first, last = requests.period(start, end)
    given = {name: value for name, value in options.items() if value is not None}
    return {"area": requests.area(area), "start": first, "end": last, **given}
