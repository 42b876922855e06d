"""A server that is told to stop is gone within its grace, whatever its calls are at; what they did not end is nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from earthself.signature.client import SignatureClient
from earthself.signature.errors import SignatureError
from earthself.signature.testing import feature, layers, running_server

SLOW = """
import asyncio, sys, time
from pathlib import Path
from earthself.signature import server
from earthself.signature.store import Store
create = Store.create
def slow(*arguments, **options):
    print("working", flush=True)
    time.sleep(float(sys.argv[2]))
    return create(*arguments, **options)
Store.create = slow
settings = server.ServerSettings(Path(sys.argv[1]), port=0, grace=float(sys.argv[3]))
asyncio.run(server.serve(settings, lambda port: print(port, flush=True)))
"""
RASTERS = layers(np.full((50, 60), 311, "uint16"))


def stopped_at_work(home, seconds, grace):
    """Stop a server during a create of so many seconds; gives the call's outcome, the exit code and the seconds that stopping took."""
    command = [sys.executable, "-c", SLOW, str(home), str(seconds), str(grace)]
    outcome = []

    def create(port):
        with SignatureClient(f"127.0.0.1:{port}", timeout=60) as client:
            client._rpc._sleep = lambda _seconds: None
            try:
                outcome.append(client.create(feature("P"), RASTERS))
            except SignatureError as error:
                outcome.append(type(error))

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        caller = threading.Thread(target=create, args=[process.stdout.readline().strip()])
        caller.start()
        assert process.stdout.readline() == "working\n"
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(30)
        finally:
            process.kill()
        took = time.monotonic() - start
        caller.join(30)
    return outcome, code, took


def test_a_call_that_does_not_end_holds_nobody(tmp_path):
    outcome, code, took = stopped_at_work(tmp_path / "home", seconds=120, grace=2)
    assert code == 0
    assert took < 6  # 2 s, and a busy machine
    assert outcome != ["created"]
    with running_server(tmp_path / "home") as again, SignatureClient(again.target, timeout=20) as client:
        assert list(client.find()) == []
        assert client.create(feature("P"), RASTERS) == "created"


def test_a_call_that_ends_within_the_grace_is_answered(tmp_path):
    outcome, code, took = stopped_at_work(tmp_path / "home", seconds=1, grace=60)
    assert (outcome, code) == (["created"], 0)
    assert took < 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(tmp_path, number):
    with running_server(tmp_path / "home") as server:
        start = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert time.monotonic() - start < 5
