"""What deploy/README.md tells an operator to do, done: secrets that change, tidying up, a backup that becomes a platform again."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from earthself.signature.access import TokenFile

from tests.helm import RELEASE
from tests.system.chart import SECONDS, USER, Charts, Installed, secret

pytestmark = pytest.mark.timeout(2 * SECONDS + 1800)
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
SIGNATURE = ("signature", "web")
KEYS = f"{RELEASE}-earthself-keys"
OLD_KEYS = "old-keys"


def decoded(chart: Installed, name: str) -> dict[str, str]:
    data = json.loads(chart.kube.kubectl("get", "secret", name, "-o", "json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def fresh() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def stored(chart: Installed) -> str:
    """The password of the connection that Airflow keeps encrypted."""
    (found,) = json.loads(chart.inside("scheduler", "airflow", "connections", "get", "drill", "-o", "json"))
    return str(found["password"])


def signatures(chart: Installed) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(chart.inside("signature", "earthsignature", "stats", "--json"))
    return said


def rotate(chart: Installed) -> None:
    """Change EarthSignature's token and all of Airflow's keys, as the table of deploy/README.md says."""
    tokens, keys = TokenFile(chart.folder / "tokens.json"), decoded(chart, KEYS)
    old, other, fernet = decoded(chart, "test-signature-tokens")["token"], tokens.add("platform-2", "write"), fresh()

    secret(chart.kube, "test-signature-tokens", {"tokens.json": tokens.path.read_text(), "token": old})
    secret(chart.kube, KEYS, {**keys, "fernet-key": f"{fernet},{keys['fernet-key']}"})
    chart.restart(*AIRFLOW, *SIGNATURE)
    chart.inside("scheduler", "airflow", "rotate-fernet-key")

    secret(chart.kube, "test-signature-tokens", {"tokens.json": tokens.path.read_text(), "token": other})
    secret(chart.kube, KEYS, {"fernet-key": fernet, "jwt-secret": secrets.token_hex(64), "api-secret-key": secrets.token_hex(64)})
    chart.restart(*AIRFLOW)

    tokens.remove("platform")
    secret(chart.kube, "test-signature-tokens", {"tokens.json": tokens.path.read_text(), "token": other})
    chart.restart(*SIGNATURE)


def copy_databases(chart: Installed) -> None:
    """Run the nightly job's own script here: no image of the tests' cluster has PostgreSQL."""
    job = json.loads(chart.kube.kubectl("get", "cronjob", f"{RELEASE}-earthself-backup-databases", "-o", "json"))
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    script = container["command"][2].replace("/backup", str(chart.folder / "backup"))
    urls = decoded(chart, "test-database")
    env = os.environ | {"AIRFLOW_DATABASE": urls["airflow"], "PLATFORM_DATABASE": urls["platform"]}
    subprocess.run(["sh", "-euc", script], env=env, check=True)


def restore(chart: Installed, backup: Path, keys: Mapping[str, str]) -> None:
    """Fill what an empty namespace has with what the backup holds, before anything is installed there."""
    for name in ("airflow", "platform"):
        (copy,) = (backup / "databases").glob(f"{name}-*.dump")
        subprocess.run(["pg_restore", "--no-owner", "--dbname", chart.databases[name], str(copy)], check=True)
    secret(chart.kube, OLD_KEYS, keys)
    mounts = {"/data": chart.folder / "signature", "/backup": backup}
    container = {
        "name": "import",
        "image": chart.values["images"]["earthsignature"],
        "imagePullPolicy": "Never",
        "args": ["import", "/backup/earthsignature"],
        "env": [{"name": "EARTHSELF_SIGNATURE_DATABASE_URL", "value": chart.databases["signature"]}],
        "volumeMounts": [{"name": path[1:], "mountPath": path} for path in mounts],
    }
    volumes = [{"name": path[1:], "hostPath": {"path": str(folder)}} for path, folder in mounts.items()]
    pod = {
        "restartPolicy": "Never",
        "hostNetwork": True,
        "securityContext": {"runAsUser": USER},
        "containers": [container],
        "volumes": volumes,
    }
    chart.job("restore", {"backoffLimit": 0, "template": {"spec": pod}})


def test_secrets_change_old_rows_go_and_a_backup_becomes_a_platform_again(charts: Charts, area: dict) -> None:
    if shutil.which("pg_dump") is None:
        pytest.skip("no pg_dump; get it with: apt-get install postgresql-client")
    with charts("first") as chart:
        chart.change("install", {"backup": {"enabled": True, "volume": {"hostPath": str(chart.folder / "backup")}}})
        password = secrets.token_hex(16)
        add = ("airflow", "connections", "add", "drill", "--conn-type", "http", "--conn-password", password)
        assert password not in chart.inside("scheduler", *add)
        before, result = chart.map(area)
        assert result["products"]["processed"] == 2

        rotate(chart)
        assert stored(chart) == password, "the new fernet key alone opens what the old one closed"
        _, result = chart.map(area, mask="none")
        assert result["products"]["processed"] == 2, "the new token may write"

        days = subprocess.run(["date", "-u", "-d", "-90 days", "+%F"], check=True, capture_output=True, text=True).stdout.strip()
        chart.inside("scheduler", "airflow", "db", "clean", "--clean-before-timestamp", days, "--skip-archive", "-y")
        assert before.name in chart.inside("scheduler", "airflow", "dags", "list-runs", "land_cover_map", "-o", "json")

        chart.now("backup-signature")
        copy_databases(chart)
        held, keys, backup = signatures(chart), decoded(chart, KEYS), chart.folder / "backup"
        chart.uninstall()

        with charts("second") as again:
            restore(again, backup, keys)
            again.change("install", {"keys": {"existingSecret": OLD_KEYS}, "airflow": {"executor": "KubernetesExecutor"}})
            assert signatures(again)["products"] == held["products"] == 4
            assert stored(again) == password
            assert before.name in again.inside("scheduler", "airflow", "dags", "list-runs", "land_cover_map", "-o", "json")
            _, result = again.map(area, 1200)
            assert result["products"]["reused"] == 2, "made from what the old platform had signed"
            # The executor takes a task's pod away a moment after its end; where its scheduler goes before, nobody does.
            again.helm("uninstall", RELEASE)
            again.kube.kubectl("delete", "pods", "-l", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=worker")
            again.nothing_left()
            assert OLD_KEYS in again.kube.kubectl("get", "secrets"), "Secrets of one's own are not the release's"
