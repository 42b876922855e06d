"""A private Airflow for tests: its own home under the temporary folder, a SQLite database, the shipped DAGs as a bundle.

Import this before anything that imports Airflow: Airflow reads AIRFLOW_HOME once.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="earthself-airflow-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "own").mkdir()
    bundle = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [
        {"name": name, "classpath": bundle, "kwargs": {"path": str(path)}}
        for name, path in (("shipped", ROOT / "dags"), ("examples", ROOT / "docs" / "examples"), ("own", home / "own"))
        if path.is_dir()
    ]
    (home / "airflow.cfg").write_text(
        f"""
[core]
executor = LocalExecutor
load_examples = False
simple_auth_manager_users = admin:admin,creator:user,viewer:viewer
simple_auth_manager_passwords_file = {home}/passwords.json
unit_test_mode = False
fernet_key =
[database]
sql_alchemy_conn = sqlite:///{home}/airflow.db
load_default_connections = False
[dag_processor]
dag_bundle_config_list = {json.dumps(bundles)}
[logging]
base_log_folder = {home}/logs
logging_level = INFO
[api]
secret_key = tests-only
[api_auth]
jwt_secret = tests-only-tests-only-tests-only-tests-only-tests-only-tests-only
[scheduler]
enable_health_check = False
""",
        encoding="utf-8",
    )
    (home / "passwords.json").write_text(json.dumps({name: name for name in ("admin", "creator", "viewer")}), encoding="utf-8")
    return home


if "airflow" in sys.modules:
    raise RuntimeError("Airflow was imported before tests/operators/airflow_sandbox.py could give it a home")
HOME = _home()
"""AIRFLOW_HOME of all tests of this process."""
os.environ["AIRFLOW_HOME"] = str(HOME)


@functools.cache
def migrate() -> Path:
    """Make the database once a process; returns AIRFLOW_HOME."""
    from airflow import settings
    from airflow.utils.db import initdb

    settings.initialize()
    initdb()
    return HOME
