"""The storage's probe against a real S3 server, behind a proxy that is as slow and as bad as it is told."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from earthself.benchmark.probes import probes
from earthself.benchmark.probing import Run, Setting
from earthself.benchmark.samples import FAILED

from tests.s3_server import Answer


@pytest.fixture
def measure(proxy, tmp_path, monkeypatch):
    profiles = {"near": {"endpoint": proxy.url, "addressing": "path", "credentials": "env:NEAR"}}
    (tmp_path / "storage.json").write_text(json.dumps(profiles))
    monkeypatch.setenv("EARTHSELF_STORAGE", str(tmp_path / "storage.json"))
    monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "owner")
    monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "owner-secret")

    def run(**changes) -> dict[str, float | str]:
        setting = Setting(tmp_path, **({"storage": "s3://near@maps/bench", "object_mib": 2} | changes))
        found = list(Run({}, setting, 1).samples(probes(["object_store"])))
        return {sample.metric: sample.labels["error"] if sample.metric == FAILED else sample.value for sample in found}

    return run


def test_a_storage_is_measured_and_left_as_it_was(measure, proxy):
    found = measure()
    assert set(found) == {probe.name for probe in probes(["object_store"])[0].measures}
    assert all(value > 0 for name, value in found.items() if name != "failed_requests")
    assert found["failed_requests"] == 0
    assert not proxy.server.keys("maps")


def test_delay_comes_out_as_it_was_put_in(measure, proxy):
    without = measure()

    def late(_):
        time.sleep(0.3)

    proxy.fault = late
    found = measure()
    # Never less than what was put in, and no more above it than a busy machine adds.
    assert all(300 <= found[name] <= 300 + without[name] + 250 for name in ("first_byte", "list")), (without, found)


def test_bandwidth_comes_out_as_it_was_put_in(measure, proxy):
    proxy.rate = 1e6
    found = measure()
    # One stream carries 1 MB/s, less what a request takes to begin; several carry several times as much.
    assert 0.5 <= found["read"] <= 1.05
    assert found["read_8"] > 1.5 * found["read"]


def test_failures_come_out_as_they_were_put_in(measure, proxy):
    count = itertools.count(1)

    def every_fourth(request):
        return Answer(503, "SlowDown") if request.method == "GET" and next(count) % 4 == 0 else None

    proxy.fault = every_fourth
    found = measure()
    reads = [request for request in proxy.seen if request.method == "GET"]
    assert found["failed_requests"] == pytest.approx(25 * len(reads) / len(proxy.seen), abs=8)
    assert found["small_read"] > 0
    proxy.reset()
    assert not proxy.server.keys("maps"), "removed all the same"


def test_a_storage_that_never_answers_leaves_why(measure, proxy):
    proxy.fault = lambda _: Answer(503, "SlowDown")
    assert "all requests of a kind failed: " in measure()[FAILED]
    assert "SlowDown" in measure()[FAILED]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"storage": None}, "name a prefix that may be written: --storage"),
        ({"storage": "s3://far@maps/x"}, "far"),
        ({"storage": "s3://near@nowhere/x"}, "there is no bucket 'nowhere'"),
        ({"storage": "/a/path"}, "not in an object storage"),
    ],
)
def test_what_cannot_be_measured_says_why(measure, change, says):
    assert says in measure(**change)[FAILED]


def test_keys_that_are_not_good_are_said_at_once(measure, proxy):
    proxy.fault = lambda _: Answer(403, "AccessDenied")
    assert "refuses the keys of storage profile near" in measure()[FAILED]
    assert len(proxy.seen) < 10
