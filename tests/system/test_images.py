"""The image of the built-in steps, built as a user builds it and run as a pod runs it: the same maps as here, and no more than it may."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.local.demo import SAMPLE_AREA
from earthself.local.sample import DATA

from tests.images import USER, Image, Images, command

ROOT = Path(__file__).parents[2]
TMP = "/tmp"  # noqa: S108 - the pod's own
CHAIN = (
    ("sign", "found", "signed", "--mask", "csmask"),
    ("mosaic", "signed", "mosaic"),
    ("zonal_statistics", "mosaic", "statistics"),
    ("quicklook", "mosaic", "quicklook"),
    ("indices", "found", "indices", "--names", "NDVI"),
)
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def image(images: Images) -> Image:
    return images("processing")


@pytest.fixture
def in_pod(image: Image, cluster_config: str) -> Iterator[Callable[[str, Path], str]]:
    """Run a shell script in a pod that the restricted level of Pod Security admits, with one folder of this machine."""
    name = f"t-{secrets.token_hex(4)}"
    kubectl = ["kubectl", "--kubeconfig", cluster_config, "-n", name]
    command(*kubectl, "create", "namespace", name)

    def run(script: str, folder: Path) -> str:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "step"},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "step",
                        "image": image.reference,
                        "imagePullPolicy": "Never",
                        "command": ["sh", "-euc", script],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "work", "mountPath": str(folder)}, {"name": "tmp", "mountPath": TMP}],
                    }
                ],
                "volumes": [{"name": "work", "hostPath": {"path": str(folder)}}, {"name": "tmp", "emptyDir": {}}],
            },
        }
        subprocess.run([*kubectl, "apply", "-f", "-"], input=json.dumps(pod).encode(), check=True, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 300
        while (phase := command(*kubectl, "get", "pod", "step", "-o", "jsonpath={.status.phase}")) not in {"Succeeded", "Failed"}:
            assert time.monotonic() < until, command(*kubectl, "describe", "pod", "step")
            time.sleep(0.2)
        log = command(*kubectl, "logs", "step")
        assert phase == "Succeeded", log
        return log

    yield run
    command(*kubectl, "delete", "namespace", name, "--wait=false")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that the pod's user may write to, with the demo's products and area in `found`."""
    found = tmp_path / "work" / "found"
    shutil.copytree(DATA, found)
    links = []
    for path in sorted(found.glob("*.json")):
        item = json.loads(path.read_text())
        item["properties"] |= {"earthself:observation": item["id"], "earthself:baseline": None, "earthself:provider": "sample"}
        path.write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./{path.name}"})
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "products", "description": "of the sample", "links": links}
    (found / "catalog.json").write_text(json.dumps(catalog))
    shutil.copy(SAMPLE_AREA, found / "area.geojson")
    os.chown(found.parent, USER, USER)
    return found.parent


def chain(folder: Path, prefix: str) -> Iterator[list[str]]:
    """The steps of a map and what else there is to make, as commands; outputs lie in folders that begin with the prefix."""
    for name, source, output, *parameters in CHAIN:
        read = folder / (source if source == "found" else prefix + source)
        yield ["earthself-step", name, "--input", str(read), "--output", str(folder / (prefix + output)), *parameters]


def test_the_steps_make_in_a_pod_what_they_make_here(in_pod, shared):
    here = Path(sys.executable).parent
    for words in chain(shared, "here-"):
        command(str(here / words[0]), *words[1:])
    in_pod("\n".join(shlex.join(words) for words in chain(shared, "pod-")), shared)

    made = sorted(path.relative_to(shared) for path in shared.glob("here-*/**/*") if path.suffix in {".tif", ".csv", ".png"})
    assert {path.suffix for path in made} == {".tif", ".csv", ".png"}
    for path in made:
        other = shared / str(path).replace("here-", "pod-", 1)
        assert other.stat().st_uid == USER
        if path.suffix != ".tif":
            assert other.read_bytes() == (shared / path).read_bytes(), path
            continue
        with rasterio.open(shared / path) as mine, rasterio.open(other) as its:
            assert str(its.profile) == str(mine.profile)  # NaN equals nothing, itself included
            assert its.descriptions == mine.descriptions
            np.testing.assert_array_equal(its.read(), mine.read(), str(path))


def test_a_pod_may_do_nothing_but_its_work(in_pod, shared):
    steps = sorted(entry_points(group="earthself.steps").names)
    script = (
        "id -u; id -g; sed -n 's/^CapEff:\\t//p; s/^CapBnd:\\t//p; s/^Seccomp:\\t//p; s/^NoNewPrivs:\\t//p' /proc/self/status\n"
        "for place in / /opt/earthself /usr/local /var/tmp /root; do ! touch $place/x 2>/dev/null || echo wrote to $place; done\n"
        "find / -xdev ! -type d '(' -name pip -o -name uv -o -name 'pip*.conf' -o -name gcc -o -name cc ')' 2>/dev/null || true\n"
        "echo asked\n"
        "python -m earthself.processing --help\n" + "\n".join(f"earthself-step {name} --help" for name in steps)
    )
    facts, _, told = in_pod(script, shared).partition("asked\n")
    assert facts.split() == [str(USER), str(USER), "0" * 16, "0" * 16, "1", "2"]
    assert all(re.search(rf"^  {name}$", told, re.MULTILINE) for name in steps)


def test_an_image_says_what_it_is_and_what_is_in_it(image, base, in_pod, shared):
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in image.config["Labels"].items()}
    assert labels["revision"].removesuffix("-dirty") == image.commit
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.name"] == base
    assert re.fullmatch("sha256:[0-9a-f]{64}", labels["base.digest"])
    assert f"EARTHSELF_COMMIT={labels['revision']}" in image.config["Env"]
    assert image.config["User"] == f"{USER}:{USER}"

    named = {(each["purl"].split("/")[0], plain(each["name"])) for each in image.sbom["components"]}
    ask = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    inside = {("pkg:pypi", plain(name)) for name in in_pod(f'python -c "{ask}"', shared).split()}
    assert inside - named == set()
    assert {("pkg:deb", "libc6"), ("pkg:deb", "libssl3")} < named

    locked = set(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    found = {(plain(each["name"]), each["version"]) for each in image.sbom["components"] if each["purl"].startswith("pkg:pypi")}
    ours = {one for one in found if one[0].startswith("earthself-")}
    assert {name for name, _ in ours} == {"earthself-data", "earthself-processing", "earthself-signature"}
    assert found - ours - {(plain(name), version) for name, version in locked} == set()


def plain(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
