"""Pods of a cluster share a provider account by the download broker's service, as processes of one machine do by its folder."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from earthself.operators import StepResources
from earthself.operators.clouds import cloud
from earthself.operators.errors import BadRequest
from in_pods import CATALOG, ITEM, connection, run, step
from structlog.testing import capture_logs

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from account import CREDENTIALS, Account
from provider import File, Provider
from served import TOKEN, Process

PODS = 4
READ = f"""
import os, pathlib
from earthself.data.items import METADATA
from earthself.data.sources import Sources
url, folder = os.environ["PRODUCT"], pathlib.Path(os.environ["EARTHSELF_STEP_OUTPUT"])
properties = {{"earthself:provider": "hostile", "earthself:collection": "S2_MSI_L2A", "earthself:access": "login"}}
item = {{"type": "Feature", "id": "P", "properties": properties, "assets": {{METADATA: {{"href": url}}}}}}
with Sources() as sources:
    for _ in range(5):
        print("read", len(sources.metadata(item)))
(folder / "one").mkdir()
(folder / "one/one.json").write_text({ITEM!r})
(folder / "catalog.json").write_text({CATALOG!r})
"""


@pytest.fixture
def template():
    """On the node's network, where the tests' servers are."""
    return {"spec": {"hostNetwork": True}}


@pytest.fixture
def broker(tmp_path):
    with Process(tmp_path / "broker") as process:
        yield process


@pytest.fixture
def named(monkeypatch):
    """A connection for the broker's token, and what a cloud says of the broker."""
    monkeypatch.setenv("AIRFLOW_CONN_EARTHSELF_BROKER", json.dumps({"conn_type": "http", "password": TOKEN}))
    return lambda address: {"address": address, "connection": "earthself_broker"}


@pytest.mark.timeout(600)
def test_pods_share_one_session(kube, task, images, template, broker, named, monkeypatch):  # noqa: PLR0917
    account = Account(rate=30.0)
    with Provider() as provider:
        account.serve(provider)
        provider.files["/MTD.xml"] = File(b"<document/>")
        extra = {
            "providers": "hostile",
            "provider_config": provider.settings("hostile", account.settings(provider)),
            "credentials": CREDENTIALS,
            "limits": {"hostile": {"rate": 30}},
            "team": "forest",
        }
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
        connection(monkeypatch, lambda extra: extra["earthself"].update(broker=named(broker.address)))
        operator = {
            "image": images("processing").reference,
            "command": ["python", "-c", READ],
            "eodag_conn_id": "eodag_default",
            "env": {"PRODUCT": f"{provider.url}/MTD.xml"},
            "pod_template": template,
            "resources": StepResources(0.1, "1Gi"),
        }
        with capture_logs() as logs, ThreadPoolExecutor(PODS) as pool:
            made = list(pool.map(lambda index: run(step(**operator), task(index)), range(PODS)))
        said = [entry["event"] for entry in logs]
        assert [reference["count"] for reference in made] == [1] * PODS
        assert said.count("read 11") == 5 * PODS
        assert (account.logins, account.refreshes, account.refused) == (1, 0, [])
        assert len(account.served) == 5 * PODS
        log = broker.end()
    assert not any(secret in " ".join(said) + log for secret in (TOKEN, "secret-word", "t1.0"))
    kube.wait(lambda: not kube.left())


def test_a_cloud_names_its_broker_and_where_the_token_is(airflow_home, workspace, named, monkeypatch):
    def said(broker):
        extra = {"earthself": {"broker": broker}}
        monkeypatch.setenv("AIRFLOW_CONN_NORTH", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        return cloud("north")

    sources = step(eodag_conn_id="eodag_default")._sources_text
    with capture_logs() as logs:
        told = json.loads(sources(said(named("https://broker.earthself:8083") | {"authorities": "PEM"})))
        assert (told["broker"], told["broker_token"], told["broker_ca"]) == ("https://broker.earthself:8083", TOKEN, "PEM")
        assert logs == []
        assert json.loads(sources(said({})))["broker"] == ""
        assert "opens a session of its own" in logs[0]["event"]
        monkeypatch.setenv("EARTHSELF_BROKER", "http://broker:8083")
        assert json.loads(sources(said({})))["broker"] == "http://broker:8083", "what the workers use"
    for broker in ("https://broker", {"connection": "x"}, {"address": "broker:8083"}, {"address": "http://broker", "token": "x"}):
        with pytest.raises(BadRequest, match=r"the broker of connection north is not \{address, connection, authorities\}"):
            said(broker)
    with pytest.raises(BadRequest, match="names connection 'nobody' for its token, which is not there"):
        said({"address": "http://broker", "connection": "nobody"}).shared()
