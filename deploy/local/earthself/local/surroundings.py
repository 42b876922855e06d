"""The environment that every process of the stack is started with: Airflow's settings, connections, and where things are.

Each setting that differs from Airflow's default says why. Nothing here lets a process look for the internet by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from earthself.local.home import USERS, Home
from earthself.local.settings import HOST, Settings
from earthself.local.sources import eodag_connection

MARK = "EARTHSELF_STACK"
"""Variable whose value all processes of one stack carry, tasks and their children too: `down` finds the stray by it."""

_COLLECTORS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables, which say where metrics are to be sent."""

_LASTING = r"^scheduler,^executor\.,^pool\.,^trigger,^dag_process,^dagrun\.,^dagbag_size,^asset"
"""Metrics of processes that last: what each task counts for itself begins at 0 again with the next one, and means nothing together."""


def surroundings(settings: Settings, home: Home, mark: str, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Build the environment of the stack's processes from the caller's own one.

    Airflow settings that the caller exported for another installation are dropped.
    """
    kept = {name: value for name, value in base.items() if not name.startswith(("AIRFLOW_", "EODAG_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # every process would compile thousands of modules anew
    return {
        **kept,
        **_airflow(settings, home, base),
        **_earthself(settings, home),
        MARK: mark,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # Airflow renames its processes; without this that overwrites their environment, and the mark with it
        "NO_PROXY": ",".join(filter(None, [base.get("NO_PROXY", ""), HOST, "localhost"])),
        "no_proxy": ",".join(filter(None, [base.get("no_proxy", ""), HOST, "localhost"])),
        "DO_NOT_TRACK": "1",
        "SCARF_ANALYTICS": "false",
    }


def _airflow(settings: Settings, home: Home, base: Mapping[str, str]) -> dict[str, str]:
    secrets = home.secrets()
    url = f"http://{HOST}:{settings.port}"
    bundles = [
        {
            "name": "earthself" if number == 0 else f"extra-{number}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder), "refresh_interval": 5},
        }
        for number, folder in enumerate(settings.dags)
    ]
    chosen = {
        "core": {
            "executor": "earthself.operators.executor.PreparedLocalExecutor",
            "parallelism": "16",
            "max_active_tasks_per_dag": "16",
            "load_examples": "False",
            "dags_folder": str(settings.dags[0]),
            "dags_are_paused_at_creation": "False",  # a shipped workflow can be triggered at once
            "execution_api_server_url": f"{url}/execution/",
            "fernet_key": secrets["fernet"],
            "hostname_callable": "socket.gethostname",  # the default asks a name server
            "simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in USERS.items()),
            "simple_auth_manager_passwords_file": str(home.passwords_file),
            "min_serialized_dag_update_interval": "5",
        },
        "database": {
            "sql_alchemy_conn": f"sqlite:///{home.database}",
            "sql_alchemy_connect_args": "earthself.local.home.DATABASE",
            "sql_alchemy_connect_args_async": "earthself.local.home.DATABASE",
            "sql_alchemy_max_overflow": "60",  # who waits for SQLite's lock holds a connection; the web server has 40 threads
            "check_migrations": "False",  # `up` makes the database while the web server already starts
        },
        "api": {"host": HOST, "port": str(settings.port), "base_url": url, "secret_key": secrets["api"], "workers": "1"},
        "api_auth": {"jwt_secret": secrets["jwt"]},
        "logging": {
            "base_log_folder": str(home.logs / "tasks"),
            "dag_processor_child_process_log_directory": str(home.logs / "dags"),
            "json_logs": str(base.get("EARTHSELF_LOG_FORMAT") == "json"),
        },
        "workers": {
            # A task bears a restart of the web server (10 to 60 s): it asks again for about 90 s, every 1 to 5 s. By default it
            # may give up after 5 s, and is ended though it works when its heartbeats fail three times.
            "execution_api_retries": "30",
            "execution_api_retry_wait_max": "5",
            "execution_api_timeout": "30",  # a server that just started builds itself at the first request
        },
        "scheduler": {
            "scheduler_idle_sleep_time": "0.1",  # the latency of every task
            "orphaned_tasks_check_interval": "10",
            "task_instance_heartbeat_timeout": "60",
            "task_instance_heartbeat_timeout_detection_interval": "10",
        },
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "dag_bundle_storage_path": str(home.airflow / "bundles"),
            "min_file_process_interval": "10",
            "bundle_refresh_check_interval": "2",
        },
        "metrics": {
            "otel_on": str(any(base.get(name) for name in _COLLECTORS)),
            "legacy_names_on": "False",  # each task would make metrics with names of its own
            "metrics_allow_list": _LASTING,
        },
        "usage_data_collection": {"enabled": "False"},
    }
    named = {f"AIRFLOW__{section.upper()}__{key.upper()}": value for section, keys in chosen.items() for key, value in keys.items()}
    return {**named, "AIRFLOW_HOME": str(home.airflow)}


def _earthself(settings: Settings, home: Home) -> dict[str, str]:
    signature = {"conn_type": "earthsignature", "host": HOST, "port": settings.signature_port}
    return {
        "AIRFLOW_CONN_EODAG_DEFAULT": json.dumps(eodag_connection(settings, home)),
        "AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT": json.dumps(signature),
        "EARTHSELF_HOME": str(home.path),
        "EARTHSELF_WORKSPACE": str(home.workspace),
        "EARTHSELF_DATABASE_URL": f"sqlite:///{home.path / 'earthself.db'}",
        "EARTHSELF_SIGNATURE": f"{HOST}:{settings.signature_port}",
        "EARTHSELF_DATA_URL": f"http://{HOST}:{settings.data_port}",
        "EODAG_CFG_DIR": str(home.path / "eodag"),
        "EODAG_STRICT_COLLECTIONS": "true",  # an unknown collection is an error here, not a question to the web
    }
