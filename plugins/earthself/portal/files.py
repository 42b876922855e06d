"""The published files of a run, read-only: what the links in the interface open, and what clients on other machines read."""

from __future__ import annotations

import html
import re
from pathlib import Path

from earthself.data.errors import EarthSelfError
from earthself.data.workspace import Workspace
from fastapi import HTTPException, status
from fastapi.responses import FileResponse, HTMLResponse, Response

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", re.ASCII)
_BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)
REPORT = "report.html"
_OF_SUGGESTIONS = (REPORT, "answer.json")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".png": "image/png",
    ".csv": "text/csv; charset=utf-8",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".parquet": "application/vnd.apache.parquet",
}
HEADERS = {
    # A result may carry text that somebody typed: it is shown as a page without scripts and without this site's rights.
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
"""Of everything that is given."""


def published(dag_id: str, run_id: str, name: str) -> FileResponse:
    """Answer with a file that lies in the run's folder itself; everything else, such as `work/` and links out of it, is 404.

    Ranges are served, so that a COG can be read in parts.
    """
    path = find(dag_id, run_id, name)
    if path is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"the run {run_id[:100]} of {dag_id[:100]} has published no file {name[:100]!r}")
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=HEADERS)


def report(dag_id: str, run_id: str) -> Response:
    """Answer with the report as it was published, or, where the result is out of date, below a line that says so."""
    from earthself.operators import outdated

    said = outdated.read(Workspace.from_env().run(dag_id, run_id)) if find(dag_id, run_id, REPORT) else None
    path = find(dag_id, run_id, REPORT)
    if said is None or path is None:
        return published(dag_id, run_id, REPORT)
    newer = ", ".join(f"{entry['superseded_by']} instead of {entry['product']}" for entry in said["products"])
    line = f"This result is out of date since {said['since']}: its provider has reprocessed products that it was made from ({newer})."
    style = "background:#fdecea;color:#7a1a12;padding:.8rem 1rem;margin:0;font:15px/1.4 system-ui,sans-serif"
    banner = f'<p style="{style}">{html.escape(line)} {html.escape(said["next"])}.</p>'
    text = path.read_text(encoding="utf-8")
    body = _BODY.search(text)
    place = body.end() if body else 0
    return HTMLResponse(text[:place] + banner + text[place:], headers=HEADERS)


def suggestion(dag_id: str, run_id: str, task: str, name: str) -> FileResponse:
    """Answer with what the Cloud Suggest Engine answered to a task: `report.html` or `answer.json` of its folder; else 404."""
    try:
        path = Workspace.from_env().run(dag_id, run_id).suggestion(task) / name
    except EarthSelfError:
        path = None
    if path is None or name not in _OF_SUGGESTIONS or path.resolve() != path.parent.resolve() / name or not path.is_file():
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"task {task[:100]} of the run {run_id[:100]} has left no suggestion {name[:100]!r}")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=HEADERS)


def find(dag_id: str, run_id: str, name: str) -> Path | None:
    """Locate a published file, or None; a folder is published when its `result.json` is there."""
    try:
        run = Workspace.from_env().run(dag_id, run_id)
    except EarthSelfError:
        return None
    if not _NAME.fullmatch(name) or not run.result.is_file():
        return None
    folder = run.path.resolve()
    path = (folder / name).resolve()
    return path if path.parent == folder and path.is_file() else None
