"""Dashboards ask for what there is: every name in them and in alerts is one that our code or Airflow's list of metrics knows.

`tests/system/test_metrics.py` holds the same names against a real stack.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.promql import CHART, expressions, names, panels, sample_names

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import airflow_sandbox  # noqa: F401 - Airflow's list of metrics is read below

UNITS = {"s", "bytes", "Bps", "percentunit", "short", "hertz", "reqps"}


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> set[str]:
    """Names of samples: of the web server, of EarthSignature's servers, of Airflow as OpenTelemetry's rule for Prometheus writes them."""
    from earthself.portal.metrics import exposition
    from earthself.signature.metrics import Meters, StoreFigures
    from earthself.signature.store import Store
    from prometheus_client import generate_latest

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARTHSELF_HOME", str(home))
        patch.delenv("EARTHSELF_DATABASE_URL", raising=False)
        text = exposition("")[0].decode()
    store = Store.open(home / "earthsignature")
    for prefix, labels in (("earthsignature", ("service", "method")), ("earthsignature_web", ("route",))):
        meters = Meters(prefix, labels)
        if prefix == "earthsignature":
            meters.registry.register(StoreFigures(store))
        text += generate_latest(meters.registry).decode()
    store.close()
    return sample_names(text) | _airflow()


def _airflow() -> set[str]:
    from airflow._shared.observability.metrics import metrics_registry

    listed = yaml.safe_load(Path(metrics_registry.__file__).with_name("metrics_template.yaml").read_text())["metrics"]
    made = set()
    for metric in listed:
        name = "airflow_" + re.sub(r"[^a-zA-Z0-9_]", "_", metric["name"])
        made.add(name + "_total" if metric["type"] == "counter" else name)
    return made


@pytest.mark.parametrize("where", expressions())
def test_every_metric_that_is_asked_for_exists(where: str, known: set[str]) -> None:
    asked = names(expressions()[where])
    assert asked
    assert asked <= known


@pytest.mark.parametrize("where", panels())
def test_every_panel_explains_itself(where: str) -> None:
    panel = panels()[where]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24


def test_panels_do_not_lie_on_each_other() -> None:
    for path in CHART.glob("dashboards/*.json"):
        board = json.loads(path.read_text())
        cells = [
            (x, y)
            for panel in board["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells))
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert board["uid"] == f"earthself-{path.stem}"
