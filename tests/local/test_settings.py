"""What a person may set, and the messages for what cannot be."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from earthself.local import ports
from earthself.local.demo import SAMPLE_AREA, Order
from earthself.local.errors import BadSetting, PortTaken
from earthself.local.home import Home, write_private
from earthself.local.settings import Settings
from earthself.local.sources import eodag_connection
from earthself.local.stack import Stack
from earthself.local.surroundings import surroundings


def test_defaults_are_those_of_the_contract() -> None:
    settings = Settings.from_environment({})
    assert (settings.port, settings.signature_port, settings.data_port) == (8080, 50051, 8081)
    assert settings.home == Path.cwd() / ".earthself"
    assert [folder.name for folder in settings.dags] == ["dags"]


@pytest.mark.parametrize("text", ["http", "80.5", "-1", "70000"])
def test_a_port_that_is_none_names_the_variable_and_the_value(text: str) -> None:
    with pytest.raises(BadSetting, match=f"EARTHSELF_SIGNATURE_PORT is '?{text}"):
        Settings.from_environment({"EARTHSELF_SIGNATURE_PORT": text})


def test_a_home_that_is_a_file_and_dags_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match="is a file"):
        Settings.from_environment({"EARTHSELF_HOME": str(tmp_path / "file")})
    with pytest.raises(BadSetting, match=r"EARTHSELF_DAGS names .*missing"):
        Settings.from_environment({"EARTHSELF_DAGS": f"{tmp_path}:{tmp_path / 'missing'}"})


def test_a_port_in_use_is_refused_with_port_variable_and_holder() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} on 127\.0\.0\.1 is in use.*\(process \d+\).*EARTHSELF_PORT=PORT"):
            ports.require_free(port, "EARTHSELF_PORT", "web interface")
    ports.require_free(port, "EARTHSELF_PORT", "web interface")


def test_a_server_on_all_interfaces_counts_as_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - that is the point
        taken.listen()
        assert not ports.is_free(taken.getsockname()[1])


def test_passwords_are_made_once_for_three_users_and_kept_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    made = home.passwords()
    assert sorted(made) == ["admin", "creator", "viewer"]
    assert len(set(made.values())) == 3
    assert min(len(password) for password in made.values()) >= 16
    assert home.passwords() == made
    assert stat.S_IMODE(home.passwords_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    home.passwords_file.chmod(0o644)
    home.passwords()
    assert stat.S_IMODE(home.passwords_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"EARTHSELF_PORT": "28051", "EARTHSELF_SIGNATURE_PORT": "28051"}, "EARTHSELF_PORT and EARTHSELF_SIGNATURE_PORT are both 28051"),
        ({"EARTHSELF_DATA_PORT": "50051"}, "EARTHSELF_SIGNATURE_PORT and EARTHSELF_DATA_PORT are both 50051"),
        ({"EARTHSELF_SIGNATURE_PORT": "8082"}, "EARTHSELF_SIGNATURE_PORT and EARTHSELF_SAMPLE_PORT are both 8082"),
    ],
)
def test_two_servers_on_one_port_are_refused_before_anything_starts(tmp_path: Path, chosen: dict[str, str], message: str) -> None:
    stack = Stack(Settings.from_environment({"EARTHSELF_HOME": str(tmp_path / "home"), "EARTHSELF_PORT": "0", **chosen}))
    with pytest.raises(BadSetting, match=message):
        stack.up()
    assert stack.home.running() is None
    assert stack.home.sample_port() == 0


def test_a_private_file_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_private(path, {"a": 1})
    with pytest.raises(TypeError):
        write_private(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["file.json"]


def test_the_processes_see_our_settings_and_none_of_another_airflow(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    other = {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "True",
        "AIRFLOW_CONN_X": "y",
        "EODAG__A__B": "c",
        "PATH": "/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    made = surroundings(Settings(tmp_path, port=18080, signature_port=15051, dags=(tmp_path, tmp_path / "more")), home, "mark", other)
    assert made["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert not {"AIRFLOW_CONN_X", "EODAG__A__B", "PYTHONDONTWRITEBYTECODE"} & set(made)
    assert made["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"
    assert len(made["AIRFLOW__API_AUTH__JWT_SECRET"]) == 64
    bundles = json.loads(made["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["kwargs"]["path"] for bundle in bundles] == [str(tmp_path), str(tmp_path / "more")]
    assert json.loads(made["AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT"])["port"] == 15051
    assert made["PATH"].endswith(":/bin")


def test_airflow_waits_for_a_lock_on_its_database_and_not_for_the_disk(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    made = surroundings(Settings(tmp_path, dags=(tmp_path,)), home, "mark", dict(os.environ))
    asked = [f"connection.exec_driver_sql('PRAGMA {name}').scalar()" for name in ("busy_timeout", "synchronous", "journal_mode")]
    code = f"from airflow import settings\nwith settings.engine.connect() as connection: print({', '.join(asked)})"
    said = subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "60000 1 wal"


def test_a_task_bears_a_restart_of_the_web_server(tmp_path: Path) -> None:
    """The shortest time over which it asks again, as Airflow's SDK counts: a random wait from 1 s on between two attempts."""
    home = Home(tmp_path)
    home.prepare()
    made = surroundings(Settings(tmp_path, dags=(tmp_path,)), home, "mark", {})
    attempts, longest = (int(made[f"AIRFLOW__WORKERS__EXECUTION_API_RETR{name}"]) for name in ("IES", "Y_WAIT_MAX"))
    assert (attempts - 1) * 1 >= 25
    assert (attempts - 1) * (1 + longest) / 2 >= 80
    assert longest <= 10, "once the server is back the task goes on soon"


def test_the_users_own_providers_stand_beside_the_sample(tmp_path: Path) -> None:
    home = Home(tmp_path)
    own = {"providers": ["cop_dataspace"], "credentials": {"cop_dataspace": {"username": "u"}}, "provider_config": "mine:\n  url: x"}
    home.sources_file.write_text(json.dumps(own))
    extra = eodag_connection(Settings(tmp_path), home)["extra"]
    assert extra["providers"] == ["cop_dataspace"]
    assert extra["credentials"] == own["credentials"]
    assert extra["provider_config"].startswith("sample:")
    assert extra["provider_config"].endswith("mine:\n  url: x")
    assert stat.S_IMODE(home.sources_file.stat().st_mode) == 0o600
    assert eodag_connection(Settings(tmp_path, providers=("earth_search",)), home)["extra"]["providers"] == ["earth_search"]


@pytest.mark.parametrize("text", ["{", "[]", '{"providers": "sample"}', '{"provider": []}'])
def test_a_broken_sources_file_is_named(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.sources_file.write_text(text)
    with pytest.raises(BadSetting, match=r"sources\.json"):
        eodag_connection(Settings(tmp_path), home)


def test_the_demo_takes_the_sample_or_a_whole_order() -> None:
    assert Order.from_environment({}).area == str(SAMPLE_AREA)
    own = Order.from_environment({"PROVIDER": "earth_search", "AREA": "1,2,3,4", "START": "2024-07-01", "END": "2024-07-02"})
    assert (own.provider, own.area, own.start, own.end) == ("earth_search", "1,2,3,4", "2024-07-01", "2024-07-02")
    with pytest.raises(BadSetting, match="needs START and END"):
        Order.from_environment({"PROVIDER": "earth_search", "AREA": "1,2,3,4"})
