from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from earthself.client.logins import Login
from earthself.client.rest import Rest

ROWS = [
    {"code": -1, "name": "Unobserved", "hectares": 10.0, "share": 0.1, "hectares_low": "", "hectares_high": ""},
    {"code": 3, "name": "Forest and semi-natural areas", "hectares": 30.0, "share": 0.3, "hectares_low": 25.0, "hectares_high": 35.0},
    {"code": 2, "name": "Agricultural areas", "hectares": 60.0, "share": 0.6, "hectares_low": "", "hectares_high": ""},
]


@dataclass
class Server:
    """As much of Airflow's REST API as the client asks for, with one run that goes through `states`."""

    folder: Path
    passwords: dict[str, str] = field(default_factory=lambda: {"creator": "right", "viewer": "weak"})
    states: list[str] = field(default_factory=lambda: ["queued", "running", "success"])
    result: dict[str, Any] = field(default_factory=lambda: {"status": "complete", "products": {"found": 2, "failed": []}, "outputs": {}})
    log: list[dict[str, Any]] = field(default_factory=list)
    estimates: list[int] = field(default_factory=lambda: [2])
    valid: set[str] = field(default_factory=set)
    asked: list[httpx.Request] = field(default_factory=list)
    refuse: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None

    def publish(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "result.json").write_text(json.dumps(self.result))
        (self.folder / "statistics.csv").write_text(statistics())

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path, method = request.url.path, request.method
        if special := self.refuse(request):
            return special
        if path == "/auth/token":
            given = json.loads(request.content)
            if self.passwords.get(given["username"]) != given["password"]:
                return httpx.Response(401, json={"detail": "Invalid credentials"})
            token = f"{given['username']}-{len(self.asked)}"
            self.valid.add(token)
            return httpx.Response(201, json={"access_token": token})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.valid:
            return httpx.Response(401, json={"detail": "Not authenticated"})
        if method == "POST" and token.startswith("viewer"):
            return httpx.Response(403, json={"detail": "Forbidden"})
        return self._answer(method, path)

    def _answer(self, method: str, path: str) -> httpx.Response:
        run = {"dag_run_id": "run+1", "conf": {}}
        name = path.rsplit("/", 1)[1]
        if "/logs/" in path:
            return httpx.Response(200, json={"content": self.log})
        if "/files/" in path:
            content = {"result.json": json.dumps(self.result), "statistics.csv": statistics()}.get(name)
            return httpx.Response(200, text=content) if content else httpx.Response(404, json={"detail": f"no {name}"})
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "estimate": lambda: {"products": self.estimates.pop(0), **ESTIMATE},
            "why": lambda: WHY,
            "freshness": lambda: FRESHNESS,
            "outdated": lambda: OUTDATED,
            "run+1": lambda: {**run, "state": self.states.pop(0) if len(self.states) > 1 else self.states[0]},
            "tasks": lambda: {"tasks": [{"task_id": "search"}, {"task_id": "sign"}]},
            "taskInstances": lambda: {"task_instances": self._instances(), "total_entries": 3},
            "dagRuns": lambda: run if method == "POST" else {"dag_runs": [run]},
        }
        if path.endswith("/estimate/xcomEntries/return_value"):
            return httpx.Response(200, json={"value": {"products": 2, **ESTIMATE}})
        if name == "return_value" and self.states == ["success"]:
            return httpx.Response(200, json={"value": {"href": str(self.folder / "result.json")}})
        return httpx.Response(200, json=answers[name]()) if name in answers else httpx.Response(404, json={"detail": "Not Found"})

    def _instances(self) -> list[dict[str, Any]]:
        failed = self.states == ["failed"]
        at = "2026-01-01T00:00:{:02d}+00:00"
        ended = {"start_date": at.format(1), "end_date": at.format(3), "map_index": -1, "try_number": 1}
        return [
            {"task_id": "search", "state": "failed" if failed else "success", **ended},
            {"task_id": "sign", "state": "upstream_failed" if failed else "success", **ended, "map_index": 0},
            {
                "task_id": "sign",
                "state": "upstream_failed" if failed else "queued",
                **ended,
                "map_index": 1,
                "start_date": None,
                "end_date": None,
            },
        ]


ESTIMATE = {
    "gigabytes": 1.5,
    "gigabytes_needed": 0.04,
    "cpu_minutes": 3,
    "minutes": 2,
    "minutes_low": 1,
    "minutes_high": 4,
    "basis": "history",
    "provider": "earth_search",
}


WHY = {
    "start": "2017-06-13T00:00:00Z",
    "end": "2017-06-14T00:00:00Z",
    "watches": ["earthself_monitor:salzach"],
    "watched_fraction": 1.0,
    "reasons": [
        {"verdict": "cloudy", "text": "71 % clouds, over the limit of 60 %", "watch": "earthself_monitor:salzach", "product": "P1",
         "acquired": "2017-06-13T10:10:31Z", "at": "2017-06-13T14:00:00Z", "dag_id": "", "run_id": ""},
        {"verdict": "not published", "text": "not published (yet)", "watch": "earthself_monitor:salzach", "product": "",
         "acquired": None, "at": None, "dag_id": "", "run_id": ""},
    ],
}  # fmt: skip


FRESHNESS = {
    "days": 30,
    "areas": [
        {"watch": "earthself_monitor:salzach", "goal": {"hours": 24, "share": 0.95}, "acquisitions": 10, "in_time": 8, "pending": 1,
         "share": 0.8, "met": False, "median_hours": 7.25, "phases": {}, "causes": {"provider down": 2}, "late": [], "sentence": "…",
         "blind": {"since": "2024-06-04T09:00:00+00:00", "cause": "nobody asked"}}
    ],
    "alerts": [{"watch": "earthself_monitor:salzach", "first": "2024-06-03T10:00:00+00:00", "last": "2024-06-04T10:00:00+00:00",
                "ended": None, "text": "80% of 10 acquisitions in time"}],
}  # fmt: skip
OUTDATED = {
    "results": [
        {"dag_id": "land_cover_map", "run_id": "manual__1", "since": "2024-06-03T10:00:00Z", "next": "order the map again",
         "products": [{"product": "OLD", "baseline": "N0400", "observation": "o", "superseded_by": "NEW", "newer_baseline": "N0510"}]}
    ]
}  # fmt: skip


def statistics() -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "runs" / "run+1")


@pytest.fixture
def rest(server: Server) -> Rest:
    return Rest(Login("http://server", user="creator", password="right"), httpx.MockTransport(server))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the machine's own logins and stacks out."""
    for name in ("EARTHSELF_HOME", "EARTHSELF_URL", "EARTHSELF_USER", "EARTHSELF_PASSWORD", "EARTHSELF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return
