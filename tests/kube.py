"""A namespace of a real Kubernetes cluster, as tests see it: with kubectl, as an operator would."""

from __future__ import annotations

import json
import subprocess
import time

HOW_TO_GET = "no Kubernetes cluster: name one by KUBECONFIG (kind, k3d, minikube, or the tests' own), with the image localhost/busybox:1"


class Cluster:
    def __init__(self, config: str, namespace: str) -> None:
        self.config, self.namespace = config, namespace

    def kubectl(self, *words: str, text: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", self.config, "-n", self.namespace, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout

    def pods(self) -> list[dict]:
        return json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]

    def left(self) -> list[str]:
        """What of ours is there still, but for what the namespace has by itself."""
        kinds = "pods,secrets,configmaps,persistentvolumeclaims"
        found = json.loads(self.kubectl("get", kinds, "-l", "app.kubernetes.io/managed-by=earthself", "-o", "json"))["items"]
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found]

    def wait(self, true, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"it did not become so within {seconds} s: {self.kubectl('get', 'pods')}"
            time.sleep(0.1)
