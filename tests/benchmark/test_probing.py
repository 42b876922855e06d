"""Probes by the real programs, and what is left of one that cannot measure."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from earthself.benchmark import environment
from earthself.benchmark.errors import BadSetting, ProbeFailed, TooSlow
from earthself.benchmark.probes import PROBES, probes
from earthself.benchmark.probing import Measure, Probe, Run, Setting, tool
from earthself.benchmark.samples import FAILED
from earthself.local.ports import free_ports

OF_THIS_MACHINE = [name for name in PROBES if name.startswith(("cpu_", "numpy_", "memory", "disk_"))]


def measured(setting, *names, repeats=2):
    return list(Run({"cloud": "north", "offer": "s-2"}, setting, repeats).samples(probes(names)))


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path, seconds=1, megabytes=16)


@pytest.mark.parametrize("name", OF_THIS_MACHINE)
def test_a_probe_measures_what_it_says_with_the_real_program(name, setting, tool):
    tool(*PROBES[name].needs)
    found = measured(setting, name)
    assert not [sample.labels.get("error") for sample in found if sample.metric == FAILED]
    assert [sample.metric for sample in found] == [measure.name for measure in PROBES[name].measures] * 2
    assert all(sample.value > 0 for sample in found)
    assert {sample.labels["cloud"] for sample in found} == {"north"}
    assert {"cpu_cores", "memory_bytes", "kernel"} <= set(found[0].labels)
    assert not list(setting.scratch.iterdir()), "nothing stays on the disk"


def test_the_network_to_an_iperf_is_measured_both_ways(setting, tool):
    tool("iperf3")
    (port,) = free_ports(1)
    listen = ["iperf3", "--server", "--bind", "127.0.0.1", "--port", str(port), "--forceflush"]
    server = subprocess.Popen(listen, stdout=subprocess.PIPE, text=True)
    try:
        while "listening" not in server.stdout.readline():
            pass
        found = measured(Setting(setting.scratch, seconds=2, server=f"127.0.0.1:{port}"), "network", repeats=1)
    finally:
        server.terminate()
        server.communicate(timeout=10)
    assert {sample.metric for sample in found} == {"sent", "received"}, found[-1].labels
    assert all(sample.value > 1 for sample in found)


def test_a_network_without_a_server_leaves_its_failure(setting, tool):
    tool("iperf3")
    (port,) = free_ports(1)
    (nobody,) = measured(Setting(setting.scratch, seconds=1, server=f"127.0.0.1:{port}"), "network")
    assert (nobody.metric, nobody.labels["reason"]) == (FAILED, "refused")
    assert "iperf3 -s" in nobody.labels["error"]
    (unnamed,) = measured(setting, "network")
    assert unnamed.labels["reason"] == "failed"


def a_probe(name, once, needs=()):
    return Probe(name, name, [Measure("x", "s", "lower")], once, needs=needs)


def test_whatever_fails_is_a_sample_and_the_others_go_on(setting):
    values = iter([1.0])

    def one_then_none(_):
        for value in values:
            return {"x": value}
        raise ProbeFailed("no\nmore")

    broken = [
        a_probe("missing", lambda _: {"x": 1.0}, ["no-such-program"]),
        a_probe("slow", lambda _: {"x": float(tool("sleep", "60", seconds=0.2))}),
        a_probe("wrong", lambda _: {"x": float(tool("sh", "-c", "echo no licence >&2; exit 3", seconds=5))}),
        a_probe("half", one_then_none),
        a_probe("good", lambda _: {"x": 2.0}),
    ]
    found = list(Run({}, setting, 3).samples(broken))
    failed = {sample.test: (sample.labels["reason"], sample.labels["error"]) for sample in found if sample.metric == FAILED}
    assert failed == {
        "missing": ("missing", "there is no program no-such-program; get it with: apt-get install no-such-program"),
        "slow": ("timeout", "sleep did not end within 0.2 s"),
        "wrong": ("failed", "sh ended with 3: no licence"),
        "half": ("failed", "no more"),
    }
    assert [(sample.test, sample.value) for sample in found if sample.metric == "x"] == [("half", 1.0)] + [("good", 2.0)] * 3
    assert len({sample.run_uri for sample in found}) == 1
    assert len({sample.sample_uri for sample in found}) == len(found)


def test_a_program_that_is_ended_takes_its_children_along():
    began = time.monotonic()
    with pytest.raises(TooSlow):
        tool(sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])", seconds=1)
    assert time.monotonic() - began < 20


def test_a_disk_without_room_says_how_much_is_missing(setting, tool):
    tool("fio")
    (found,) = measured(Setting(setting.scratch, seconds=1, megabytes=1 << 30), "disk_random")
    assert "MB free, less than the" in found.labels["error"]


def test_mistakes_in_what_is_asked_are_refused(setting):
    with pytest.raises(BadSetting, match="no probe 'cpu'; there are cpu_one"):
        probes(["cpu"])
    with pytest.raises(BadSetting, match="0 repeats"):
        Run({}, setting, 0)
    assert [probe.name for probe in probes(["memory", "cpu_one", "memory"])] == ["memory", "cpu_one"]


def test_limits_of_a_container_are_what_may_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    whole, total = environment.cores(), environment.memory()
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert (environment.cores(), environment.memory()) == (0.5, 1 << 20)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (environment.cores(), environment.memory()) == (whole, total)
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert environment.cores() == 0.25
