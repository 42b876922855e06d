"""The stack itself: ports, supervision, status, and an end that leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from tests.system.running import DAY, Started, environment, until


def local(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "earthself.local", *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_listens_on_the_loopback_interface_only(started: Started) -> None:
    session = {process.pid for process in psutil.process_iter() if process.pid and belongs(process.pid, started)}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in session]
    assert len(listening) >= 3
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


def belongs(pid: int, started: Started) -> bool:
    try:
        return os.getsid(pid) == started.running.supervisor_pid
    except ProcessLookupError:
        return False


def test_it_says_where_it_is_and_that_it_does_not_isolate_tenants(started: Started) -> None:
    told = started.output.read_text()
    assert started.running.url in told
    assert "does not isolate tenants" in told
    for password in started.stack.home.passwords().values():
        assert password not in told


def test_secrets_are_private(started: Started) -> None:
    for name in ("passwords.json", "secrets.json", "stack.json"):
        assert stat.S_IMODE((started.stack.home.path / name).stat().st_mode) == 0o600, name


def test_status_tells_all_programs_for_people_and_machines(started: Started) -> None:
    environ = environment(started.stack.home.path)
    done = local("status", "--json", **environ)
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["up"] is True
    assert {program["name"] for program in told["programs"]} == {
        "api-server",
        "dag-processor",
        "earthsignature",
        "earthsignature-web",
        "sample",
        "scheduler",
        "triggerer",
    }
    assert set(told["health"].values()) == {"healthy"}
    shown = local("status", **environ).stdout
    assert started.running.url in shown
    assert started.running.data in shown


def test_a_second_stack_of_the_same_home_is_refused(started: Started) -> None:
    done = local("up", **environment(started.stack.home.path))
    assert (done.returncode, "already up" in done.stderr) == (1, True), done.stderr


def test_a_port_in_use_is_refused_with_port_and_variable(started: Started, tmp_path: Path) -> None:
    port = started.running.url.rsplit(":", 1)[1]
    done = local("up", **environment(tmp_path, EARTHSELF_PORT=port))
    assert done.returncode == 69
    assert f"port {port}" in done.stderr
    assert "EARTHSELF_PORT" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        signature = str(taken.getsockname()[1])
        for variable in ("EARTHSELF_SIGNATURE_PORT", "EARTHSELF_DATA_PORT"):
            said = local("up", **environment(tmp_path, **{variable: signature})).stderr
            assert f"port {signature}" in said
            assert variable in said


def test_a_dag_file_of_ones_own_folder_runs(started: Started) -> None:
    assert started.client().trigger("trivial", {}).wait(timeout=90, interval=0.2).status == "success"


def test_a_map_is_finished_though_the_scheduler_and_the_signature_server_are_killed_on_the_way(started: Started) -> None:
    before = {program.name: program.pid for program in started.stack.status().programs}
    run = started.client().land_cover_map(area=[12.9235, 47.752, 12.9555, 47.7845], **DAY)
    until(lambda: any(task.task == "sign" and task.state != "waiting" for task in run.tasks()), "signing has begun")
    for name in ("scheduler", "earthsignature"):
        os.kill(before[name], signal.SIGKILL)
    assert run.wait(timeout=200, interval=0.2).result["status"] == "complete"
    now = {program.name: program for program in started.stack.status().programs}
    for name in ("scheduler", "earthsignature"):
        assert now[name].state == "RUNNING"
        assert now[name].pid != before[name]
    until(lambda: started.stack.status().up, "all is well again")


def test_what_a_run_signed_and_published_is_served_as_stac_tiles_and_maps(started: Started) -> None:
    run = started.client().land_cover_map(area=[12.9235, 47.752, 12.9555, 47.7845], **DAY)
    assert run.wait(timeout=200, interval=0.2).result["status"] == "complete"
    base = started.running.data
    found = httpx.get(f"{base}/search", params={"bbox": "12.92,47.75,12.96,47.79", "filter": "eo:cloud_cover <= 60"}).json()
    assert found["features"]
    layer = next(link["href"] for link in found["features"][0]["links"] if link["rel"] == "tilejson")
    assert httpx.get(layer).json()["tiles"][0].startswith(base)
    folder = started.stack.home.workspace / "runs" / "land_cover_map" / run.run_id
    result = json.loads((folder / "item.json").read_text())["id"]
    map_page = f"{base}/results/{result}/map"
    assert f'href="{map_page}"' in (folder / "report.html").read_text()
    assert httpx.get(map_page).status_code == 200
    tile = httpx.get(f"{base}/results/{result}/land_cover/preview.png")
    assert (tile.status_code, tile.headers["content-type"]) == (200, "image/png")


def test_the_web_interface_opens(started: Started) -> None:
    assert "<html" in httpx.get(started.running.url, follow_redirects=True).text.lower()


def test_ctrl_c_stops_all_of_it_and_leaves_no_process(started: Started) -> None:
    assert len(started.leftovers()) > 6
    began = time.monotonic()
    os.kill(started.process.pid, signal.SIGINT)
    assert started.process.wait(60) == 0
    assert time.monotonic() - began < 40
    assert started.leftovers() == []
    assert started.stack.home.running() is None
    assert "stopped" in started.output.read_text()
    assert local("status", **environment(started.stack.home.path)).returncode == 69
    assert local("down", **environment(started.stack.home.path)).returncode == 0
