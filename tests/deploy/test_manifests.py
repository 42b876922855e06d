"""What a release consists of: accepted by every Kubernetes that is in use, restricted, whole, without secrets, restarted when it must."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.rendered import FILES, RESTRICTED, component, containers, named, objects, of_kind, pods, values
from tests.helm import lint, merged, render

OTHERS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, which Kubernetes itself does not know."""
SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|_KEY|SQL_ALCHEMY_CONN(_ASYNC)?|DATABASE_URL|_DATABASE|BROKER_URL)$")
"""Names of variables whose values are secrets."""
PASSWORD = re.compile(r'"password\\*": *\\*"([^"]*)|://[^/@\s:]*:([^/@\s]+)@')


@pytest.mark.parametrize("name", FILES)
def test_helm_finds_nothing_to_mend(name: str) -> None:
    assert lint(values(name)) == []


@pytest.mark.parametrize("version", ["1.30", "1.31", "1.32", "1.33", "1.34"])
@pytest.mark.parametrize("name", FILES)
def test_each_kubernetes_in_use_accepts_it_strictly(name: str, version: str) -> None:
    own = [one for one in objects(name) if one["kind"] not in OTHERS]
    templates = [yaml.safe_load(one["data"]["pod.yaml"]) for one in own if one["kind"] == "ConfigMap" and "pod.yaml" in one["data"]]
    assert own
    for one in own + templates:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("name", RESTRICTED)
def test_every_pod_is_fit_for_the_restricted_level(name: str) -> None:
    found = list(pods(name))
    assert found
    for pod in found:
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
        assert {kind for volume in spec["volumes"] for kind in volume} <= {
            "name",
            "emptyDir",
            "configMap",
            "secret",
            "persistentVolumeClaim",
        }
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not {"privileged", "runAsUser", "runAsNonRoot"} & set(own)
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("name", FILES)
def test_only_those_that_run_tasks_may_ask_kubernetes(name: str) -> None:
    runs = (
        {"triggerer", "worker"}
        if values(name).get("airflow", {}).get("executor", "LocalExecutor") != "LocalExecutor"
        else {"triggerer", "scheduler"}
    )
    allowed = runs | {"scheduler"} if values(name).get("airflow", {}).get("executor") == "KubernetesExecutor" else runs
    assert {component(pod) for pod in pods(name) if pod["spec"]["automountServiceAccountToken"]} == allowed
    bound = {subject["name"] for binding in of_kind(name, "RoleBinding") for subject in binding["subjects"]}
    for pod in pods(name):
        assert (pod["spec"]["serviceAccountName"] in bound) == (component(pod) in allowed)
    for role in of_kind(name, "Role"):
        for rule in role["rules"]:
            dask = {"daskclusters"} if values(name).get("steps", {}).get("dask") else set()
            allowed_kinds = {"": {"pods", "pods/log", "secrets", "events"}, "kubernetes.dask.org": dask}
            assert all(set(rule["resources"]) <= allowed_kinds[group] for group in rule["apiGroups"])
            assert "*" not in rule["verbs"]
    assert not [one for one in objects(name) if one["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize("name", FILES)
def test_no_secret_stands_in_a_manifest(name: str) -> None:
    """But the keys that Airflow's parts share, where no Secret of them is named."""
    made = [one["metadata"]["name"] for one in of_kind(name, "Secret")]
    assert made == ([] if values(name).get("keys", {}).get("existingSecret") else ["es-earthself-keys"])
    for text in literals(name):
        for said in PASSWORD.finditer(text):
            assert (said[1] or said[2]).startswith("$("), text


def literals(name: str) -> list[str]:
    """Everything that a manifest says itself, instead of referring to a Secret."""
    variables = [one for pod in pods(name) for container in containers(pod) for one in container.get("env", [])]
    for one in variables:
        assert ("secretKeyRef" in one.get("valueFrom", {})) == bool(SECRET.search(one["name"])) or one["value"].startswith("/"), one["name"]
    return [one["value"] for one in variables if "value" in one] + [
        text for one in of_kind(name, "ConfigMap") for text in one["data"].values()
    ]


@pytest.mark.parametrize("name", FILES)
def test_what_pods_refer_to_is_there_or_is_named_by_the_values(name: str) -> None:
    here = {(one["kind"], one["metadata"]["name"]) for one in objects(name)}
    given = str(values(name)) + str(yaml.safe_load((FILES["local"].parents[3] / "deploy/helm/earthself/values.yaml").read_text()))
    for pod in pods(name):
        for kind, referred in references(pod):
            assert (kind, referred) in here or f"'{referred}'" in given, (component(pod), kind, referred)


def references(pod: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("ServiceAccount", pod["spec"]["serviceAccountName"])]
    for volume in pod["spec"]["volumes"]:
        found += [("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
        found += [("Secret", volume["secret"]["secretName"])] if "secret" in volume else []
        found += [("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])] if "persistentVolumeClaim" in volume else []
    for container in containers(pod):
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["spec"]["volumes"]}
        for source in container.get("envFrom", []):
            found += (
                [("ConfigMap", source["configMapRef"]["name"])] if "configMapRef" in source else [("Secret", source["secretRef"]["name"])]
            )
        for variable in container.get("env", []):
            found += [("Secret", variable["valueFrom"]["secretKeyRef"]["name"])] if "secretKeyRef" in variable.get("valueFrom", {}) else []
    return found


def test_changed_settings_start_airflows_parts_anew_and_migrate_nothing() -> None:
    before, after = (render({"airflow": {"config": {"core": {"parallelism": n}}}}) for n in ("32", "33"))
    assert checksums(before).keys() == {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert all(checksums(after)[part] != said for part, said in checksums(before).items())
    assert migration(before) == migration(after)
    assert migration(render({"images": {"airflow": "earthself-airflow:0.2.0"}})) != migration(before), (
        "a Job cannot be changed, so it is another one"
    )


def checksums(found: list[dict[str, Any]]) -> dict[str, str]:
    templates = [one["spec"]["template"] for one in found if one["kind"] == "Deployment"]
    return {component(pod): said for pod in templates if (said := pod["metadata"].get("annotations", {}).get("checksum/config"))}


def migration(found: list[dict[str, Any]]) -> str:
    (name,) = (one["metadata"]["name"] for one in found if one["kind"] == "Job")
    return str(name)


def test_parts_wait_for_the_tables() -> None:
    for pod in pods("local"):
        if pod["spec"]["containers"][0]["image"].startswith("earthself-airflow") and component(pod) != "migrate":
            assert pod["spec"]["initContainers"][0]["args"][:2] == ["db", "check-migrations"]


def test_what_scales_by_itself_is_not_set_back_by_an_upgrade() -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("everything", "HorizontalPodAutoscaler")}
    assert scaled == {"es-earthself-api-server", "es-earthself-web", "es-earthself-worker"}
    for one in of_kind("everything", "Deployment"):
        assert ("replicas" in one["spec"]) == (one["metadata"]["name"] not in scaled)


def test_each_part_that_runs_has_a_budget_for_disruptions() -> None:
    assert selectors("PodDisruptionBudget") == selectors("Deployment")


def selectors(kind: str) -> list[str]:
    return sorted(one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for one in of_kind("everything", kind))


def test_an_image_named_by_its_digest_is_what_manifests_of_runs_repeat() -> None:
    scheduler = named("everything", "Deployment", "-scheduler")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "EARTHSELF_IMAGE", "value": values("everything")["images"]["airflow"]} in scheduler["env"]


def test_volumes_with_what_people_made_stay_when_the_release_goes() -> None:
    for one in of_kind("everything", "PersistentVolumeClaim"):
        kept = one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        assert kept == (one["metadata"]["name"] != "es-earthself-broker"), one["metadata"]["name"]


def test_backups_are_whole_under_their_name_or_not_there() -> None:
    script = named("everything", "CronJob", "-backup-databases")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0][
        "command"
    ][2]
    assert script.index("pg_dump --format=custom") < script.index("mv ") < script.index("-delete")
    export = named("everything", "CronJob", "-backup-signature")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert export["args"] == ["export", "/backup/earthsignature"]


def changed(name: str, over: dict[str, Any], kind: str, ending: str) -> dict[str, Any]:
    """An object of a release whose values are changed."""
    (found,) = (one for one in render(merged(values(name), over)) if one["kind"] == kind and one["metadata"]["name"].endswith(ending))
    return found


def test_where_addresses_say_too_little_peers_are_named_as_kubernetes_does() -> None:
    peers = [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "pg"}}}]
    to_database = changed("local", {"networkPolicy": {"database": {"to": peers}}}, "NetworkPolicy", "-to-database")
    assert to_database["spec"]["egress"] == [{"to": peers, "ports": [{"port": 5432}]}]
    narrow = changed("local", {"networkPolicy": {"providers": {"cidr": "203.0.113.0/24"}}}, "NetworkPolicy", "-web-to-outside")
    assert narrow["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "an exception must lie within"


def test_an_earthsignature_of_another_release_can_be_asked() -> None:
    over = {"signature": {"enabled": False, "address": "signature.shared.svc:50055"}}
    policy = changed("local", over, "NetworkPolicy", "-to-signature")
    assert policy["spec"]["egress"][0]["ports"] == [{"port": 50055}]
    assert policy["spec"]["podSelector"]["matchExpressions"][0]["values"] == ["scheduler", "triggerer"]


def test_an_address_that_others_balance_is_not_what_the_server_itself_is_asked_at() -> None:
    over = {"signature": {"address": "signature.example.org:443", "tlsSecret": "tls"}}
    (pod,) = changed("local", over, "Deployment", "-signature")["spec"]["template"]["spec"]["containers"]
    assert pod["readinessProbe"]["exec"]["command"][-1] == "signature.example.org:50051"


def test_behind_an_ingress_the_web_server_believes_what_it_says_of_scheme_and_host() -> None:
    (web,) = named("local", "Deployment", "-api-server")["spec"]["template"]["spec"]["containers"]
    assert web["args"] == ["api-server", "--proxy-headers"]
    assert {"name": "FORWARDED_ALLOW_IPS", "value": "*"} in web["env"]


def test_rules_for_what_nobody_gathers_are_not_installed() -> None:
    over = {"monitoring": {"prometheusRule": {"enabled": True}, "openTelemetry": {"endpoint": ""}}, "broker": {"enabled": False}}
    made = {one["metadata"]["name"].rpartition("-")[2] for one in render(merged(values("local"), over)) if one["kind"] == "PrometheusRule"}
    assert made == {"platform", "steps", "freshness", "signature"}
    assert {one["metadata"]["name"].rpartition("-")[2] for one in of_kind("everything", "PrometheusRule")} == made | {"airflow", "broker"}


def test_the_brokers_tokens_may_be_more_than_the_one_that_callers_send() -> None:
    pod = changed("everything", {"broker": {"tokensKey": "both"}}, "Deployment", "-broker")["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][-2:] == ["--token-file", "/tokens/tokens"]
    (volume,) = (one for one in pod["volumes"] if one["name"] == "tokens")
    assert volume["secret"]["items"] == [{"key": "both", "path": "tokens"}]


def test_whole_numbers_of_settings_stay_whole() -> None:
    made = changed("local", {"airflow": {"config": {"core": {"max_map_length": 2000000}}}}, "ConfigMap", "-airflow")
    assert made["data"]["AIRFLOW__CORE__MAX_MAP_LENGTH"] == "2000000"


def test_a_scheduler_gets_long_to_end_only_where_tasks_run_in_it() -> None:
    for name in FILES:
        pod = named(name, "Deployment", "-scheduler")["spec"]["template"]["spec"]
        local = values(name).get("airflow", {}).get("executor", "LocalExecutor") == "LocalExecutor"
        assert pod["terminationGracePeriodSeconds"] == (300 if local else 60)
    assert {values(name).get("airflow", {}).get("executor") for name in FILES} >= {"KubernetesExecutor", "CeleryExecutor"}
