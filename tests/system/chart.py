"""The Helm chart installed in the tests' cluster as an operator would, with a real PostgreSQL, certificates, tokens, and the sample."""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from earthself.client import Client, Run, connect
from earthself.local.home import Home
from earthself.local.ports import free_ports
from earthself.local.sample import DATA
from earthself.local.settings import Settings
from earthself.local.sources import eodag_connection
from earthself.signature.access import TokenFile

from tests.helm import CHART, RELEASE, helm, merged
from tests.kube import Cluster
from tests.signature.certificates import authority, pair
from tests.system.running import DAY, served

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "tests" / "deploy" / "values-test.yaml"
USER = 50_000
KINDS = (
    "deployments,replicasets,jobs,cronjobs,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,persistentvolumeclaims,"
    "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses"
)
IMAGES = ("airflow", "earthsignature", "processing")
SECONDS = 600
"""How long parts may take to become ready; a minute and a half on a quiet machine."""


@dataclass
class Installed:
    """A release of the chart."""

    kube: Cluster
    values: dict[str, Any]
    workspace: Path
    folder: Path
    """Where the volumes and the files of its Secrets are."""
    databases: dict[str, str] = field(repr=False)
    port: int
    passwords: dict[str, str] = field(repr=False)

    def client(self, user: str = "creator") -> Client:
        return connect(f"http://127.0.0.1:{self.port}", user, self.passwords[user])

    def change(self, action: str, values: Mapping[str, Any] = {}) -> None:
        """Install or upgrade, and wait until every part is ready."""
        self.values = merged(self.values, values)
        self.helm(action, str(CHART), RELEASE, self.values)

    def helm(self, action: str, /, *words: Any, **options: Any) -> None:
        """Do what Helm's command of that name does, and wait until it is done."""
        helm(self.kube.config, self.kube.namespace, action, *words, **options, wait="watcher", timeout=SECONDS)

    def uninstall(self) -> None:
        """Take it away, and see that nothing of it is left."""
        self.helm("uninstall", RELEASE)
        self.nothing_left()

    def nothing_left(self) -> None:
        """See that no object of the release is there any more."""
        self.kube.wait(lambda: not self.objects(), 120)
        assert not self.kube.left()

    def map(self, area: dict[str, Any], seconds: float = 600, **wanted: Any) -> tuple[Path, dict[str, Any]]:
        """Let it make a map of the sample's day; its folder and its result."""
        return self.made(self.client().land_cover_map(area=area, title="Salzach", **DAY, **wanted), seconds)

    def made(self, run: Run, seconds: float = 600) -> tuple[Path, dict[str, Any]]:
        """Wait for a map; its folder and its result."""
        run.wait(timeout=seconds)
        folder = self.workspace / "runs" / "land_cover_map" / run.run_id
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        assert result["status"] == "complete"
        return folder, result

    def pods(self) -> dict[str, str]:
        """Component -> name of its pod, of those that run; steps' pods are none."""
        found = [pod["metadata"] for pod in self.objects("pods") if pod["status"]["phase"] == "Running"]
        component = "app.kubernetes.io/component"
        return {one["labels"][component]: one["name"] for one in found if component in one["labels"] and "deletionTimestamp" not in one}

    def inside(self, component: str, *words: str) -> str:
        """What a command says in the pod of a component."""
        return self.kube.kubectl("exec", f"deploy/{RELEASE}-earthself-{component}", "--", *words)

    def restart(self, *components: str) -> None:
        """Start parts anew, all together, and wait until they are ready."""
        names = [f"deployment/{RELEASE}-earthself-{component}" for component in components]
        self.kube.kubectl("rollout", "restart", *names)
        for name in names:
            self.kube.kubectl("rollout", "status", name, f"--timeout={SECONDS}s")

    def now(self, cron_job: str) -> None:
        """Do now what a CronJob does at its hour."""
        night = json.loads(self.kube.kubectl("get", "cronjob", f"{RELEASE}-earthself-{cron_job}", "-o", "json"))
        self.job("now", night["spec"]["jobTemplate"]["spec"])

    def job(self, name: str, spec: Mapping[str, Any]) -> None:
        """Run a Job to its good end."""
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        self.kube.kubectl("apply", "-f", "-", text=json.dumps(manifest))
        wait(lambda: "succeeded" in self._job(name), lambda: self.kube.kubectl("logs", f"job/{name}", "--tail=20"), 180)
        self.kube.kubectl("delete", "job", name)

    def _job(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.kube.kubectl("get", "job", name, "-o", "json"))["status"])

    def objects(self, kinds: str = KINDS) -> list[dict[str, Any]]:
        """What of the release is in its namespace."""
        found = self.kube.kubectl("get", kinds, "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "json")
        return list(json.loads(found)["items"])


Charts = Callable[[str], AbstractContextManager[Installed]]
"""Gives what a release needs, by the name of a folder of its own; none is installed yet."""


@contextmanager
def surroundings(config: str, new_database: Callable[[], str], folder: Path, images: Mapping[str, str]) -> Iterator[Installed]:
    """Make what the chart asks for: a namespace, Secrets, folders, databases, the sample's provider. `images`: name -> reference."""
    kube = Cluster(config, f"chart-{secrets.token_hex(4)}")
    api, health, grpc, web, sample = free_ports(5)
    passwords = {user: secrets.token_urlsafe(16) for user in ("admin", "creator")}
    databases = {name: new_database() for name in ("airflow", "platform", "signature")}
    folders = {name: folder / name for name in ("workspace", "logs", "signature", "backup")}
    for path in folders.values():
        path.mkdir(parents=True)
        os.chown(path, USER, USER)
    kube.kubectl("create", "namespace", kube.namespace)
    try:
        for name, values in _secrets(folder, databases, passwords, sample).items():
            secret(kube, name, values)
        with served(DATA, sample):
            values = _values(config, images, folders, {"api": api, "health": health, "grpc": grpc, "web": web})
            yield Installed(kube, values, folders["workspace"], folder, databases, api, passwords)
    finally:
        kube.kubectl("delete", "namespace", kube.namespace, "--wait=false")


def wait(true: Callable[[], bool], what: Callable[[], str], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what()
        time.sleep(0.5)


def _values(config: str, images: Mapping[str, str], folders: Mapping[str, Path], ports: Mapping[str, int]) -> dict[str, Any]:
    server = urlsplit(yaml.safe_load(Path(config).read_text())["clusters"][0]["cluster"]["server"])
    # No cluster address answers here: pods find the API, each other and EarthSignature on the node's loopback.
    where = {"KUBERNETES_SERVICE_HOST": server.hostname, "KUBERNETES_SERVICE_PORT": str(server.port)}
    own: dict[str, Any] = {
        "images": dict(images),
        "airflow": {
            "env": [{"name": name, "value": value} for name, value in where.items()],
            "config": {"core": {"execution_api_server_url": f"http://127.0.0.1:{ports['api']}/execution/"}},
        },
        "apiServer": {"port": ports["api"]},
        "scheduler": {"healthPort": ports["health"]},
        "signature": {
            "address": f"localhost:{ports['grpc']}",
            "port": ports["grpc"],
            "store": {"hostPath": str(folders["signature"])},
            "web": {"port": ports["web"]},
        },
        "workspace": {"hostPath": str(folders["workspace"])},
        "logs": {"hostPath": str(folders["logs"])},
        "steps": {"template": {"spec": {"hostNetwork": True}}},
    }
    return merged(yaml.safe_load(VALUES.read_text()), own)


def _secrets(folder: Path, databases: Mapping[str, str], passwords: Mapping[str, str], sample: int) -> dict[str, dict[str, str]]:
    signer = authority()
    certificate, key = pair(folder, signer)
    tokens = TokenFile(folder / "tokens.json")
    token = tokens.add("platform", "write")
    ours = {name: databases[name].replace("postgresql://", "postgresql+psycopg://") for name in ("airflow", "platform")}
    sources = eodag_connection(Settings(folder, sample_port=sample), Home(folder))
    return {
        "test-database": {**databases, **ours},
        "test-connections": {"AIRFLOW_CONN_EODAG_DEFAULT": json.dumps(sources)},
        "test-passwords": {"passwords.json": json.dumps(passwords)},
        "test-signature-tls": {
            "tls.crt": certificate.read_text(),
            "tls.key": key.read_text(),
            "ca.crt": signer.write(folder / "ca.crt").read_text(),
        },
        "test-signature-tokens": {"tokens.json": tokens.path.read_text(), "token": token},
    }


def secret(kube: Cluster, name: str, values: Mapping[str, str]) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    kube.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}))
