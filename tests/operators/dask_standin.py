"""Stands in for custom resources and the dask-kubernetes operator: Kubernetes 1.20 built with Go 1.18 or newer falls over each of them.

A door to the real API server that keeps DaskCluster objects itself, held against the schema that dask-kubernetes ships. What
dask-kubernetes makes of one (deployments, service) is made by its own functions, on the real cluster.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import jsonschema
import yaml

from tests.kube import Cluster

CRDS = files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"
GROUP = "/apis/kubernetes.dask.org/v1"


class StandIn:
    """The door; `known` says whether the kind is there, `operated` whether anybody makes something of its objects."""

    def __init__(self, kube: Cluster, folder: Path, *, known: bool = True, operated: bool = True) -> None:
        self.kube, self.known, self.operated = kube, known, operated
        self.objects: dict[str, dict] = {}
        crd = yaml.safe_load((CRDS / "daskcluster.yaml").read_text())
        self.schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        command = ["kubectl", "--kubeconfig", kube.config, "proxy", "--port=0"]
        self._proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.behind = int(re.findall(r":(\d+)", self._proxy.stdout.readline())[0])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Door,), {"standin": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        clusters = [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}}]
        contexts = [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
        config = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts, "users": [{"name": "u", "user": {}}]}
        self.config = folder / "standin.kubeconfig"
        self.config.write_text(json.dumps(config | {"current-context": "c"}))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._proxy.terminate()
        self._proxy.communicate()

    def answer(self, method: str, name: str, body: dict | None) -> tuple[int, dict]:
        """What the API server says of DaskCluster objects."""
        if not self.known:
            return 404, {"message": "the server could not find the requested resource"}
        if method == "POST":
            return self._make(body)
        if not name:
            return 200, {"items": list(self.objects.values())}
        found = self.objects.get(name)
        if found is None:
            return 404, {"message": f'daskclusters "{name}" not found'}
        if method == "PATCH":
            found["metadata"] |= body["metadata"]
        if method == "DELETE" and found["metadata"].get("finalizers"):
            found["metadata"].setdefault("deletionTimestamp", _now())
        elif method == "DELETE":
            del self.objects[name]
            self.kube.kubectl("delete", "deployments,services", "-l", f"dask.org/cluster-name={name}", "--wait=false")
        return 200, found

    def _make(self, body: dict) -> tuple[int, dict]:
        try:
            jsonschema.validate(body, self.schema)
        except jsonschema.ValidationError as error:
            return 422, {"message": f"{error.json_path}: {error.message}"}
        name = body["metadata"]["name"]
        if name in self.objects:
            return 409, {"message": f"{name} already exists"}
        made = json.loads(json.dumps(body))
        made["metadata"] |= {"uid": f"uid-{time.monotonic_ns()}", "creationTimestamp": _now()}
        self.objects[name] = made
        if self.operated:
            made["status"] = {"phase": "Running"}
            for one in _made_of(made, self.kube.namespace):
                self.kube.kubectl("apply", "-f", "-", text=json.dumps(one))
        return 201, made


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _made_of(cluster: dict, namespace: str) -> list[dict]:
    """What dask-kubernetes makes of a DaskCluster object, by its own functions."""
    from dask_kubernetes.operator.controller import controller

    name, spec = cluster["metadata"]["name"], cluster["spec"]
    notes, labels = cluster["metadata"]["annotations"], cluster["metadata"]["labels"]
    made = [
        controller.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], notes, labels),
        controller.build_scheduler_service_spec(name, spec["scheduler"]["service"], notes, labels),
    ]
    for n in range(spec["worker"]["replicas"]):
        group = f"{name}-default"
        made.append(controller.build_worker_deployment_spec(group, namespace, name, f"{n:010d}", spec["worker"]["spec"], notes, labels))
    return made


class _Door(BaseHTTPRequestHandler):
    standin: StandIn

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(rf"{GROUP}/namespaces/[^/]+/daskclusters(?:/([^/?]+))?(?:\?.*)?", self.path)
        if found is None:
            self._pass_on(body)
            return
        status, said = self.standin.answer(self.command, found[1] or "", json.loads(body) if body else None)
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _pass_on(self, body: bytes) -> None:
        behind = http.client.HTTPConnection("127.0.0.1", self.standin.behind)
        headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
        behind.request(self.command, self.path, body or None, headers)
        answer = behind.getresponse()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while data := answer.read1(65_536):
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:  # who asked is gone
            pass
        finally:
            behind.close()

    do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 - the server's own names

    def log_message(self, *_: object) -> None:
        pass
