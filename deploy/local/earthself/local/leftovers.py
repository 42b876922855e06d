"""Finds and ends processes of a stack that outlived their supervisor, by the mark in their environment or by their session."""

from __future__ import annotations

import contextlib
import os

import psutil
from earthself.local.home import Running
from earthself.local.surroundings import MARK


def find(running: Running) -> list[psutil.Process]:
    """Return this user's processes that belong to the stack `running`, the supervisor included."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(process, running):
                found.append(process)
    return found


def end(running: Running, grace: float = 5.0) -> int:
    """Terminate what `find` returns, kill what has not gone after `grace` seconds; return how many there were."""
    ended = 0
    while processes := find(running):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate() if ended == 0 else process.kill()
        _, alive = psutil.wait_procs(processes, timeout=grace)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=grace)
        ended += len(processes)
    return ended


def _belongs(process: psutil.Process, running: Running) -> bool:
    if process.environ().get(MARK) == running.mark:
        return True
    return running.supervisor_pid > 0 and os.getsid(process.pid) == running.supervisor_pid and process.create_time() >= running.started
