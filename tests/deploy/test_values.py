"""What people write into values: nonsense is refused by its name before anything is installed; what is needed is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rendered import named, objects, values
from tests.helm import CHART, HelmRefused, merged, render

FINDS = "from airflow.executors.executor_loader import ExecutorLoader as E; E.load_executor(E.get_default_executor_name())"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"airflow": {"executer": "LocalExecutor"}}, "executer"),
    ({"airflow": {"executor": "SequentialExecutor"}}, "/airflow/executor"),
    ({"airflow": {"executor": "CeleryExecutor"}}, "/celery/brokerSecret"),
    ({"airflow": {"config": {"core": "parallelism=3"}}}, "/airflow/config/core"),
    ({"airflow": {"env": [{"name": "A B", "value": "x"}]}}, "/airflow/env/0/name"),
    ({"apiServer": {"port": 70000}}, "/apiServer/port"),
    ({"apiServer": {"replicas": 0}}, "/apiServer/replicas"),
    ({"apiServer": {"resources": {"requests": {"memory": "2 GB"}, "limits": {}}}}, "/apiServer/resources/requests/memory"),
    ({"images": {"airflow": "earthself-airflow"}}, "/images/airflow"),
    ({"images": {"airflow": "Name with spaces:1"}}, "/images/airflow"),
    ({"storage": {"profiles": {"Near One": {}}}}, "Near One"),
    ({"storage": {"region": "somewhere"}}, "/storage/region"),
    ({"monitoring": {"openTelemetry": {"endpoint": "collector:4318"}}}, "/monitoring/openTelemetry/endpoint"),
    ({"images": {"pullPolicy": "always"}}, "/images/pullPolicy"),
    ({"database": {"existingSecret": ""}}, "/database/existingSecret"),
    ({"database": {"url": "postgresql://user:secret@db/airflow"}}, "url"),
    ({"signature": {"tlsSecret": ""}}, "/signature/tlsSecret"),
    ({"signature": {"enabled": False}}, "/signature/address"),
    ({"signature": {"read": "everybody"}}, "/signature/read"),
    ({"workspace": {"accessMode": "ReadWriteOnce"}}, "/workspace"),
    ({"workspace": {"hostPath": "relative/folder"}}, "/workspace"),
    ({"steps": {"namespace": "elsewhere"}}, "/steps/workspace"),
    ({"steps": {"runtime": "docker"}}, "/steps/runtime"),
    ({"ingress": {"enabled": True, "host": "earth.example.org"}}, "/ingress/tlsSecret"),
    ({"ingress": {"enabled": True, "host": "https://earth.example.org", "tlsSecret": "x"}}, "/ingress/host"),
    ({"auth": {"kind": "none"}}, "/auth/kind"),
    ({"auth": {"kind": "oidc"}}, "/auth/oidc/issuer"),
    ({"auth": {"kind": "oidc", "oidc": {"issuer": "http://login.example.org"}}}, "/auth/oidc/issuer"),
    ({"auth": {"simple": {"users": "admin"}}}, "/auth/simple/users"),
    ({"networkPolicy": {"database": {"cidr": "db.example.org"}}}, "/networkPolicy/database/cidr"),
    ({"backup": {"schedule": "every night"}}, "/backup/schedule"),
    ({"pods": {"startSeconds": 0}}, "/pods/startSeconds"),
]


@pytest.mark.parametrize(("said", "named_"), REFUSED)
def test_nonsense_is_refused_by_its_name(said: dict[str, Any], named_: str) -> None:
    with pytest.raises(HelmRefused, match=named_):
        render(said)


CONTRADICTORY = [
    ({"apiServer": {"autoscaling": {"enabled": True, "min": 9, "max": 2}}}, "apiServer.autoscaling: min 9 is more than max 2"),
    (
        {"signature": {"web": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}}},
        "signature.web.autoscaling .* signature.web.resources.requests.cpu",
    ),
    ({"scheduler": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}}}, "limit of memory, 2G, .* the request, 2Gi"),
    ({"broker": {"resources": {"requests": {"cpu": 1.5}, "limits": {"cpu": "900m"}}}}, "broker.resources: the limit of cpu, 900m"),
]


@pytest.mark.parametrize(("said", "message"), CONTRADICTORY)
def test_values_that_contradict_each_other_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmRefused, match=message):
        render(said)


def test_a_limit_may_be_what_is_requested_in_another_unit() -> None:
    assert render({"scheduler": {"resources": {"requests": {"memory": "2048Mi", "cpu": 1}, "limits": {"memory": "2Gi", "cpu": "1000m"}}}})


def test_every_value_has_a_default_that_the_schema_knows() -> None:
    assert render(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_settings_of_airflow_lie_over_ours_and_may_be_numbers() -> None:
    found = render({"airflow": {"config": {"core": {"parallelism": 64}, "smtp": {"smtp_host": "mail.example.org"}}}})
    (data,) = (one["data"] for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-airflow"))
    assert data["AIRFLOW__CORE__PARALLELISM"] == "64"
    assert data["AIRFLOW__SMTP__SMTP_HOST"] == "mail.example.org"
    assert data["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == "/opt/earthself/logs"


def test_a_template_of_steps_lies_over_the_charts() -> None:
    said = {"steps": {"template": {"spec": {"nodeSelector": {"pool": "steps"}}}}, "images": {"pullSecrets": ["registry"]}}
    (data,) = (one["data"] for one in render(said) if one["kind"] == "ConfigMap")
    cloud = yaml.safe_load(data["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]
    assert cloud["in_cluster"] is True
    assert cloud["earthself"]["workspace"] == {"persistentVolumeClaim": {"claimName": "es-earthself-workspace"}}
    template = cloud["earthself"]["template"]
    assert template["spec"]["nodeSelector"] == {"pool": "steps"}
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "earthself-step"


def test_whoever_signs_on_has_the_roles_of_their_groups() -> None:
    source = named("oidc", "ConfigMap", "-airflow-files")["data"]["webserver_config.py"]
    scope: dict[str, Any] = {"__name__": "webserver_config"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OIDC_CLIENT_SECRET", "from-the-secret")
        exec(compile(source, "webserver_config.py", "exec"), scope)  # noqa: S102 - as Airflow reads it
    (provider,) = scope["OAUTH_PROVIDERS"]
    assert provider["remote_app"]["server_metadata_url"] == "https://login.example.org/realms/earth/.well-known/openid-configuration"
    assert provider["remote_app"]["client_secret"] == "from-the-secret"
    assert scope["AUTH_ROLES_MAPPING"] == values("oidc")["auth"]["oidc"]["roles"]
    said = {"preferred_username": "eva", "email": "eva@example.org", "given_name": "Eva", "family_name": "Maier", "groups": ["eo-admins"]}
    manager = scope["SECURITY_MANAGER_CLASS"]
    who = manager.get_oauth_user_info(object.__new__(manager), "oidc", {"userinfo": said})
    assert who == {"username": "eva", "email": "eva@example.org", "first_name": "Eva", "last_name": "Maier", "role_keys": ["eo-admins"]}


def test_the_values_of_the_cluster_test_are_a_release() -> None:
    assert {one["kind"] for one in objects("values-test")} >= {"Deployment", "Job", "NetworkPolicy"}
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}


@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor", "KubernetesExecutor"])
def test_airflow_finds_the_executor(executor: str, tmp_path: Path) -> None:
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__EXECUTOR": executor}
    done = subprocess.run([sys.executable, "-c", FINDS], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
