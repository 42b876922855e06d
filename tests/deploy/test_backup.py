"""The nightly copies of the databases, by the script of the manifest and a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.deploy.rendered import named


@pytest.fixture
def dump(tmp_path: Path) -> Any:
    """Run the job's own script, on folders of this machine."""
    if shutil.which("pg_dump") is None:
        pytest.skip("no pg_dump; get it with: apt-get install postgresql-client")
    job = named("everything", "CronJob", "-backup-databases")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    script = job["command"][2].replace("/backup", str(tmp_path))
    assert job["command"][:2] == ["sh", "-euc"]

    def run(airflow: str, platform: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"AIRFLOW_DATABASE": airflow, "PLATFORM_DATABASE": platform}
        return subprocess.run(["sh", "-euc", script], env=env, capture_output=True, text=True, check=False)

    return run


def test_a_copy_is_whole_and_old_ones_go(dump: Any, cluster: Any, tmp_path: Path) -> None:
    airflow, platform = cluster.new_database(), cluster.new_database()
    with psycopg.connect(platform) as connection:
        connection.execute("CREATE TABLE step (id int); INSERT INTO step VALUES (7)")
    old = tmp_path / "databases" / "airflow-2020-01-01T00-00-00Z.dump"
    old.parent.mkdir()
    old.write_bytes(b"")
    os.utime(old, (0, 0))

    done = dump(airflow.replace("postgresql:", "postgresql+psycopg:"), platform.replace("postgresql:", "postgresql+psycopg:"))
    assert done.returncode == 0, done.stderr
    made = sorted(path.name.partition("-")[0] for path in old.parent.iterdir())
    assert made == ["airflow", "platform"]
    (copy,) = old.parent.glob("platform-*.dump")
    fresh = cluster.new_database()
    subprocess.run(["pg_restore", "--no-owner", "--table=step", "--dbname", fresh, str(copy)], check=True)
    with psycopg.connect(fresh) as connection:
        assert connection.execute("SELECT id FROM step").fetchall() == [(7,)]


def test_one_database_is_copied_once(dump: Any, cluster: Any, tmp_path: Path) -> None:
    url = cluster.new_database()
    assert dump(url, url).returncode == 0
    assert [path.name.partition("-")[0] for path in (tmp_path / "databases").iterdir()] == ["airflow"]


def test_a_copy_that_fails_leaves_none_and_says_why(dump: Any, cluster: Any, tmp_path: Path) -> None:
    gone = f"{cluster.new_database()}_gone"
    done = dump(gone, gone)
    assert done.returncode != 0
    assert "does not exist" in done.stderr
    assert not list((tmp_path / "databases").glob("*.dump"))
