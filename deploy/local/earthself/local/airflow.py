"""The few questions that the stack has for Airflow, asked over REST as admin."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx

COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
"""What Airflow's health document must call healthy."""


class Airflow:
    """Airflow's web server at one address; what does not answer counts as not there."""

    def __init__(self, url: str, password: str = "") -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._password = password
        self._warming: threading.Thread | None = None

    def health(self) -> dict[str, str]:
        """Return component -> "healthy", "unhealthy" or "unknown"; empty while the web server does not answer."""
        found = self._json("/api/v2/monitor/health") or {}
        return {name: (part or {}).get("status") or "unknown" for name, part in found.items()}

    def has_workflow(self, dag_id: str) -> bool:
        """Tell whether the DAG can be triggered."""
        return self._as_admin(f"/api/v2/dags/{dag_id}") is not None

    def import_error(self, file_name: str) -> str:
        """Return the last line of the error that kept a DAG file from being read, or an empty text."""
        for error in (self._as_admin("/api/v2/importErrors") or {}).get("import_errors", []):
            if str(error.get("filename", "")).endswith(file_name):
                return str(error.get("stack_trace", "")).strip().splitlines()[-1]
        return ""

    def warm_up(self) -> None:
        """Ask once for what tasks will ask for: the server builds that part of itself at the first request, which takes seconds."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._json, args=("/execution/health",), daemon=True)
            self._warming.start()

    def _as_admin(self, path: str) -> dict[str, Any] | None:
        if "Authorization" not in self._http.headers:
            try:
                answer = self._http.post("/auth/token", json={"username": "admin", "password": self._password})
                self._http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
            except (httpx.HTTPError, json.JSONDecodeError):
                return None
        return self._json(path)

    def _json(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._http.get(path).raise_for_status().json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return None
        return found
