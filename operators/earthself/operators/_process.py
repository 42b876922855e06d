"""A step as a supervised process: one session, its lines handed on once, its memory watched, all of it ended together.

What a container's runtime would enforce is enforced here by watching: memory is the sum over the session's processes, and
a session that grows past its limit is killed like a container would be.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WATCH_SECONDS = 0.2
_LINE_LIMIT = 16_384
_LAUNCHER_SECONDS = 5.0
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_LAUNCHER = str(Path(__file__).with_name("_launch.py"))


@dataclass(frozen=True)
class Outcome:
    """How a process ended and what it used."""

    exit_code: int
    """As a shell gives it: 128 + n when signal n ended it; 137 when it was killed for memory."""
    seconds: float
    """Wall-clock time."""
    cpu_seconds: float
    """User and system time of all processes of the step."""
    peak_memory: int
    """Highest sum over the step's processes that was seen, or the most that one of them had; bytes."""
    memory_exceeded: bool
    """Whether the session was killed because it grew past its limit."""
    stopped: bool
    """Whether `stop` ended it."""
    peak_at_least: bool = False
    """Whether all that is known of the peak is that it was not less."""


class StepProcess:
    """One command in a session of its own."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, memory: int | None = None) -> None:
        self._command = list(command)
        self._env = dict(env)
        self._cwd = cwd
        self._limit = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._exceeded = False
        self._peak = 0
        self._used: resource.struct_rusage | None = None

    def run(self, on_line: Callable[[str], None]) -> Outcome:
        """Start the command, hand every line of its output to `on_line` once, and wait; leaves no process of the session behind."""
        started = time.monotonic()
        told, tells = os.pipe()
        with os.fdopen(told, "rb") as account:
            try:
                self._process = self._launch(tells)
            finally:
                os.close(tells)
            try:
                if self._stopped:  # while it was being started
                    self._process.kill()
                self._follow(self._process, on_line)
                self._wait(self._process)
            finally:
                self._end(self._process)
            highest = int(account.read() or 0) * _MAXRSS_UNIT
        code = self._process.returncode
        code = 137 if self._exceeded else code if code >= 0 else 128 - code
        used = self._used
        cpu = used.ru_utime + used.ru_stime if used else 0.0
        return Outcome(code, time.monotonic() - started, cpu, max(self._peak, highest), self._exceeded, self._stopped)

    def _launch(self, account: int) -> subprocess.Popen[bytes]:
        """Start the launcher, which says through `account` how much memory the step took.

        Its own figure would not do: a process begins with the peak of the one that it was forked from.
        """
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), str(account), *self._command],
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[account],
            start_new_session=True,
        )

    def stop(self, grace: float) -> None:
        """Ask all of the step to end (SIGTERM), and kill after `grace` seconds what is still there (SIGKILL)."""
        self._stopped = True
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and _alive(self._members()):
            time.sleep(0.02)
        self._signal(signal.SIGKILL)

    def _follow(self, process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        """Pass on lines until both pipes are closed, or the process has ended and what it wrote is read."""
        assert process.stdout is not None  # noqa: S101 - Popen was given PIPE
        assert process.stderr is not None  # noqa: S101
        pipes = {pipe.fileno(): _Lines() for pipe in (process.stdout, process.stderr)}
        with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
            for pipe in (process.stdout, process.stderr):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            next_watch = time.monotonic() + _WATCH_SECONDS
            while selector.get_map():
                ready = selector.select(_WATCH_SECONDS)
                for key, _ in ready:
                    if not _pump(key.fd, pipes[key.fd], on_line):
                        selector.unregister(key.fileobj)
                if time.monotonic() >= next_watch:
                    self._watch()
                    next_watch = time.monotonic() + _WATCH_SECONDS
                if not ready and self._wait(process, os.WNOHANG):
                    break
        for lines in pipes.values():
            for line in lines.rest():
                on_line(line)

    def _watch(self) -> None:
        members = self._members()
        used = sum(_resident(pid) for pid in members)
        if self._limit is not None and used > self._limit:
            used = sum(_proportional(pid) for pid in members)  # shared pages once: only worth its price near the limit
            if used > self._limit:
                self._exceeded = True
                self._signal(signal.SIGKILL)
        self._peak = max(self._peak, used)

    def _members(self) -> list[int]:
        """List the step's processes: those of the session but for its leader, the launcher, which is not the step's.

        What `set -m` puts in another group is among them, what calls setsid itself is not; the launcher finds and ends that.
        """
        session = self._process.pid if self._process else -1
        return [pid for pid in _pids() if pid != session and _session(pid) == session]

    def _wait(self, process: subprocess.Popen[bytes], options: int = 0) -> bool:
        """Wait for the launcher, which waits for the step: so this says what both used. True when it has ended."""
        if process.returncode is None:
            pid, status, used = os.wait4(process.pid, options)
            if pid:
                process.returncode, self._used = os.waitstatus_to_exitcode(status), used
        return process.returncode is not None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Leave nothing running, whatever happened; a launcher that ended by itself has seen to that."""
        if process.returncode is not None and process.returncode >= 0:
            return
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + _LAUNCHER_SECONDS
        while not self._wait(process, os.WNOHANG):
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._members():
            _send(pid, number)


class _Lines:
    """Bytes in, whole lines out; a carriage return ends a line too (progress bars), and so does the limit."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> Iterator[str]:
        *whole, self._kept = (self._kept + data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).split(b"\n")
        if len(self._kept) > _LINE_LIMIT:
            whole.append(self._kept)
            self._kept = b""
        yield from (line.decode(errors="replace") for line in whole if line.strip())

    def rest(self) -> Iterator[str]:
        kept, self._kept = self._kept, b""
        if kept.strip():
            yield kept.decode(errors="replace")


def _pump(fd: int, lines: _Lines, on_line: Callable[[str], None]) -> bool:
    """Read what is there; False at the end of the pipe."""
    while True:
        try:
            data = os.read(fd, 65_536)
        except BlockingIOError:
            return True
        if not data:
            return False
        for line in lines.feed(data):
            on_line(line)


def _pids() -> list[int]:
    import psutil

    found: list[int] = psutil.pids()
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _alive(pids: list[int]) -> bool:
    import psutil

    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _resident(pid: int) -> int:
    return _memory(pid, lambda process: process.memory_info().rss)


def _proportional(pid: int) -> int:
    def pss(process: Any) -> int:  # noqa: ANN401 - psutil has no types
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.uss))

    return _memory(pid, pss)


def _memory(pid: int, ask: Callable[[Any], int]) -> int:
    import psutil

    try:
        return int(ask(psutil.Process(pid)))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
