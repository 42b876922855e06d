"""What an operator of the platform sees of a real stack: its metrics, Airflow's own as they come by OpenTelemetry, and its logs."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from earthself.local.ports import free_ports
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.promql import expressions, names, sample_names
from tests.system.running import Started, stack_in, until

TOKEN = "for-tests-only"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
STEP = """
import sys
from airflow.sdk import DAG
from earthself.operators import ProcessingStepOperator

LEAVE = '''import json, os
catalog = {"type": "Catalog", "id": "o", "stac_version": "1.1.0", "description": "", "links": []}
open(os.environ["EARTHSELF_STEP_OUTPUT"] + "/catalog.json", "w").write(json.dumps(catalog))
print("a line of the step")
'''
with DAG("stepping", schedule=None) as dag:
    ProcessingStepOperator(task_id="good", command=[sys.executable, "-c", LEAVE], eodag_conn_id=None)
    ProcessingStepOperator(task_id="bad", command=[sys.executable, "-c", "raise SystemExit(65)"], eodag_conn_id=None)
    ProcessingStepOperator(
        task_id="large", command=[sys.executable, "-c", "import time; x = bytearray(400 << 20); time.sleep(60)"],
        resources={"memory": "128Mi"}, eodag_conn_id=None,
    )
"""


class Collector:
    """Takes OTLP over HTTP as an OpenTelemetry collector does, and keeps names and labels as Prometheus would."""

    def __init__(self) -> None:
        self.series: dict[str, set[str]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                collector.take(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/metrics"

    def take(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    labels = {pair.key for point in data.data_points for pair in point.attributes}
                    self.series.setdefault(prometheus_name(metric), set()).update(labels)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)


def prometheus_name(metric) -> str:
    """The rule of OpenTelemetry's specification for Prometheus: other characters are _, then the unit, `_total` for sums that only rise."""
    name = re.sub(r"[^a-zA-Z0-9:_]", "_", metric.name)
    unit = {"ms": "milliseconds", "s": "seconds", "By": "bytes"}.get(metric.unit, "")
    name = f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name
    rises = metric.WhichOneof("data") == "sum" and metric.sum.is_monotonic
    return f"{name}_total" if rises and not name.endswith("_total") else name


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def addresses() -> list[str]:
    """Where EarthSignature's two servers tell."""
    return [f"127.0.0.1:{port}" for port in free_ports(2)]


@pytest.fixture(scope="module")
def watched(collector: Collector, addresses: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A stack that sends its metrics and logs JSON, with a run behind it of which one step worked and two did not."""
    signature, web = addresses
    more = {
        "EARTHSELF_SIGNATURE_METRICS": signature,
        "EARTHSELF_DATA_METRICS": web,
        "EARTHSELF_METRICS_TOKEN": TOKEN,
        "EARTHSELF_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    with stack_in(tmp_path_factory.mktemp("watched"), more, {"stepping.py": STEP}) as started:
        with started.rest() as http:
            until(lambda: http.get("/api/v2/dags/stepping").status_code == 200, "the workflow is known")
            run = http.post("/api/v2/dags/stepping/dagRuns", json={"logical_date": None}).raise_for_status().json()["dag_run_id"]
            where = f"/api/v2/dags/stepping/dagRuns/{run}"
            until(lambda: http.get(where).json()["state"] == "failed", "the run has ended", 120)
        yield started


def scraped(started: Started) -> dict[tuple[str, frozenset], float]:
    answer = httpx.get(f"{started.running.url}/earthself/metrics", headers=AUTHORIZED, timeout=30)
    families = text_string_to_metric_families(answer.raise_for_status().text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def test_steps_of_a_real_run_are_counted(watched: Started) -> None:
    found = scraped(watched)
    ended = {
        (dict(labels)["step"], dict(labels)["result"]): number
        for (name, labels), number in found.items()
        if name == "earthself_steps_ended_total"
    }
    assert ended == {("good", "done"): 1, ("bad", "bad_input"): 1, ("large", "memory"): 1}
    failed = {
        dict(labels)["reason"]: number for (name, labels), number in found.items() if name == "earthself_task_failures_total" and number
    }
    assert failed == {"bad_input": 1, "memory": 1}
    assert {number for (name, _), number in found.items() if name == "earthself_source_up"} == {1}
    assert httpx.get(f"{watched.running.url}/earthself/metrics").status_code == 401


def test_dashboards_and_alerts_ask_for_what_really_comes(collector: Collector, addresses: list[str], watched: Started) -> None:
    asked = {name for expression in expressions().values() for name in names(expression)}
    airflow = {name for name in asked if name.startswith("airflow_")}
    until(lambda: airflow <= set(collector.series), f"Airflow sends {airflow}", 90)
    told = [httpx.get(watched.running.url + "/earthself/metrics", headers=AUTHORIZED, timeout=30).text]
    told += [httpx.get(f"http://{address}/metrics", timeout=30).text for address in addresses]
    assert asked <= set(collector.series) | {name for text in told for name in sample_names(text)}


def test_what_each_task_counts_for_itself_is_not_sent(collector: Collector, watched: Started) -> None:
    assert "airflow_scheduler_heartbeat_total" in collector.series
    assert not [name for name in collector.series if name.startswith(("airflow_ti_", "airflow_task_", "airflow_operator_"))]
    assert not [name for name, labels in collector.series.items() if {"run_id", "job_id"} & labels]


def test_each_line_of_a_task_says_whose_it_is(watched: Started) -> None:
    paths = (watched.stack.home.logs / "tasks").glob("dag_id=stepping/*/task_id=good/*.log")
    records = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    (line,) = [record for record in records if record["event"] == "a line of the step"]
    whose = {"dag_id": "stepping", "task_id": "good", "step": "good", "map_index": -1, "level": "info"}
    assert {key: line[key] for key in whose} == whose
    assert line["run_id"].startswith("manual__")
    assert line["try_number"] >= 1
    assert line["timestamp"]


@pytest.mark.parametrize("part", ["api-server", "scheduler", "triggerer", "dag-processor", "earthsignature"])
def test_every_part_logs_json(watched: Started, part: str) -> None:
    lines = (watched.stack.home.logs / f"{part}.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert records
    assert all({"timestamp", "level", "event"} <= set(record) for record in records)
    assert len(lines) - len(records) <= 1 + 0.1 * len(lines), "but for where it listens, and what libraries print"
