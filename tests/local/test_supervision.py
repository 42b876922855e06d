"""The supervisor for real, with small programs: it restarts what dies, ends what is left, and says what cannot start."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from earthself.local import __main__ as command
from earthself.local import leftovers, supervision
from earthself.local import stack as stack_module
from earthself.local.airflow import COMPONENTS
from earthself.local.errors import LocalError, NotUp
from earthself.local.home import Home, Running
from earthself.local.settings import Settings
from earthself.local.stack import Stack, Status
from earthself.local.supervision import Control, Program
from earthself.local.surroundings import MARK

SLEEP = "time.sleep(600)"
FAMILY = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; {SLEEP}']); {SLEEP}"
NURSE = FAMILY.replace("'])", "'], process_group=0)")
HERMIT = FAMILY.replace("'])", "'], start_new_session=True)")


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A supervisor with one program that has a child, and one that left the session."""
    home = Home(tmp_path / "a home with spaces, 100%")
    home.prepare()
    programs = [
        Program("family", (sys.executable, "-c", FAMILY)),
        Program("hermit", (sys.executable, "-c", HERMIT)),
        Program("nurse", (sys.executable, "-c", NURSE)),
        Program("later", (sys.executable, "-c", "import time; time.sleep(600)", "100% of it"), at_once=False),
    ]
    process, socket = supervision.start(home, programs, {**os.environ, MARK: str(tmp_path)})
    running = Running("", "", "", "", process.pid, str(socket), str(tmp_path), leftovers.created(process.pid))
    until(lambda: states(running).get("family") == "RUNNING", "family runs")
    yield running
    leftovers.end(running, grace=2)
    process.wait(10)
    supervision.clear(socket)
    assert not socket.parent.exists()


def states(running: Running) -> dict[str, str]:
    return {program.name: program.state for program in Control(Path(running.socket)).programs()}


def pid(running: Running, name: str) -> int:
    return next(program.pid for program in Control(Path(running.socket)).programs() if program.name == name)


def test_what_is_killed_is_restarted_and_its_children_do_not_linger(running: Running) -> None:
    parent = psutil.Process(pid(running, "family"))
    until(lambda: bool(parent.children()), "the child is there")
    (child,) = parent.children()
    parent.send_signal(signal.SIGKILL)
    until(lambda: pid(running, "family") not in {0, parent.pid}, "it is restarted")
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the orphan is ended")


def test_tasks_of_a_killed_program_are_ended_though_they_lead_groups_of_their_own(running: Running) -> None:
    parent = psutil.Process(pid(running, "nurse"))
    until(lambda: bool(parent.children()), "the child is there")
    (child,) = parent.children()
    assert os.getpgid(child.pid) == child.pid
    parent.send_signal(signal.SIGKILL)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the orphan is ended")


def test_a_program_can_wait_until_it_is_called(running: Running) -> None:
    assert states(running)["later"] == "STOPPED"
    Control(Path(running.socket)).start("later")
    until(lambda: states(running)["later"] == "RUNNING", "later runs")


def test_what_left_the_session_survives_shutdown_and_is_found_by_its_mark(running: Running) -> None:
    until(lambda: len(leftovers.find(running)) >= 8, "supervisor, reaper, and three with a child each")
    Control(Path(running.socket)).shutdown()
    until(lambda: not Path(running.socket).exists() and len(leftovers.find(running)) == 2, "only the children in other groups are left")
    assert leftovers.end(running, grace=2) == 2
    assert leftovers.find(running) == []
    with pytest.raises(NotUp, match="make up"):
        Control(Path(running.socket)).programs()


def test_a_dead_supervisor_leaves_nothing_that_down_does_not_find(running: Running) -> None:
    psutil.Process(running.supervisor_pid).send_signal(signal.SIGKILL)
    assert leftovers.end(running, grace=2) >= 3
    assert leftovers.find(running) == []


def test_a_killed_supervisor_is_told_from_a_stack_that_is_down(running: Running, tmp_path: Path) -> None:
    stack = Stack(Settings(tmp_path))
    running = dataclasses.replace(running, url="http://127.0.0.1:9", socket=str(tmp_path / "none"))
    stack.home.record(running)
    assert stack.supervised()
    psutil.Process(running.supervisor_pid).send_signal(signal.SIGKILL)
    until(lambda: not stack.supervised(), "the supervisor is gone, though its parent has not asked for its exit code")
    status = stack.status()
    assert (status.up, status.running, "`make down`" in status.trouble) == (False, running, True)
    with pytest.raises(LocalError, match=r"supervisor of the stack .* is gone .*make down"):
        stack.up()
    leftovers.end(running, grace=2)
    assert stack.status() == Status(up=False, running=None, programs=[], health={})


def test_up_that_stays_ends_with_an_error_when_its_supervisor_is_killed(running: Running, tmp_path: Path, monkeypatch, capsys) -> None:
    stack = Stack(Settings(tmp_path))
    running = dataclasses.replace(running, url="http://127.0.0.1:9", socket=str(tmp_path / "none"))
    stack.home.record(running)
    monkeypatch.setattr(stack, "up", lambda: running)
    monkeypatch.setattr(command, "_DOWN_SECONDS", 0)
    psutil.Process(running.supervisor_pid).send_signal(signal.SIGKILL)
    assert command._up(stack, argparse.Namespace(json=False, detach=False)) == 1
    assert "the supervisor was killed" in capsys.readouterr().err
    assert leftovers.find(running) == []
    assert stack.home.running() is None


def test_the_scheduler_starts_once_the_web_server_answers(tmp_path: Path, monkeypatch) -> None:
    """Else the tasks of a run that a stopped stack left behind use up their attempts before anything answers."""
    stack = Stack(Settings(tmp_path))
    stack.home.prepare()
    healthy = dict.fromkeys(COMPONENTS, "healthy")
    answers, started = [{}, {}, healthy | {"scheduler": "unhealthy"}, healthy], []
    monkeypatch.setattr(stack_module.Control, "programs", lambda _self: [])
    monkeypatch.setattr(stack_module.Control, "start", lambda _self, name: started.append((name, len(answers))))
    monkeypatch.setattr(stack_module.Airflow, "health", lambda _self: answers.pop(0))
    monkeypatch.setattr(stack_module.Airflow, "has_workflow", lambda *_: True)
    monkeypatch.setattr(stack_module.Airflow, "warm_up", lambda _self: None)
    monkeypatch.setattr(stack_module.ports, "answers", lambda _port: True)
    monkeypatch.setattr(
        stack_module, "programs", lambda *_: [Program("scheduler", ("a",), at_once=False), Program("b", ("b",), at_once=False)]
    )
    (stack.home.airflow / "airflow.db").touch()
    (stack.home.airflow / "database-version").write_text(version("apache-airflow"))
    running = Running("http://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9", 1, "none", "mark", 0)
    settings = Settings(tmp_path, dags=(tmp_path,))
    stack.settings = settings
    stack._migrate(settings, running)
    assert started == [("b", 4)]
    stack._wait(running, time.monotonic() + 20)
    assert started == [("b", 4), ("scheduler", 1)]


def test_another_process_with_the_old_supervisors_id_is_not_touched(tmp_path: Path) -> None:
    stranger = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        stale = Running("", "", "", "", stranger.pid, "", str(tmp_path), started=leftovers.created(stranger.pid) - 3600)
        assert leftovers.find(stale) == []
        assert leftovers.end(stale) == 0
        assert stranger.is_running()
    finally:
        stranger.kill()
        stranger.wait()
