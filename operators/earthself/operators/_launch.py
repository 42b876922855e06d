"""Run by the operator as a script: start the step's command, outlive it by a moment, and leave nothing of it behind.

It stays as the step's parent for two reasons. When the task's own process is killed (a crashed worker, SIGKILL after
mark-failed) the system tells it, and it ends the step. And whatever the step starts and abandons falls to it, even what left
the step's session, so that it can be ended too. It runs with `-I -S` and imports as little as it can: 12 ms, 9 MB.
"""

from __future__ import annotations

import _signal  # what the public module is without its enumerations, which take 6 ms to make
import ctypes
import os
import resource
import sys
import time

GRACE_SECONDS = 4.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NOT_FOUND, _NOT_EXECUTABLE, _ENDED = 127, 126, 143


class _Orphaned(BaseException):
    """The task's process is gone."""


def main(parent: int, account: int, command: list[str]) -> int:
    """Run `command` and return its exit code, 128 + n when signal n ended it; its highest memory goes into the pipe `account`."""
    os.set_inheritable(account, False)
    _signal.signal(_signal.SIGTERM, lambda *_: None)  # meant for the step, which has its own; this process ends after it
    _signal.signal(_signal.SIGUSR1, _orphaned)
    try:
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            libc.prctl(_PR_SET_PDEATHSIG, _signal.SIGUSR1, 0, 0, 0)
        if os.getppid() != parent:
            return _ENDED
        try:
            child = os.posix_spawnp(command[0], command, os.environ, setsigdef=[_signal.SIGTERM, _signal.SIGUSR1, _signal.SIGPIPE])
        except FileNotFoundError:
            sys.stderr.write(f"{command[0]}: not found; install it, or give its path in command=[...]\n")
            return _NOT_FOUND
        except OSError as error:
            sys.stderr.write(f"{command[0]}: cannot be executed ({error.strerror})\n")
            return _NOT_EXECUTABLE
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if _any_left():
            _end_all(0)
    except _Orphaned:
        _signal.signal(_signal.SIGUSR1, _signal.SIG_IGN)
        _end_all(GRACE_SECONDS)
        return _ENDED
    os.write(account, b"%d" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return code if code >= 0 else 128 - code


def _orphaned(_number: int, _frame: object) -> None:
    raise _Orphaned


def _end_all(grace: float) -> None:
    """Ask everything below this process to end, and kill what has not after `grace` seconds."""
    if grace:
        _send(_below(), _signal.SIGTERM)
        deadline = time.monotonic() + grace
        while _any_left() and time.monotonic() < deadline:
            time.sleep(0.02)
    deadline = time.monotonic() + GRACE_SECONDS
    while _any_left() and time.monotonic() < deadline:
        _send(_below(), _signal.SIGKILL)
        time.sleep(0.01)


def _any_left() -> bool:
    """Collect the children that ended, and say whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _below() -> list[int]:
    """List the processes below this one, zombies left out; empty where there is no /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH208, PTH112 - importing pathlib takes 10 ms
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != b"Z":
            parents[int(name)] = int(parent)
    below, new = set[int](), {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in new} - below:
        below |= new
    return sorted(below)


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    sys.stderr.flush()
    os._exit(code)  # nothing is left to tidy up
