"""Our container images, built as a user builds them on a Debian made here, and given to the tests' cluster; each once in a session."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = "localhost/earthself-test-base:bookworm"
STAGER = "localhost/earthself-test-stager:1"
USER = 50_000
_LIBRARY = "opt/earthself/lib"


@dataclass(frozen=True)
class Image:
    """A built image that the cluster has, too."""

    reference: str
    commit: str
    config: dict
    sbom: dict


Images = Callable[[str], Image]
"""Gives the image of a name: processing, earthsignature, airflow."""


def command(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[:3]} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def loader() -> list[str]:
    """The command that gives an image to the cluster's nodes: its name, its root file system, its configuration."""
    named = os.environ.get("EARTHSELF_TEST_IMAGE_LOADER")
    if not named:
        pytest.skip("nothing loads images into the cluster: name a command by EARTHSELF_TEST_IMAGE_LOADER (docs/images.md)")
    return shlex.split(named)


@pytest.fixture(scope="session")
def tool() -> str:
    found = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if found is None:
        pytest.skip("no podman or docker; get one with: apt-get install podman")
    return found


@pytest.fixture(scope="session")
def base(tool: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python, as small as it comes, from Debian itself; kept from one session to the next."""
    if subprocess.run([tool, "image", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return BASE
    if shutil.which("debootstrap") is None or os.getuid() != 0:
        pytest.skip("no debootstrap, or not root; get it with: apt-get install debootstrap")
    folder = tmp_path_factory.mktemp("base")
    command("debootstrap", "--variant=minbase", "--include=python3,ca-certificates", "bookworm", str(folder / "root"))
    for cache in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(folder / "root" / cache)
    command("tar", "-C", str(folder / "root"), "--owner=0", "--group=0", "-cf", str(folder / "root.tar"), ".")
    command(tool, "import", str(folder / "root.tar"), BASE)
    shutil.rmtree(folder)
    return BASE


@pytest.fixture(scope="session")
def images(cluster_config: str, loader: list[str], tool: str, base: str, tmp_path_factory: pytest.TempPathFactory) -> Images:
    made: dict[str, Image] = {}
    folder = tmp_path_factory.mktemp("images")

    def give(name: str) -> Image:
        if name not in made:
            made[name] = _made(name, loader, tool, base, folder)
        return made[name]

    return give


@pytest.fixture(scope="session")
def stager(cluster_config: str, loader: list[str], tool: str, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that stages and can do nothing else: in seconds where that of the steps takes minutes."""
    folder = tmp_path_factory.mktemp("stager")
    packed(tool, base, folder / "root.tar")
    with tarfile.open(folder / "root.tar", "a") as tar:
        for name in sorted(_needed("boto3", set())):
            for file in distribution(name).files or ():
                if file.suffix != ".pyc" and not file.parts[0].startswith(".."):
                    tar.add(str(file.locate()), f"{_LIBRARY}/{file}", recursive=False)
        for path in sorted((ROOT / "data_access").glob("earthself/data/**/*.py")):
            tar.add(path, f"{_LIBRARY}/{path.relative_to(ROOT / 'data_access')}", recursive=False)
        python = b'#!/bin/sh\nexec /usr/bin/python3 "$@"\n'
        script = tarfile.TarInfo("opt/earthself/bin/python")
        script.size, script.mode = len(python), 0o755
        tar.addfile(script, io.BytesIO(python))
    env = [f"PYTHONPATH=/{_LIBRARY}", "PATH=/opt/earthself/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", "HOME=/tmp"]
    command(*loader, STAGER, str(folder / "root.tar"), json.dumps({"Env": env}))
    (folder / "root.tar").unlink()
    return STAGER


def packed(tool: str, reference: str, path: Path) -> None:
    """Write an image's root file system."""
    container = command(tool, "create", reference, *(["true"] if reference == BASE else [])).strip()
    command(tool, "export", "-o", str(path), container)
    command(tool, "rm", container)


def _made(name: str, loader: list[str], tool: str, base: str, folder: Path) -> Image:
    commit = command("git", "rev-parse", "HEAD").strip()
    options = ["--base", base, "--with", tool, "--tag", "test", "--out", str(folder), "--json"]
    built = json.loads(command(sys.executable, "images/build.py", name, *options))[name]
    config = json.loads(command(tool, "image", "inspect", built["reference"]))[0]["Config"]
    packed(tool, built["reference"], folder / "root.tar")
    command(*loader, built["reference"], str(folder / "root.tar"), json.dumps(config))
    (folder / "root.tar").unlink()
    return Image(built["reference"], commit, config, json.loads(Path(built["sbom"]).read_text()))


def _needed(name: str, seen: set[str]) -> set[str]:
    if name not in seen:
        seen.add(name)
        for said in requires(name) or ():
            if "extra ==" not in said and (found := re.match(r"[\w.-]+", said)):
                _needed(found[0], seen)
    return seen
