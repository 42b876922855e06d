"""The stack's folder of state: passwords, secrets and what is running, each written whole and readable by its owner only."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import string
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

USERS = {"admin": "admin", "creator": "user", "viewer": "viewer"}
"""User name -> role in Airflow's SimpleAuthManager."""


class AirflowDatabase(sqlite3.Connection):
    """A connection to Airflow's database whose commits do not wait for the disk, and so hold the lock for a moment only.

    Where the disk is busy, others would wait for minutes. A crash of the machine may cost the last commits, never the file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of sqlite3.connect
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=NORMAL")


DATABASE = {"timeout": 60, "factory": AirflowDatabase}
"""How Airflow's processes open their SQLite; they wait so many seconds for another's lock, where 5 are usual."""

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Running:
    """What `up` leaves behind for `status`, `down` and the client (`stack.json`)."""

    url: str
    """Web interface and REST."""
    signature: str
    """EarthSignature's gRPC target, host:port."""
    data: str
    """Root of EarthSignature's STAC API, tiles and maps."""
    sample: str
    """Root of the sample provider's STAC API."""
    supervisor_pid: int
    """Process id of the supervisor, which is also its session's id."""
    socket: str
    """Path of the supervisor's control socket."""
    mark: str
    """Value of `EARTHSELF_STACK` in the environment of every process of this stack."""
    started: float
    """When the supervisor's process was created, in seconds since 1970: with its id that names it for good."""
    pids: dict[str, int] = field(default_factory=dict)
    """Program name -> process id when the stack became ready."""


class Home:
    """One EARTHSELF_HOME."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.workspace = path / "workspace"
        self.airflow = path / "airflow"
        self.database = self.airflow / "airflow.db"
        self.passwords_file = path / "passwords.json"
        self.running_file = path / "stack.json"
        self.supervisor_config = path / "supervisord.conf"
        self.sources_file = path / "sources.json"

    def prepare(self) -> None:
        """Make the folders; the home itself is open to its owner only."""
        for folder in (self.path, self.logs, self.workspace, self.airflow):
            folder.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        # Readers and the writer do not wait for each other: with many tasks at once Airflow's processes would give up on a locked database.
        with closing(sqlite3.connect(self.database, timeout=60)) as database:
            database.execute("PRAGMA journal_mode=WAL")

    def passwords(self) -> dict[str, str]:
        """User -> password; made at the first call, kept at mode 600 ever after."""
        if not self.passwords_file.exists():
            made = {user: "".join(secrets.choice(_ALPHABET) for _ in range(20)) for user in USERS}
            write_private(self.passwords_file, made)
        self.passwords_file.chmod(0o600)
        found: dict[str, str] = json.loads(self.passwords_file.read_text())
        return found

    def secrets(self) -> dict[str, str]:
        """Give the keys that Airflow's processes share: `jwt`, `api`, `fernet`."""
        path = self.path / "secrets.json"
        if not path.exists():
            fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            write_private(path, {"jwt": secrets.token_hex(32), "api": secrets.token_hex(32), "fernet": fernet})
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def running(self) -> Running | None:
        """Read what `up` wrote last: None where nothing is up (or the file is of another version)."""
        try:
            return Running(**json.loads(self.running_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def record(self, running: Running) -> None:
        """Remember what is running."""
        write_private(self.running_file, asdict(running))

    def sample_port(self) -> int:
        """Give the port at which the sample was served last, 0 if never: addresses in manifests hold it, and `replay` needs it again."""
        try:
            return int((self.path / "sample-port").read_text())
        except (OSError, ValueError):
            return 0

    def remember_sample_port(self, port: int) -> None:
        """Keep the sample at the same address the next time."""
        (self.path / "sample-port").write_text(str(port))

    def forget(self) -> None:
        """Nothing is running any more."""
        self.running_file.unlink(missing_ok=True)


def write_private(path: Path, content: Any) -> None:  # noqa: ANN401 - any JSON
    """Write JSON to `path` at once and whole, mode 600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it mode 600
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
