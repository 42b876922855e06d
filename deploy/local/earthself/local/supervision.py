"""The supervisor (supervisord) that runs the stack's processes: its configuration, its start, its control socket.

supervisord restarts what dies and stops whole process groups; this module only tells it what to run.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthself.local.errors import NotReady, NotUp
from earthself.local.home import Home


@dataclass(frozen=True)
class Program:
    """One process to keep alive."""

    name: str
    command: tuple[str, ...]
    """Arguments, the first an absolute path."""
    at_once: bool = True
    """Started with the supervisor; otherwise when the stack asks for it."""
    patience: int = 10
    """Seconds from being asked to end until it is killed."""


@dataclass(frozen=True)
class ProgramState:
    """How a program stands, as the supervisor sees it."""

    name: str
    state: str
    """supervisord's word: STARTING, RUNNING, BACKOFF, STOPPED, EXITED, FATAL, …"""
    pid: int
    """0 where there is none."""
    uptime: float
    """Seconds since the last start."""
    description: str


_PREFIX = "earthself-stack-"

_HEAD = """\
[supervisord]
nodaemon=true
logfile=logs/supervisor.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=logs
identifier=earthself

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command={command}
autostart={autostart}
autorestart=true
startsecs=2
startretries=5
stopsignal=TERM
stopwaitsecs={patience}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""

_LISTENER = """
[eventlistener:reaper]
command={command}
events=PROCESS_STATE_EXITED,PROCESS_STATE_STOPPED
stdout_logfile=NONE
stderr_logfile=logs/reaper.log
autorestart=true
"""


def configuration(programs: Sequence[Program], socket: Path) -> str:
    """Return the text of supervisord.conf.

    Paths in the home are relative to it, the supervisor's working directory: `%`, its escape character, cannot be escaped in them.
    """

    def escaped(text: str) -> str:
        return text.replace("%", "%%")

    parts = [_HEAD.format(socket=escaped(str(socket)))]
    for program in programs:
        command = escaped(shlex.join(program.command))
        parts.append(_PROGRAM.format(name=program.name, command=command, autostart=str(program.at_once).lower(), patience=program.patience))
    reaper = escaped(shlex.join([sys.executable, str(Path(__file__).with_name("reaper.py"))]))
    parts.append(_LISTENER.format(command=reaper))
    return "".join(parts)


def start(home: Home, programs: Sequence[Program], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
    """Start supervisord in a session of its own (a Ctrl-C reaches only the caller) and wait for its control socket.

    Returns the process and the socket's path. It lies in a private temporary folder because such paths must be short; that folder is
    also the temporary folder of all processes, so that nothing of a killed task (such as a file with credentials) stays behind.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    socket = folder / "supervisor.sock"
    home.supervisor_config.write_text(configuration(programs, socket))
    with (home.logs / "supervisord.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(home.supervisor_config)],
            env={**environment, "TMPDIR": str(folder)},
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if socket.exists():
            return process, socket
        time.sleep(0.05)
    process.kill()
    process.wait()
    clear(socket)
    raise NotReady(f"the supervisor did not start; its last words are in {home.logs / 'supervisord.out'}")


class Control:
    """A conversation with a running supervisord over its socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def programs(self) -> list[ProgramState]:
        """Return the state of every program; raises `NotUp` when the supervisor does not answer."""
        with self._proxy() as proxy:
            answer: Any = proxy.supervisor.getAllProcessInfo()
        return [
            ProgramState(
                name=info["name"],
                state=info["statename"],
                pid=int(info["pid"]),
                uptime=float(max(0, info["now"] - info["start"])) if info["pid"] else 0.0,
                description=info["description"],
            )
            for info in answer
            if info["name"] != "reaper"
        ]

    def start(self, name: str) -> None:
        """Start a program without waiting until it is up."""
        with self._proxy() as proxy:
            proxy.supervisor.startProcess(name, False)

    def shutdown(self) -> None:
        """Stop all programs at the same time, then the supervisor; returns at once."""
        with self._proxy() as proxy:
            proxy.supervisor.stopAllProcesses(False)
            proxy.supervisor.shutdown()

    @contextlib.contextmanager
    def _proxy(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                yield proxy
        except (OSError, xmlrpc.client.ProtocolError) as error:
            raise NotUp(f"the supervisor does not answer on {self._socket} ({error}); start the stack with `make up`") from error


def clear(socket: Path) -> None:
    """Remove the private temporary folder that `start` made, with what killed tasks left in it."""
    if socket.parent.name.startswith(_PREFIX):
        shutil.rmtree(socket.parent, ignore_errors=True)
