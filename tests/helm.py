"""Helm for tests, in a process of its own: its library reads KUBECONFIG when it is loaded, and keeps threads of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "earthself"
RELEASE, NAMESPACE = "es", "earth"
_PROGRAM = """
import json, sys, helm_python
asked = json.load(sys.stdin)
action, words, options = asked["action"], asked["words"], asked["options"]
try:
    if action == "lint":
        said = helm_python.lint(*words, **options)
    elif action == "render":
        with helm_python.Chart.load(words[0]) as chart:
            said = chart.render(words[1], **options)
    else:
        with helm_python.Config(namespace=asked["namespace"]) as config:
            said = getattr(config, action)(*words, **options)
except helm_python.HelmError as error:
    sys.exit(str(error))
print(json.dumps(said))
"""


class HelmRefused(Exception):
    """Helm did not do it; the message is its own."""


def helm(config: str, namespace: str, action: str, /, *words: Any, **options: Any) -> Any:
    """Do what Helm's command of that name does in a cluster; raises `HelmRefused`."""
    asked = {"namespace": namespace, "action": action, "words": words, "options": options}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=os.environ | {"KUBECONFIG": config},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HelmRefused(done.stderr.strip())
    return json.loads(done.stdout)


def lint(values: dict[str, Any]) -> list[str]:
    """What Helm finds wrong with the chart and these values, warnings included."""
    said = helm("", "", "lint", str(CHART), values, strict=True, kube_version="v1.34.0")
    return [one["error"] for one in said["messages"] if one["severity"] > 1]


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the objects of a release without a cluster; raises `HelmRefused`."""
    files = helm("", "", "render", str(CHART), values, name=RELEASE, namespace=NAMESPACE)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others as Helm does."""
    both = {name: merged(base[name], value) for name, value in over.items() if isinstance(value, dict) and isinstance(base.get(name), dict)}
    return {**base, **over, **both}
