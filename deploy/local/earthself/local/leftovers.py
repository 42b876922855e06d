"""Finds and ends processes of a stack that outlived their supervisor, by the mark in their environment or by their session."""

from __future__ import annotations

import contextlib
import os

import psutil
from earthself.local.home import Running
from earthself.local.surroundings import MARK


def created(pid: int) -> float:
    """Return when a process was created, in seconds since 1970; 0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def find(running: Running) -> list[psutil.Process]:
    """Return this user's processes that belong to the stack `running`, the supervisor included."""
    found = []
    session = running.supervisor_pid if _same(running) else None
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(process, running.mark, session):
                found.append(process)
    return found


def supervised(running: Running) -> bool:
    """Tell whether the supervisor still runs: it may have been killed and its programs not."""
    with contextlib.suppress(psutil.Error):
        return _same(running) and psutil.Process(running.supervisor_pid).status() != psutil.STATUS_ZOMBIE
    return False


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


def _belongs(process: psutil.Process, mark: str, session: int | None) -> bool:
    return process.environ().get(MARK) == mark or os.getsid(process.pid) == session


def _same(running: Running) -> bool:
    """Tell whether the supervisor's id still is that of the process that was started: after a reboot it may be somebody else's."""
    return running.started > 0 and abs(created(running.supervisor_pid) - running.started) < 1
