"""A local stack of its own for a benchmark, and the few questions that one has for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

_PATIENCE = 180.0


@contextmanager
def stack(folder: Path, dags: Mapping[str, str]) -> Iterator[httpx.Client]:
    """Start a stack with workflows (DAG id -> its file's text); gives Airflow's REST API as admin, once it knows them all."""
    (folder / "dags").mkdir()
    for dag_id, text in dags.items():
        (folder / "dags" / f"{dag_id}.py").write_text(text)
    home = folder / "home"
    ports = dict.fromkeys(("EARTHSELF_PORT", "EARTHSELF_SIGNATURE_PORT", "EARTHSELF_DATA_PORT", "EARTHSELF_SAMPLE_PORT"), "0")
    environment = {**os.environ, **ports, "EARTHSELF_HOME": str(home), "EARTHSELF_DAGS": str(folder / "dags")}
    command = [sys.executable, "-m", "earthself.local"]
    process = subprocess.Popen([*command, "up"], env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            status = subprocess.run([*command, "status", "--json"], env=environment, capture_output=True, text=True, check=False)
            found = json.loads(status.stdout) if status.returncode == 0 else {}
            if found.get("up"):
                client = _client(found["running"]["url"], json.loads((home / "passwords.json").read_text())["admin"], dags)
                with closing(client):
                    yield client
                return
            time.sleep(1)
        raise RuntimeError(f"the stack did not come up within {_PATIENCE:.0f} s; see `make up`")
    finally:
        subprocess.run([*command, "down"], env=environment, stdout=subprocess.DEVNULL, check=False)
        process.wait(60)


def seconds_of(client: httpx.Client, dag_id: str) -> float:
    """Run a workflow; seconds from the trigger to the run's end, by Airflow's own clock. Raises where the run fails."""
    answer = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None})
    address = f"/api/v2/dags/{dag_id}/dagRuns/{answer.raise_for_status().json()['dag_run_id']}"
    while (found := _read(client, address))["state"] not in ("success", "failed"):
        time.sleep(0.5)
    if found["state"] == "failed":
        raise RuntimeError(f"the run {address} failed; the bench measures nothing then")
    return (datetime.fromisoformat(found["end_date"]) - datetime.fromisoformat(found["queued_at"])).total_seconds()


def _read(client: httpx.Client, address: str) -> dict[str, Any]:
    """Ask again where the web server has no answer for now: it shares two cores with all that is measured."""
    deadline = time.monotonic() + _PATIENCE
    while (answer := client.get(address)).is_server_error and time.monotonic() < deadline:
        time.sleep(1)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def _client(url: str, password: str, dags: Mapping[str, str]) -> httpx.Client:
    client = httpx.Client(base_url=url, timeout=60)
    answer = client.post("/auth/token", json={"username": "admin", "password": password})
    client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
    deadline = time.monotonic() + _PATIENCE
    while any(client.get(f"/api/v2/dags/{name}").status_code != 200 for name in dags):
        if time.monotonic() > deadline:
            raise RuntimeError(f"Airflow did not find the workflows {', '.join(dags)}")
        time.sleep(0.5)
    return client
