from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import airflow_sandbox


@pytest.fixture(scope="session")
def server():
    """Airflow's own web application with its plugins and the simple auth manager, in this process."""
    airflow_sandbox.migrate()
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


@pytest.fixture
def login(server) -> Iterator[Callable[..., object]]:
    """Make a client that is logged in as a user (None: not at all), by token or by cookie."""
    from fastapi.testclient import TestClient

    def make(user: str | None = None, *, cookie: bool = False):
        client = TestClient(server, base_url="http://testserver")
        if user is None:
            return client
        token = client.post("/auth/token", json={"username": user, "password": user}).json()["access_token"]
        if cookie:
            client.cookies.set("_token", token)
        else:
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    return make


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a published run of `land_cover_map` in a workspace of its own."""
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHSELF_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("EARTHSELF_DATABASE_URL", raising=False)
    folder = tmp_path / "workspace/runs/land_cover_map/manual__2026-01-01T00:00:00+00:00"
    (folder / "work").mkdir(parents=True)
    (folder / "report.html").write_text("<h1>report</h1>")
    (folder / "land_cover.tif").write_bytes(bytes(range(256)) * 40)
    (folder / "result.json").write_text(json.dumps({"status": "complete"}))
    (folder / ".hidden").write_text("secret")
    (folder / "work" / "request.json").write_text("secret")
    (tmp_path / "workspace" / "secret.txt").write_text("secret")
    (folder / "way_out.txt").symlink_to(tmp_path / "workspace" / "secret.txt")
    return folder
