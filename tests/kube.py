"""A namespace of a real Kubernetes cluster, as tests see it: with kubectl, as an operator would."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress

HOW_TO_GET = "no Kubernetes cluster: name one by KUBECONFIG (kind, k3d, minikube, or the tests' own), with the image localhost/busybox:1"

_LOOK_SECONDS = 5.0


class Cluster:
    def __init__(self, config: str, namespace: str) -> None:
        self.config, self.namespace = config, namespace

    def kubectl(self, *words: str, text: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", self.config, "-n", self.namespace, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout

    def pods(self) -> list[dict]:
        return json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]

    def begin(self) -> None:
        """Wait until a pod runs or has run."""
        self.wait(lambda: any(pod["status"].get("phase", "Pending") != "Pending" for pod in self.pods()))

    def left(self) -> list[str]:
        """What of ours is there still, but for what the namespace has by itself."""
        kinds = "pods,secrets,configmaps,persistentvolumeclaims"
        found = json.loads(self.kubectl("get", kinds, "-l", "app.kubernetes.io/managed-by=earthself", "-o", "json"))["items"]
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found]

    def wait(self, true, seconds: float = 60.0) -> None:
        """Wait until it is so; pods that go are changed meanwhile: a kubelet before 1.22 may look at them again only after a minute."""
        until = time.monotonic() + seconds
        look = time.monotonic() + _LOOK_SECONDS
        while not true():
            now = time.monotonic()
            assert now < until, f"it did not become so within {seconds} s: {self.kubectl('get', 'pods')}"
            if now >= look:
                look = now + _LOOK_SECONDS
                self._change([pod["metadata"]["name"] for pod in self.pods() if "deletionTimestamp" in pod["metadata"]])
            time.sleep(0.1)

    def _change(self, pods: list[str]) -> None:
        for name in pods:
            with suppress(subprocess.CalledProcessError):  # it has just gone
                self.kubectl("annotate", "pod", name, f"looked-at={time.time():.0f}", "--overwrite")
