"""Which runs are not finished, asked of Airflow's own web application: cleaning a workspace leaves them alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from earthself.client.client import Client
from earthself.client.logins import Login
from earthself.client.rest import Rest

STATES = ["running", "queued", "success", "failed"]
RUNS = 130
"""More than Airflow gives at once."""


@pytest.fixture
def runs(server) -> Iterator[set[tuple[str, str]]]:
    """Runs of two workflows in all states; gives those that are not finished."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    unfinished = set()
    with create_session() as session:
        session.add(DagBundleModel(name="unfinished"))
        session.flush()
        for dag_id in ("map_a", "map_b"):
            session.add(
                DagModel(dag_id=dag_id, bundle_name="unfinished", is_paused=False, is_stale=False, fileloc="x", relative_fileloc="x")
            )
        session.flush()
        for number in range(RUNS):
            dag_id, state = f"map_{'ab'[number % 2]}", STATES[number // 2 % 4] if number < 12 else "running"
            run_id = f"manual__{number}+00:00"
            row = DagRun(
                dag_id=dag_id,
                run_id=run_id,
                run_type=DagRunType.MANUAL,
                run_after=datetime(2026, 1, 1, tzinfo=UTC),
                state=DagRunState(state),
                triggered_by=DagRunTriggeredByType.TEST,
            )
            session.add(row)
            if state in ("running", "queued"):
                unfinished.add((dag_id, run_id))
    yield unfinished
    with create_session() as session:
        for model in (DagRun, DagModel):
            session.query(model).filter(model.dag_id.in_(["map_a", "map_b"])).delete()
        session.query(DagBundleModel).filter_by(name="unfinished").delete()


def test_all_that_is_queued_or_running_is_listed(runs: set[tuple[str, str]], server) -> None:
    from fastapi.testclient import TestClient

    web = TestClient(server, base_url="http://testserver")

    def send(request: httpx.Request) -> httpx.Response:
        answer = web.request(request.method, str(request.url), content=request.read(), headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content)

    client = Client(Rest(Login("http://testserver", user="admin", password="admin"), transport=httpx.MockTransport(send)))
    assert len(runs) > 100
    assert set(client.unfinished()) == runs
