"""The broker's service for tests: in a thread of this process, where the clock is the test's, or in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from earthself.data.broker.server import Serving, listen, server
from earthself.data.broker.service import LEASE, BrokerService

TOKEN = "a-token-of-the-tests-0123456789"


@contextmanager
def in_thread(
    folder: Path, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] | None = None, lease: float = LEASE
) -> Iterator[str]:
    """Serve the folder; gives the address. Where a `sleep` is given, the service waits with it."""

    async def wait(seconds: float) -> None:
        if sleep is None:
            await asyncio.sleep(seconds)
        else:
            sleep(seconds)
            await asyncio.sleep(0)

    up = threading.Event()
    service = BrokerService(folder, lambda: [TOKEN.encode()], lease=lease, clock=clock, sleep=wait)
    listening = listen("127.0.0.1", 0)
    made = server(service, up.set, Serving(folder))
    thread = threading.Thread(target=lambda: asyncio.run(made.serve(sockets=[listening])), daemon=True)
    thread.start()
    try:
        assert up.wait(30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        made.should_exit = True
        thread.join(30)
        listening.close()


class Process:
    """A service as an operator starts it, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder, self.options, self.port = folder, options, port
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "earthself.data.broker", "serve", "--bind", f"127.0.0.1:{self.port}", "--folder", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, *self.options],
            env=os.environ | {"EARTHSELF_BROKER_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert "answers at" in said, self.process.communicate()[1]
        self.address = said.split()[-1]
        self.port = int(self.address.rsplit(":", 1)[1])

    def end(self, how: int = signal.SIGTERM) -> str:
        """End it; gives what it logged."""
        self.process.send_signal(how)
        return self.process.communicate(timeout=30)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
