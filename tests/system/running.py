"""What the tests of the real stack share."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from earthself.client import Client, connect
from earthself.local import Stack, leftovers
from earthself.local.home import Running

READY_WITHIN = 240
"""Seconds; twenty on a quiet machine."""

DAY = {"start": "2017-06-13", "end": "2017-06-14"}
"""The only day of the sample."""

TRIVIAL = """
from airflow.sdk import dag, task

@dag(dag_id="trivial", schedule=None)
def trivial():
    @task
    def answer():
        return 42
    answer()

trivial()
"""


@dataclass
class Started:
    """The session's stack."""

    process: subprocess.Popen[str]
    stack: Stack
    running: Running
    output: Path

    def client(self, user: str = "creator") -> Client:
        return connect(self.running.url, user, self.stack.home.passwords()[user])

    def leftovers(self) -> list[str]:
        return [" ".join(process.cmdline()) for process in leftovers.find(self.running)]


def environment(home: Path, **more: str) -> dict[str, str]:
    ports = {"EARTHSELF_PORT": "0", "EARTHSELF_SIGNATURE_PORT": "0", "EARTHSELF_SAMPLE_PORT": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EARTHSELF_")}
    return {**kept, **ports, "EARTHSELF_HOME": str(home), **more}


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that other processes do; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)
