"""The published files of a run, read-only: what the links in the interface open, and what clients on other machines read."""

from __future__ import annotations

import re
from pathlib import Path

from earthself.data.errors import EarthSelfError
from earthself.data.workspace import Workspace
from fastapi import HTTPException, status
from fastapi.responses import FileResponse

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", re.ASCII)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".png": "image/png",
    ".csv": "text/csv; charset=utf-8",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".parquet": "application/vnd.apache.parquet",
}
_HEADERS = {
    # A result may carry text that somebody typed: it is shown as a page without scripts and without this site's rights.
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


def published(dag_id: str, run_id: str, name: str) -> FileResponse:
    """Answer with a file that lies in the run's folder itself; everything else, such as `work/` and links out of it, is 404.

    Ranges are served, so that a COG can be read in parts.
    """
    path = find(dag_id, run_id, name)
    if path is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"the run {run_id[:100]} of {dag_id[:100]} has published no file {name[:100]!r}")
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=_HEADERS)


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
