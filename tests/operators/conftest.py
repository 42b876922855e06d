from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import airflow_sandbox
from in_pods import connection
from tcp_proxy import Proxy

from tests.kube import Cluster


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    return airflow_sandbox.migrate()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own, and no platform database but the one beside it."""
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHSELF_WORKSPACE", str(tmp_path / "workspace"))
    for name in ("EARTHSELF_DATABASE_URL", "EARTHSELF_RUNTIME", "EARTHSELF_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "workspace"


@pytest.fixture
def context(workspace: Path) -> Callable[..., dict[str, Any]]:
    """What Airflow gives to `execute`, as far as our operators read it."""

    def make(map_index: int = -1, **params: Any) -> dict[str, Any]:
        ti = SimpleNamespace(dag_id="a_dag", run_id="manual__1", task_id="t", map_index=map_index, try_number=1, max_tries=3)
        return {"ti": ti, "params": params}

    return make


@pytest.fixture
def products(tmp_path: Path) -> dict[str, Any]:
    """Reference dict of a catalogue of two products, with the area beside it."""
    from earthself.operators import catalogs

    area = {"type": "Polygon", "coordinates": [[[14.0, 48.0], [14.1, 48.0], [14.1, 48.1], [14.0, 48.1], [14.0, 48.0]]]}
    items = [
        {"type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": area, "bbox": [14, 48, 14.1, 48.1], "links": [], "assets": {},
         "properties": {"datetime": "2017-06-13T10:10:31Z", "earthself:observation": name}}
        for name in ("P1", "P2")
    ]  # fmt: skip
    return catalogs.write_catalog(tmp_path / "products", "products", items, area).to_dict()


@pytest.fixture
def kube(cluster_config, workspace, monkeypatch):
    """A namespace of its own, and the connection that leads there."""
    cluster = Cluster(cluster_config, f"t-{secrets.token_hex(4)}")
    cluster.kubectl("create", "namespace", cluster.namespace)
    extra = {
        "kube_config_path": cluster_config,
        "namespace": cluster.namespace,
        "earthself": {"image": "localhost/busybox:1", "workspace": {"hostPath": {"path": str(workspace)}}},
    }
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def task(context):
    def make(index: int = -1):
        made = context(index)
        name = "t" if index < 0 else f"t_{index}"
        states = {made["ti"].run_id: {name: "running"}}
        made["ti"] = SimpleNamespace(**vars(made["ti"]), start_date=datetime.now(UTC), get_task_states=lambda **_: states)
        return made | {"run_id": made["ti"].run_id, "dag": SimpleNamespace()}

    return make


@pytest.fixture
def found(products, workspace):
    """The products' catalogue, as a task before this one leaves it in the run's folder."""
    from earthself.data.reference import Reference

    path = workspace / "runs/a_dag/manual__1/work/found"
    shutil.copytree(Reference.from_dict(products).path().parent, path)
    return Reference.to_file(path / "catalog.json", 2).to_dict()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    """Make a step of a few lines of Python; `leave(ids, **result)` writes the catalogue and the result document."""

    def make(body: str) -> list[str]:
        path = tmp_path / f"step_{len(list(tmp_path.glob('step_*.py')))}.py"
        path.write_text(_PRELUDE + body, encoding="utf-8")
        return [sys.executable, str(path)]

    return make


_PRELUDE = """
import json, os, sys, time
from pathlib import Path
IN, OUT, RESULT = (Path(os.environ["EARTHSELF_STEP_" + name]) for name in ("INPUT", "OUTPUT", "RESULT"))
def inputs():
    links = json.loads((IN / "catalog.json").read_text())["links"]
    return [Path(link["href"]).stem for link in links if link["rel"] == "item"]
def leave(*ids, **result):
    for name in ids:
        (OUT / name).mkdir()
        (OUT / name / f"{name}.json").write_text(json.dumps({"type": "Feature", "id": name, "assets": {}, "properties": {}}))
    links = [{"rel": "item", "href": f"./{name}/{name}.json"} for name in ids]
    catalog = {"type": "Catalog", "id": "out", "stac_version": "1.1.0", "description": "", "links": links}
    (OUT / "catalog.json").write_text(json.dumps(catalog))
    RESULT.write_text(json.dumps({"status": "done", "outputs": len(ids), "message": "", "metrics": {}, "warnings": [], **result}))
"""


@pytest.fixture
def read() -> Callable[[str | Path], Any]:
    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture
def door(kube, tmp_path, monkeypatch):
    """The way to the API server leads through a door that the test can slam."""
    config = Path(kube.config).read_text()
    found = re.search(r"https://([^:/]+):(\d+)", config)
    assert found
    made = Proxy(found[1], int(found[2]))
    (tmp_path / "through.kubeconfig").write_text(config.replace(found[0], f"https://127.0.0.1:{made.port}"))
    connection(monkeypatch, lambda extra: extra.update(kube_config_path=str(tmp_path / "through.kubeconfig")))
    yield made
    made.close()
