"""Ends what a dead process leaves behind.

The scheduler's workers and their tasks outlive it when it is killed: they would go on with what its successor starts again.
Each program leads a process group, so the supervisor's event "exited" is answered by ending the rest of that group, and then what
has lost its parent: a task leads a group of its own. Run as a file, so that it stays small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import psutil

_ROUNDS = 20
_PAUSE = 0.05
"""Seconds between two looks: a child shows its new parent a moment after the old one is gone."""


def main() -> None:
    """Speak supervisord's event protocol on standard input and output until it closes."""
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            return
        length = int(_fields(header)["len"])
        group = int(_fields(sys.stdin.read(length)).get("pid", "0"))
        if group > 1:
            _end(group)
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for _ in range(_ROUNDS):
        for pid in _orphans():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)


def _orphans() -> list[int]:
    """List processes of the supervisor's session whose parent is not in it; the supervisor's own programs are its children."""
    session = os.getsid(0)
    found = []
    for process in psutil.process_iter(["ppid"]):
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != session and os.getsid(process.pid) == session and _session(process.info["ppid"]) != session:
                found.append(process.pid)
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _fields(text: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in text.split() if ":" in word)


if __name__ == "__main__":
    main()
