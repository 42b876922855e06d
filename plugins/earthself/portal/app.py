"""The portal's application: estimates, suggestions, watched areas, and the files of runs, below `/earthself` of Airflow's web server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from earthself.benchmark.errors import BadNeed, UnknownCollection
from earthself.data.errors import BadInput, CredentialsRefused, EarthSelfError
from earthself.helpdesk import BadEntry, NotNow, Unknown
from earthself.operators.errors import BadRequest
from earthself.portal import bodies, files, metrics, monitor, rights, selfservice, suggestions
from fastapi import Depends, FastAPI, HTTPException, Request, status
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

LAND_COVER_MAP = "land_cover_map"
_AT_ONCE = 4
_estimates = threading.BoundedSemaphore(_AT_ONCE)
_suggestions = threading.BoundedSemaphore(_AT_ONCE)

app = FastAPI(title="EarthSelf", version="1", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
app.include_router(selfservice.router)


@app.exception_handler(EarthSelfError)
def _explain(_request: Request, error: Exception) -> JSONResponse:
    """Answer with the error's own sentence: it names the value, the limit and the next step."""
    retry = getattr(error, "retry", False)
    if isinstance(error, (BadInput, BadRequest, BadNeed, BadEntry, UnknownCollection)):
        code = status.HTTP_422_UNPROCESSABLE_CONTENT
    elif isinstance(error, Unknown):
        code = status.HTTP_404_NOT_FOUND
    elif isinstance(error, NotNow):
        code = status.HTTP_409_CONFLICT
    elif isinstance(error, CredentialsRefused) or not retry:
        code = status.HTTP_502_BAD_GATEWAY
    else:
        code = status.HTTP_503_SERVICE_UNAVAILABLE
    return JSONResponse({"detail": str(error), "retry": retry}, code, {"Retry-After": "30"} if retry else {})


@app.exception_handler(RecursionError)
def _too_deep(_request: Request, _error: Exception) -> JSONResponse:
    """Answer to JSON whose lists or objects lie so deep in each other that no program can follow."""
    detail = "the request is nested too deeply; an area is [west, south, east, north], or a GeoJSON Polygon or MultiPolygon"
    return JSONResponse({"detail": detail, "retry": False}, status.HTTP_422_UNPROCESSABLE_CONTENT)


@contextmanager
def _in_turn(places: threading.BoundedSemaphore, what: str) -> Iterator[None]:
    """Take one of the places for what costs much, or answer 503 where all are taken."""
    if not places.acquire(blocking=False):
        busy = f"{_AT_ONCE} {what} are being made; try again in some seconds"
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, busy, {"Retry-After": "5"})
    try:
        yield
    finally:
        places.release()


def _starter(user: GetUserDep) -> None:
    rights.require_runs(user, LAND_COVER_MAP, "POST")


@app.post("/api/v1/estimate", dependencies=[Depends(_starter)])
def estimate(conf: Annotated[dict[str, Any], Depends(bodies.json_object)]) -> dict[str, Any]:
    """Say what a land-cover map would cost; the body is the workflow's conf. Nothing is started.

    Beside the estimate: `max_products`, and whether the request is `within_limit`.
    """
    from earthself.hooks.eodag import EodagHook
    from earthself.operators.estimate import estimate as estimated
    from earthself.operators.identity import signature_identity
    from earthself.operators.request import validated

    wanted = validated(conf)
    signature_identity(str(wanted["model"]))
    with _in_turn(_estimates, "estimates"), EodagHook().sources() as sources:
        found = estimated(wanted, sources)
    limit = int(wanted["max_products"])
    return {**found.to_dict(), "max_products": limit, "within_limit": found.products <= limit}


def _reader(user: GetUserDep) -> None:
    rights.require_reader(user)


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status.HTTP_401_UNAUTHORIZED: {"description": "Nobody is logged in."},
    status.HTTP_403_FORBIDDEN: {"description": "The user may not see workflows, or a page of another site asks."},
    status.HTTP_413_CONTENT_TOO_LARGE: {"description": f"The need is larger than {bodies.MOST_BYTES} bytes."},
    status.HTTP_415_UNSUPPORTED_MEDIA_TYPE: {"description": "The need is not sent as JSON."},
    status.HTTP_422_UNPROCESSABLE_CONTENT: {"description": "The need cannot be read, or contradicts itself: `detail` names the place."},
    status.HTTP_503_SERVICE_UNAVAILABLE: {"description": "The database is away, or too many ask at once: see `Retry-After`."},
}


@app.post(
    "/api/v1/suggestions",
    dependencies=[Depends(_reader)],
    response_class=Response,
    responses=_REFUSALS
    | {200: {"content": {suggestions.JSON: {"schema": suggestions.described("answer")}, suggestions.PAGE: {"schema": {"type": "string"}}}}},
    openapi_extra={"requestBody": {"required": True, "content": {suggestions.JSON: {"schema": suggestions.described("need")}}}},
)
def suggest(need: Annotated[dict[str, Any], Depends(bodies.json_object)], request: Request) -> Response:
    """Say where a service should run; the body is what it needs. With `Accept: text/html` the answer is a page for people."""
    kind = suggestions.preferred(request.headers.get("accept", ""))
    with _in_turn(_suggestions, "suggestions"):
        text = suggestions.answered(need, kind)
    return Response(text, media_type=kind, headers=files.HEADERS)


@app.get("/api/v1/suggestions/schema", dependencies=[Depends(_reader)])
def need_schema() -> dict[str, Any]:
    """Give the JSON schema of a need, for forms and editors."""
    return suggestions.schema("need")


def _watcher(user: GetUserDep) -> None:
    rights.require_runs(user, monitor.MONITOR, "GET")


@app.post("/api/v1/why", dependencies=[Depends(_watcher)])
def why(question: Annotated[dict[str, Any], Depends(bodies.json_object)], user: GetUserDep) -> dict[str, Any]:
    """Say what became of the products of an area and a time, or why there are none; the body is {area, time}."""
    return monitor.why(question, lambda dag_id: rights.may_see_runs(user, dag_id))


@app.get("/api/v1/freshness", dependencies=[Depends(_watcher)])
def freshness(days: float = 30) -> dict[str, Any]:
    """Say how fresh the watched areas were over the acquisitions of the last days."""
    return monitor.fresh(days)


@app.get("/api/v1/outdated")
def outdated(user: GetUserDep) -> dict[str, Any]:
    """List the results that were made from products which were reprocessed since."""
    return monitor.outdated(lambda dag_id: rights.may_see_runs(user, dag_id))


@app.get("/monitor", dependencies=[Depends(_watcher)])
def watched(user: GetUserDep) -> HTMLResponse:
    """Show the watched areas and the results that are out of date."""
    return HTMLResponse(monitor.page(lambda dag_id: rights.may_see_runs(user, dag_id)), headers=files.HEADERS)


@app.get("/metrics")
def scraped(request: Request) -> Response:
    """Give the platform's metrics to Prometheus, by the token of the deployment."""
    allowed = metrics.allowed(request.headers.get("authorization"))
    if allowed is None:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, f"metrics are given by token only, and none is set; start the web server with {metrics.TOKEN}"
        )
    if not allowed:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "the metrics need their own token", {"WWW-Authenticate": "Bearer"})
    content, kind = metrics.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": kind, "Cache-Control": "no-store"})


@app.get("/runs/{dag_id}/{run_id}/report.html")
def report(dag_id: str, run_id: str, user: GetUserDep) -> Response:
    """Give the report of a run, below a line that says so where its result is out of date."""
    rights.require_runs(user, dag_id, "GET")
    return files.report(dag_id, run_id)


@app.get("/runs/{dag_id}/{run_id}/suggestions/{task}/{name}")
def run_suggestion(dag_id: str, run_id: str, task: str, name: str, user: GetUserDep) -> FileResponse:
    """Give what the Cloud Suggest Engine answered to a task of a run, to whoever may see the run."""
    rights.require_runs(user, dag_id, "GET")
    return files.suggestion(dag_id, run_id, task, name)


@app.get("/runs/{dag_id}/{run_id}/{name}")
@app.get("/api/v1/runs/{dag_id}/{run_id}/files/{name}")
def run_file(dag_id: str, run_id: str, name: str, user: GetUserDep) -> FileResponse:
    """Give a published file of a run to whoever may see the run."""
    rights.require_runs(user, dag_id, "GET")
    return files.published(dag_id, run_id, name)
