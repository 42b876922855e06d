"""A chain whose steps run where the Cloud Suggest Engine says, run by Airflow; a server on loopback stands for each cluster."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import airflow_sandbox
import pytest

from tests.benchmark.clouds import NEED
from tests.benchmark.kept import keep

DAG = """
from airflow.sdk import DAG
from earthself.operators import CloudSuggestOperator, ProcessingStepOperator

with DAG("suggested_cloud", schedule=None, params={"need": {}}, default_args={"retries": 0}):
    where = CloudSuggestOperator(task_id="where", need="{{ params.need | tojson }}", require_connection=True)
    ProcessingStepOperator(
        task_id="step", image="localhost/none:1", command=["true"], cloud=where.output["connection"], eodag_conn_id=None
    )
"""


class Clusters:
    """Kubernetes connections, each to a server that allows nothing and notes what it is asked."""

    def __init__(self, monkeypatch) -> None:
        self.asked: dict[str, list[str]] = {}
        self._monkeypatch = monkeypatch
        self._servers: list[ThreadingHTTPServer] = []

    def add(self, name: str, region: str) -> None:
        asked = self.asked.setdefault(name, [])

        class Refuses(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = json.dumps({"kind": "Status", "message": f"{name} allows nothing"}).encode()
                self.send_response(403)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - so named by http.server

            def log_message(self, *_) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {"token": "t"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        where = {"provider": "north", "region": region, "workspace": {"emptyDir": {}}}
        extra = {"kube_config": json.dumps(config), "namespace": name, "earthself": where}
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        self._monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_CLOUDS", json.dumps(list(self.asked)))

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def clusters(monkeypatch):
    made = Clusters(monkeypatch)
    yield made
    made.close()


@pytest.mark.timeout(300)
def test_steps_go_to_the_cluster_of_the_best_offer_that_has_one(load, home, clusters):
    keep()
    clusters.add("elsewhere", "n9")
    clusters.add("second", "n2")
    path = airflow_sandbox.HOME / "own" / "suggested_cloud.py"
    path.write_text(DAG)
    dag = load(path)
    run = dag.test(run_conf={"need": NEED})
    states = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
    assert states == {"where": "success", "step": "failed"}, "the servers allow nothing"
    assert clusters.asked["elsewhere"] == []
    assert clusters.asked["second"]
    assert all("/namespaces/second/" in path for path in clusters.asked["second"])

    clusters.add("first", "n1")
    run = dag.test(run_conf={"need": NEED})
    assert clusters.asked["first"]
    answer = home / "workspace/runs/suggested_cloud" / run.run_id / "suggestions/where/answer.json"
    assert json.loads(answer.read_text())["choices"][0]["region"] == "n1"


@pytest.mark.timeout(300)
def test_a_chain_whose_steps_would_run_anywhere_does_not_begin(load, home, clusters):
    keep()
    clusters.add("elsewhere", "n9")
    path = airflow_sandbox.HOME / "own" / "suggested_cloud.py"
    path.write_text(DAG)
    run = load(path).test(run_conf={"need": NEED})
    states = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
    assert states == {"where": "failed", "step": "upstream_failed"}
    assert clusters.asked["elsewhere"] == []


@pytest.mark.timeout(300)
def test_without_a_connection_a_chain_runs_where_others_do(load, home, clusters):
    from earthself.operators import catalogs

    keep()
    clusters.add("elsewhere", "n9")
    nothing = catalogs.write_catalog(home / "nothing", "nothing", []).to_dict()
    path = airflow_sandbox.HOME / "own" / "suggested_cloud.py"
    path.write_text(DAG.replace(", require_connection=True", "").replace('image="localhost/none:1", ', f"inputs={nothing!r}, "))
    run = load(path).test(run_conf={"need": NEED})
    where, step = (run.get_task_instance(name) for name in ("where", "step"))
    assert (str(where.state), str(step.state)) == ("success", "success")
    assert where.xcom_pull(task_ids="where", key="no_connection").startswith("none of the connections")
    assert clusters.asked["elsewhere"] == []
