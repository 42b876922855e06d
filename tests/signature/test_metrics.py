"""What the servers tell Prometheus: real servers are asked for products, and the numbers move."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import grpc
import httpx
import numpy as np
import psutil
import pytest
from earthself.signature.client import NotFound, SignatureClient
from earthself.signature.testing import feature, layers, running_server, running_web
from processes import wait_for
from prometheus_client.parser import text_string_to_metric_families

RASTERS = layers(np.full((50, 60), 311, "uint16"))
OWN = "earthself.signature.v1.SignatureService"


def read(address):
    """{(sample, its labels): value}."""
    answer = httpx.get(f"http://{address}/metrics", timeout=10).raise_for_status()
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(found, name, **labels):
    return found.get((name, frozenset(labels.items())), 0)


@pytest.fixture
def address():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{made.getsockname()[1]}"


def test_calls_are_counted_by_method_and_status(tmp_path, address):
    with running_server(tmp_path / "home", "--metrics", address) as server, SignatureClient(server.target) as client:
        empty = read(address)
        assert value(empty, "earthsignature_products") == 0
        assert value(empty, "earthsignature_store_readable") == 1
        assert not any(name == "earthsignature_newest_acquisition_timestamp_seconds" for name, _ in empty), "there is none"
        client.create(feature("one", creation_date="2017-06-13T10:10:31Z"), RASTERS)
        client.get("one")
        with pytest.raises(NotFound):
            client.get("another")
        wait_for(
            lambda: value(read(address), "earthsignature_request_seconds_count", service=OWN, method="Get") == 3
        )  # just after it ended
        found = read(address)
        assert value(found, "earthsignature_requests_total", service=OWN, method="Create", status="OK") == 1
        assert value(found, "earthsignature_requests_total", service=OWN, method="Get", status="OK") == 2, "one for each layer"
        assert value(found, "earthsignature_requests_total", service=OWN, method="Get", status="NOT_FOUND") == 1
        assert value(found, "earthsignature_request_seconds_sum", service=OWN, method="Create") > 0
        assert value(found, "earthsignature_running_requests") == 0
        assert value(found, "earthsignature_products") == 1
        assert value(found, "earthsignature_newest_acquisition_timestamp_seconds") == 1497348631
        assert value(found, "earthsignature_store_free_bytes") > 0
        assert value(found, "process_resident_memory_bytes") > 0


def test_a_call_that_its_caller_gives_up_is_counted_so(tmp_path, address):
    go_on = threading.Event()

    def slowly():
        go_on.wait(60)
        yield b""

    with running_server(tmp_path / "home", "--metrics", address) as server, grpc.insecure_channel(server.target) as channel:
        call = channel.stream_unary(f"/{OWN}/Create").future(slowly(), wait_for_ready=True)
        wait_for(lambda: value(read(address), "earthsignature_running_requests") == 1)
        call.cancel()
        go_on.set()
        wait_for(lambda: value(read(address), "earthsignature_requests_total", service=OWN, method="Create", status="CANCELLED") == 1)
        assert value(read(address), "earthsignature_running_requests") == 0


def test_requests_of_the_web_server_are_counted_by_route(tmp_path, address):
    with running_server(tmp_path / "home") as server, SignatureClient(server.target) as client:
        client.create(feature("one"), RASTERS)
        with running_web(tmp_path / "home", "--metrics", address) as url, httpx.Client(base_url=url, timeout=30) as http:
            for path in ("/collections", "/products/one/map", "/products/other/map", "/nothing/here", "/static/none.js"):
                http.get(path)
            http.post("/search", content=b"no json")
            http.head("/collections")
            assert http.get("/metrics").status_code == 404, "the public port does not tell"
            found = read(address)
    counted = {
        (dict(labels)["route"], dict(labels)["status"]): number
        for (name, labels), number in found.items()
        if name == "earthsignature_web_requests_total"
    }
    assert counted == {
        ("/collections", "200"): 2,
        ("/products/{name}/map", "200"): 1,
        ("/products/{name}/map", "404"): 1,
        ("/search", "400"): 1,
        ("/static/{path}", "404"): 1,
        ("none", "404"): 2,
    }
    assert value(found, "earthsignature_web_request_seconds_count", route="/products/{name}/map") == 2


def test_an_address_that_cannot_be_served_is_said(tmp_path, address):
    command = [sys.executable, "-m", "earthself.signature", "serve", "--port", "0", "--home", str(tmp_path / "home"), "--metrics"]
    ended = subprocess.run([*command, "9464"], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, "write one such as 127.0.0.1:9464" in ended.stderr) == (65, True)
    with running_server(tmp_path / "other", "--metrics", address):
        ended = subprocess.run([*command, address], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, "give another --metrics" in ended.stderr) == (1, True)


def test_metrics_are_not_served_unless_asked_for(tmp_path):
    with running_server(tmp_path / "home") as server:
        listening = {each.laddr.port for each in psutil.Process(server.process.pid).net_connections() if each.status == "LISTEN"}
        assert listening == {int(server.target.rpartition(":")[2])}


def test_the_log_of_a_server_is_json_where_that_is_wanted(tmp_path, address):
    wanted = {**os.environ, "EARTHSELF_LOG_FORMAT": "json"}
    home = tmp_path / "home"
    with (
        running_server(home, "--metrics", address, environment=wanted) as server,
        running_web(home, "--metrics", "127.0.0.1:0", environment=wanted),
    ):
        logs = (server.log, tmp_path / "home-web.log")
    records = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    said = [record["event"] for record in records if record["logger"] == "earthself.signature.metrics" and record["level"] == "info"]
    assert f"metrics are at http://{address}/metrics" in said
    assert len(said) == 2
