"""A release as its manifests, for the values files that stand beside, each rendered once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.helm import render

HERE = Path(__file__).parent
FILES = {path.stem: path for path in (*sorted((HERE / "values").glob("*.yaml")), HERE / "values-test.yaml")}
RESTRICTED = [name for name in FILES if name != "values-test"]
"""Values for clusters that admit nothing but the restricted level; the tests' own cluster needs the node's network."""


@cache
def values(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(FILES[name].read_text()))


@cache
def objects(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(render(values(name)))


def of_kind(name: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in objects(name) if one["kind"] == kind]


def named(name: str, kind: str, ending: str) -> dict[str, Any]:
    (found,) = (one for one in of_kind(name, kind) if one["metadata"]["name"].endswith(ending))
    return found


def pods(name: str) -> Iterator[dict[str, Any]]:
    """Every pod that a release makes, by whatever makes it, with the metadata that it gets."""
    for one in objects(name):
        if one["kind"] in ("Deployment", "Job"):
            yield one["spec"]["template"]
        elif one["kind"] == "CronJob":
            yield one["spec"]["jobTemplate"]["spec"]["template"]
        elif one["kind"] == "ConfigMap" and "pod.yaml" in one["data"]:
            yield yaml.safe_load(one["data"]["pod.yaml"])


def component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
