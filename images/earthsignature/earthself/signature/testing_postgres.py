"""A PostgreSQL with PostGIS for tests and benchmarks: a cluster of its own, on loopback, gone at the end."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from earthself.signature.errors import NotFound

HOW_TO_GET = "PostgreSQL with PostGIS is not on this machine: apt-get install postgresql postgresql-postgis (as Debian does it)"
_TEMPLATE = "with_postgis"


class Cluster:
    """A running server."""

    def __init__(self, port: int, user: str) -> None:
        self._port, self._user, self._made = port, user, 0

    def url(self, database: str) -> str:
        """Give the address of a database of it."""
        return f"postgresql://{self._user}@127.0.0.1:{self._port}/{database}"

    def new_database(self) -> str:
        """Make an empty database with the extensions; gives its URL."""
        self._made += 1
        name = f"test_{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.url(name)


@contextmanager
def running_postgres(**settings: str) -> Iterator[Cluster]:
    """Start a cluster in a temporary folder; raises `NotFound` where there is no PostgreSQL with PostGIS.

    It does not sync to disk unless `settings` say so: that a commit survives a power cut is PostgreSQL's business.
    """
    programs = _programs()
    as_user: list[str] = []
    user = getpass.getuser()
    # Not in a folder of pytest's: those are closed to the other user.
    folder = Path(tempfile.mkdtemp(prefix="earthself-postgres-"))
    data = folder / "data"
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        as_user = ["runuser", "-u", user, "--"]
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", **settings}
    options = " ".join(f"-c {name}={value}" for name, value in said.items())
    where = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= {options}"

    def run(program: str, *arguments: str) -> None:
        log = folder / "commands.log"
        with log.open("ab") as out:
            done = subprocess.run([*as_user, str(programs / program), *arguments], stdout=out, stderr=out, check=False, cwd=folder)
        if done.returncode:
            raise NotFound(f"{program} failed: {log.read_text()[-2000:]}")

    run("initdb", "-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    run("pg_ctl", "-D", str(data), "-o", where, "-l", str(data / "server.log"), "-w", "start")
    try:
        cluster = Cluster(port, user)
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        with psycopg.connect(cluster.url(_TEMPLATE), autocommit=True) as connection:
            for extension in ("postgis", "btree_gist"):
                connection.execute(f"CREATE EXTENSION {extension}")
        yield cluster
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def _programs() -> Path:
    """Find the folder with `initdb` that PostGIS is installed for; raises `NotFound`."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        config = folder / "pg_config"
        if not config.exists():
            continue
        shared = subprocess.run([str(config), "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
        if (Path(shared) / "extension" / "postgis.control").exists() and (folder / "initdb").exists():
            return folder
    raise NotFound(HOW_TO_GET)
