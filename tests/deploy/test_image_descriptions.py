"""What the Containerfiles say, held against what our distributions need; tests/system builds the images themselves."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    tomllib.loads(path.read_text())["project"]["name"]: str(path.parent.relative_to(ROOT))
    for path in [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml")]
}


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("images_build", ROOT / "images/build.py")
    made = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up.
    import sys

    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def containerfile(image: str) -> str:
    return (ROOT / "images" / image / "Containerfile").read_text().replace("\\\n", " ")


def installed(text: str, what: str) -> set[str]:
    """Give the folders of our distributions that a line installs."""
    found = re.search(rf"install {what} ([^\n]+)", text)
    return {word.strip("'").removeprefix("./").partition("[")[0] for word in found[1].split() if "./" in word} if found else set()


def needed(folder: str) -> set[str]:
    """Give the folders of our distributions that one of them needs, by its description."""
    says = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["dependencies"]
    return {FOLDERS[name] for each in says if (name := re.match(r"[\w-]+", each)[0]) in FOLDERS}


@pytest.mark.parametrize("image", ["processing", "earthsignature", "airflow", "probes"])
def test_an_image_has_all_that_its_distributions_need_and_the_build_sees_it(image, build):
    text = containerfile(image)
    folders = installed(text, "code")
    assert folders
    assert folders == installed(text, "dependencies")
    assert set.union(*map(needed, folders)) <= folders
    for folder in folders:
        assert f"COPY {folder}/pyproject.toml {folder}/" in text
        assert f"COPY {folder} {folder}\n" in text
        assert any(f"{folder}/".startswith(f"{seen}/") for seen in build.SOURCES)


def test_every_image_that_is_built_is_described_and_is_nobody_s_root(build):
    assert sorted(build.IMAGES) == sorted(path.parent.name for path in ROOT.glob("images/*/Containerfile"))
    for image in build.IMAGES:
        assert "\nUSER 50000:50000\n" in containerfile(image)


def test_the_probes_image_has_every_program_that_a_probe_needs():
    from earthself.benchmark.probes import PROBES

    packages = re.search(r"install system ([^&\n]+)", containerfile("probes"))[1].split()
    # Programs that Debian's own small base brings, and those of our distributions, need no package.
    assert {need for probe in PROBES.values() for need in probe.needs} <= {*packages, "sh", "earthself-step"}
    assert 'ENTRYPOINT ["earthself-suggest"]' in containerfile("probes")
