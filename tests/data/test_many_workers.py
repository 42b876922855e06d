"""A machine full of workers at one account: one session, no request too many, nobody starved, no half file under its name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from account import CREDENTIALS, Account
from earthself.data.broker import Limits, LocalBroker
from earthself.data.query import SourceConfig
from provider import Cut, File, Provider, raster_bytes
from served import TOKEN, Process

SCENE = raster_bytes(np.random.default_rng(3).integers(1, 4000, (300, 300)).astype(np.uint16))
RATE = 30.0


class Crowd:
    """Worker processes that have not begun yet."""

    def __init__(self, process: subprocess.Popen[str], pids: list[int]) -> None:
        self.process, self.pids = process, pids

    def run(self) -> list[str]:
        """Let them begin, and give what failed."""
        out, _ = self.process.communicate("go\n", timeout=150)
        return json.loads(out.splitlines()[-1])["failed"]


@pytest.fixture(params=["folder", "service"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the workers ask: in the folder, or at the service of that folder."""
    if request.param == "folder":
        yield str(tmp_path / "broker")
        return
    with Process(tmp_path / "broker") as service:
        yield service.address


@contextmanager
def crowd(provider: Provider, account: Account, folder: Path, broker: str, workers: list[dict[str, Any]]) -> Iterator[Crowd]:
    config = SourceConfig(
        ("hostile",),
        provider_config=provider.settings("hostile", account.settings(provider)),
        credentials=CREDENTIALS,
        limits={"hostile": Limits(rate=RATE)},
        broker=broker,
        broker_token=TOKEN,
        timeout=20,
    )
    settings, plan = folder / "sources.json", folder / "plan.json"
    settings.write_text(config.to_json())
    plan.write_text(json.dumps({"settings": str(settings), "out": str(folder / "out"), "workers": workers}))
    command = [sys.executable, str(Path(__file__).with_name("workers.py")), str(plan)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield Crowd(process, json.loads(process.stdout.readline())["pids"])
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


class Watch(threading.Thread):
    """Looks all the time whether a file has its name before it is whole."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.over, self.half, self.seen = folder, threading.Event(), [], 0

    def run(self) -> None:
        while not self.over.wait(0.005):
            for path in self.folder.glob("*/*.tif"):
                self.seen += 1
                if path.stat().st_size != len(SCENE):
                    self.half.append(path.name)


def files(provider: Provider, team: str, count: int, *, cut: bool = False) -> list[str]:
    """Files to download; every third is cut the first time where `cut` says so."""
    urls = []
    for number in range(count):
        path = f"/{team}-{number}.tif"
        provider.files[path] = File(SCENE, faults=[Cut(20_000)] if cut and number % 3 == 0 else [])
        urls.append(provider.url + path)
    return urls


@pytest.mark.timeout(240)
def test_fifty_workers_of_two_teams_are_one_client(provider: Provider, tmp_path: Path, broker: str) -> None:
    account = Account(rate=RATE)
    account.serve(provider)
    many, few = files(provider, "many", 121, cut=True), files(provider, "few", 30)
    workers = [{"team": "many", "urls": many[3 * n : 3 * n + 4]} for n in range(40)]
    workers += [{"team": "few", "urls": few[3 * n : 3 * n + 3]} for n in range(10)]
    watch = Watch(tmp_path / "out")
    with crowd(provider, account, tmp_path, broker, workers) as started:
        watch.start()
        failed = started.run()
    watch.over.set()
    watch.join()

    assert failed == []
    assert (account.logins, account.refreshes) == (1, 0)
    assert account.refused == []
    assert watch.seen
    assert watch.half == []
    got = {path.parent.name: path.read_bytes() for path in (tmp_path / "out").glob("*/*.tif")}
    assert got == {url.rsplit("/", 1)[-1].removesuffix(".tif"): SCENE for url in (*many, *few)}
    (status,) = LocalBroker(tmp_path / "broker").status()
    assert (status.logins, status.breaker, status.waiting) == (1, "closed", 0)
    assert sum(status.bytes.values()) >= len(SCENE) * len(got)
    assert set(status.bytes) == {"many", "few"}
    shown = subprocess.run(
        [sys.executable, "-m", "earthself.data.broker", "status", "--folder", str(tmp_path / "broker")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "breaker closed" in shown
    for secret in ("t1.0", "r1.0", "secret-word", "me@example.org"):
        assert secret not in shown
        assert not any(secret in path.name for path in (tmp_path / "broker").iterdir())


@pytest.mark.timeout(240)
def test_workers_that_are_killed_hold_up_nobody(provider: Provider, tmp_path: Path, broker: str) -> None:
    account = Account(rate=RATE)
    account.serve(provider)
    urls = files(provider, "all", 120, cut=True)
    workers = [{"team": "all", "urls": urls[4 * n : 4 * n + 4]} for n in range(30)]
    with crowd(provider, account, tmp_path, broker, workers) as started:
        provider.guard = lambda path, headers: kill(started.pids) or account.guard(path, headers)

        def kill(pids: list[int]) -> None:
            for pid in pids[::6]:
                os.kill(pid, signal.SIGKILL)
            pids.clear()

        failed = started.run()
    assert failed == []
    assert account.logins == 1
    survivors = [worker for number, worker in enumerate(workers) if number % 6]
    wanted = {url.rsplit("/", 1)[-1].removesuffix(".tif") for worker in survivors for url in worker["urls"]}
    got = {path.parent.name: path.read_bytes() for path in (tmp_path / "out").glob("*/*.tif")}
    assert wanted <= set(got)
    assert set(got.values()) == {SCENE}
