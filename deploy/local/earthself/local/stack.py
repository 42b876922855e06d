"""Brings the stack up, says how it stands, and takes it down so that nothing stays.

The slow parts run side by side: Airflow's web server starts while its database is made, the others follow as soon as it is there.
"""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earthself.local import leftovers, ports, supervision
from earthself.local.airflow import COMPONENTS, Airflow
from earthself.local.errors import LocalError, NotReady, NotUp
from earthself.local.home import Home, Running
from earthself.local.settings import HOST, SAMPLE_PORT, Settings
from earthself.local.supervision import Control, Program, ProgramState
from earthself.local.surroundings import surroundings

Say = Callable[[str], None]
"""Takes one line of progress."""

WORKFLOW = "land_cover_map"

_SCHEDULER = "scheduler"
"""Started last: a task that begins before the web server answers uses up an attempt."""

_WEB = "earthsignature-web"
"""EarthSignature over HTTP, a process of its own beside the one that writes."""

_LIVES = 3
"""How often a program may start before it counts as one that does not stay up."""


@dataclasses.dataclass(frozen=True)
class Status:
    """How the stack stands now."""

    up: bool
    """Everything runs and Airflow calls itself healthy."""
    running: Running | None
    """Where it is, None when it is down."""
    programs: list[ProgramState]
    """The supervisor's view."""
    health: dict[str, str]
    """Airflow's components: "healthy", "unhealthy" or "unknown"."""
    trouble: str = ""
    """What is wrong beyond the programs and the components, and what to do about it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types for `--json`."""
        return {**dataclasses.asdict(self), "programs": [dataclasses.asdict(program) for program in self.programs]}


class Stack:
    """The stack of one EARTHSELF_HOME."""

    def __init__(self, settings: Settings, say: Say = lambda _line: None) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self._say = say

    def up(self, timeout: float = 300) -> Running:
        """Start everything and wait until a workflow can be triggered; `timeout` in seconds.

        Raises `PortTaken`, `BadSetting`, or `NotReady` with the log to read; what was started is stopped again then.
        """
        began = time.monotonic()
        self.home.prepare()
        with self._lock():
            if (running := self.home.running()) and leftovers.find(running):
                if not self.supervised():
                    raise LocalError(_abandoned(running))
                raise LocalError(
                    f"a stack of {self.home.path} is already up at {running.url}; `make status` shows it, `make down` stops it"
                )
            if running:
                supervision.clear(Path(running.socket))  # it ended without `down`
            settings = self._with_ports()
            self.home.passwords()
            running = self._start(settings)
        try:
            self._migrate(settings, running)
            running = self._wait(running, began + timeout)
        except BaseException:
            self.down()
            raise
        self._say(f"up in {time.monotonic() - began:.0f} s")
        return running

    def down(self, patience: float = 30) -> int:
        """Stop everything of this home; return how many processes had to be ended one by one. Nothing up is no error."""
        running = self.home.running()
        if running is None:
            return 0
        try:
            Control(Path(running.socket)).shutdown()
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and Path(running.socket).exists():
                time.sleep(0.1)
        except NotUp:
            pass
        ended = leftovers.end(running)
        supervision.clear(Path(running.socket))
        self.home.forget()
        return ended

    def status(self) -> Status:
        """Ask the supervisor and Airflow how they are."""
        down = Status(up=False, running=None, programs=[], health={})
        running = self.home.running()
        if running is None:
            return down
        try:
            programs = Control(Path(running.socket)).programs()
        except NotUp:
            if not leftovers.find(running):
                return down
            return Status(up=False, running=running, programs=[], health=Airflow(running.url).health(), trouble=_abandoned(running))
        health = Airflow(running.url).health()
        up = all(program.state == "RUNNING" for program in programs) and all(health.get(name) == "healthy" for name in COMPONENTS)
        return Status(up=up, running=running, programs=programs, health=health)

    def supervised(self) -> bool:
        """Tell whether the supervisor of this home's stack lives; without it nothing that dies is started again."""
        running = self.home.running()
        return running is not None and leftovers.supervised(running)

    def _with_ports(self) -> Settings:
        """Replace each port 0 by a free one and refuse the ones in use."""
        free = iter(ports.free_ports(4))
        wanted, last = self.settings.sample_port, self.home.sample_port()
        if wanted is None:
            wanted = last or SAMPLE_PORT
        elif wanted == 0:
            wanted = last if last and ports.is_free(last) else next(free)
        settings = dataclasses.replace(
            self.settings,
            port=self.settings.port or next(free),
            signature_port=self.settings.signature_port or next(free),
            data_port=self.settings.data_port or next(free),
            sample_port=wanted,
        )
        chosen = {
            "EARTHSELF_PORT": (settings.port, "web interface"),
            "EARTHSELF_SIGNATURE_PORT": (settings.signature_port, "EarthSignature server"),
            "EARTHSELF_DATA_PORT": (settings.data_port, "STAC API with tiles and maps"),
            "EARTHSELF_SAMPLE_PORT": (wanted, "sample provider"),
        }
        ports.require_different({variable: port for variable, (port, _) in chosen.items()})
        for variable, (port, purpose) in chosen.items():
            ports.require_free(port, variable, purpose)
        self.home.remember_sample_port(wanted)
        return settings

    def _start(self, settings: Settings) -> Running:
        mark = uuid.uuid4().hex
        self._environment = surroundings(settings, self.home, mark)
        self._say(f"starting in {self.home.path}; logs in {self.home.logs}")
        process, socket = supervision.start(self.home, programs(settings, self.home), self._environment)
        running = Running(
            url=f"http://{HOST}:{settings.port}",
            signature=f"{HOST}:{settings.signature_port}",
            data=f"http://{HOST}:{settings.data_port}",
            sample=f"http://{HOST}:{settings.sample_port}",
            supervisor_pid=process.pid,
            socket=str(socket),
            mark=mark,
            started=leftovers.created(process.pid),
        )
        self.home.record(running)
        return running

    def _migrate(self, settings: Settings, running: Running) -> None:
        """Make Airflow's database, or bring it to this version; a note beside it saves the time when it already is."""
        from importlib.metadata import version

        note = self.home.airflow / "database-version"
        wanted = version("apache-airflow")
        if not (self.home.database.exists() and note.exists() and note.read_text() == wanted):
            self._say("preparing Airflow's database")
            log = self.home.logs / "database.log"
            with log.open("wb") as output:
                done = subprocess.run(
                    [sys.executable, "-m", "airflow", "db", "migrate"],
                    env=self._environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if done.returncode:
                raise NotReady(f"Airflow's database could not be made; the reason is at the end of {log}")
            note.write_text(wanted)
        control = Control(Path(running.socket))
        for program in programs(settings, self.home):
            if not program.at_once and program.name != _SCHEDULER:
                control.start(program.name)

    def _wait(self, running: Running, deadline: float) -> Running:
        control = Control(Path(running.socket))
        told: set[str] = set()
        lives: dict[str, set[int]] = {}
        airflow = Airflow(running.url, self.home.passwords()["admin"])
        scheduled = False
        while True:
            states = control.programs()
            for state in states:
                lives.setdefault(state.name, set()).add(state.pid)
            if dead := [state.name for state in states if state.state in {"FATAL", "UNKNOWN"} or len(lives[state.name] - {0}) > _LIVES]:
                raise NotReady(f"{dead[0]} does not stay up; the reason is at the end of {self.home.logs / dead[0]}.log")
            waiting = self._missing(running, airflow)
            if not scheduled and "web server" not in waiting:
                control.start(_SCHEDULER)
                scheduled = True
            for name in self._parts() - waiting - told:
                self._say(f"  {name} is ready")
                told.add(name)
            if not waiting:
                running = dataclasses.replace(running, pids={state.name: state.pid for state in states})
                self.home.record(running)
                return running
            if time.monotonic() > deadline:
                raise NotReady(f"not ready in time: {', '.join(sorted(waiting))}; the logs are in {self.home.logs}")
            time.sleep(0.25)

    def _parts(self) -> set[str]:
        return {"earthsignature", _WEB, "sample", "web server", "scheduler", "triggerer", "dag processor", "workflow"}

    def _missing(self, running: Running, airflow: Airflow) -> set[str]:
        """Name what is not ready yet; raises `NotReady` when the workflow cannot be imported."""
        missing = set()
        for name, place in (("earthsignature", running.signature), (_WEB, running.data), ("sample", running.sample)):
            if not ports.answers(int(place.rsplit(":", 1)[1])):
                missing.add(name)
        health = airflow.health()
        if not health:
            return missing | {"web server", "scheduler", "triggerer", "dag processor", "workflow"}
        airflow.warm_up()
        missing |= {name.replace("_", " ") for name in COMPONENTS[1:] if health.get(name) != "healthy"}
        shipped = self.settings.dags[0] / f"{WORKFLOW}.py"
        if shipped.exists() and not airflow.has_workflow(WORKFLOW):
            missing.add("workflow")
            if reason := airflow.import_error(shipped.name):
                raise NotReady(f"{shipped} cannot be imported: {reason}")
        return missing

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep a second `up` of the same home out while ports are chosen and processes start."""
        with (self.home.path / "stack.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LocalError(f"another `up` of {self.home.path} is under way; wait for it") from None
            yield


def _abandoned(running: Running) -> str:
    return (
        f"the supervisor of the stack at {running.url} is gone or does not answer, though its programs run: nothing that dies is started "
        "again; `make down` ends them, then `make up` starts the stack anew"
    )


def programs(settings: Settings, home: Home) -> list[Program]:
    """List the processes of the stack."""
    python = sys.executable
    airflow = (python, "-m", "airflow")
    signature = str(Path(python).with_name("earthsignature"))
    store = ("--home", str(home.path / "earthsignature"))
    loopback = ("--host", HOST, "--port")
    return [
        # Once it has served its last request it spends seconds on collecting garbage before it exits.
        Program("api-server", (*airflow, "api-server", *loopback, str(settings.port)), patience=4),
        Program("earthsignature", (signature, "serve", "--port", str(settings.signature_port), *store)),
        Program(_WEB, (signature, "web", "--port", str(settings.data_port), *store, "--workspace", str(home.workspace))),
        Program("sample", (python, "-m", "earthself.local.sample", "--port", str(settings.sample_port))),
        Program(_SCHEDULER, (*airflow, "scheduler", "--skip-serve-logs"), at_once=False),  # its log server listens on all interfaces
        Program("dag-processor", (*airflow, "dag-processor"), at_once=False),
        Program("triggerer", (*airflow, "triggerer", "--skip-serve-logs"), at_once=False),
    ]
