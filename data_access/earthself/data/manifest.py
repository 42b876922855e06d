"""The manifest of a run: what it was made from, how, and what came out - enough to explain the run and to repeat it.

It may be published, so it holds no secrets: addresses lose their query and login, and the schema refuses such.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from earthself.data.dates import format_instant
from earthself.data.errors import BadInput
from earthself.data.workspace import read_json, write_json

VERSION = 1
"""Version of the form; the schema is `schemas/manifest.schema.json` of this package."""
DISTRIBUTIONS = tuple(f"earthself-{name}" for name in ("client", "data", "local", "operators", "portal", "processing", "signature"))
"""All that may be installed; going through everything that is would take seconds."""
IMAGE_VARIABLE = "EARTHSELF_IMAGE"
"""Names the image that code runs in, with its digest."""
COMMIT_VARIABLE = "EARTHSELF_COMMIT"
"""Names the commit that the code was built from, where there is no working copy."""


@dataclass(frozen=True)
class InputFile:
    """Pixels (or a file) that were read."""

    product: str
    """Id of the product."""
    asset: str
    """Key of the asset."""
    href: str
    """Address without query and login."""
    sha256: str
    """SHA-256 of the pixels read, or of the file where it was taken whole."""
    bytes: int
    """How many bytes that is."""
    window: tuple[int, int, int, int] | None = None
    """Column, row, width, height of what was read, in pixels of the asset; None is all."""
    observation: str | None = None
    """`earthself:observation` of the product."""
    baseline: str | None = None
    """`earthself:baseline` of the product."""
    provider: str | None = None
    """EODAG provider."""
    offset: int | None = None
    """Radiometric offset that was added to the digital numbers."""
    reused: bool = False
    """Whether this was read by an earlier run, whose signature was taken."""
    instead_of: tuple[Mapping[str, str], ...] = ()
    """Providers that could not give the observation before this one did: `provider` and `error` of each."""


@dataclass(frozen=True)
class OutputFile:
    """One file that the run leaves."""

    name: str
    """What it is, such as `land_cover`."""
    href: str
    """Path relative to the manifest, or URL."""
    sha256: str
    """SHA-256 of the file."""
    bytes: int
    """Size of the file."""

    @classmethod
    def of(cls, name: str, path: Path, folder: Path) -> OutputFile:
        """Describe a file below the manifest's folder."""
        return cls(name, path.relative_to(folder).as_posix(), sha256_of(path), path.stat().st_size)


@dataclass(frozen=True)
class Manifest:
    """All that is known about a run at its end."""

    dag_id: str
    """Workflow."""
    run_id: str
    """Run."""
    created: datetime
    """When the manifest was written."""
    parameters: Mapping[str, Any]
    """The validated request, defaults filled in."""
    legend: str | None
    """`clc:1`, or None where nothing was classified."""
    model: str | None
    """`name:version`, or None where nothing was classified."""
    inputs: tuple[InputFile, ...]
    """Everything that was read."""
    outputs: tuple[OutputFile, ...]
    """Everything that was made, the manifest and result.json aside."""
    durations: Mapping[str, float]
    """Seconds per phase."""
    bytes_moved: int
    """Bytes read over the net."""
    title: str | None = None
    """What a person called the run."""
    model_sha256: str | None = None
    """SHA-256 of the model's file."""
    preprocessing: str | None = None
    """`earthself:preprocessing` of the signatures."""
    superseded: tuple[str, ...] = ()
    """Ids of products that were found and not used because a newer copy was."""
    warnings: tuple[str, ...] = ()
    """What a person should know."""
    code: Mapping[str, str] | None = None
    """Version of each distribution of EarthSelf; None takes those installed."""
    commit: str | None = None
    """Commit of the code, with `-dirty` where files differ from it; None takes `code_commit()`."""
    image: str | None = None
    """Image with digest; None takes what EARTHSELF_IMAGE says."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Image with digest by step, of those that ran in pods."""

    def to_dict(self) -> dict[str, Any]:
        """The document, checked; raises `BadInput` for anything that the schema refuses."""
        model = None if self.model is None else {"id": self.model} | ({"sha256": self.model_sha256} if self.model_sha256 else {})
        document = {
            "version": VERSION,
            "run": {"dag_id": self.dag_id, "run_id": self.run_id, "title": self.title},
            "created": format_instant(self.created),
            "code": {
                "versions": dict(code_versions() if self.code is None else self.code),
                "commit": self.commit or code_commit(),
                "image": self.image or os.environ.get(IMAGE_VARIABLE) or None,
                "images": dict(self.images),
            },
            "parameters": dict(self.parameters),
            "legend": self.legend,
            "model": model,
            "preprocessing": self.preprocessing,
            "inputs": [_input(each) for each in self.inputs],
            "superseded": list(self.superseded),
            "outputs": [asdict(each) for each in self.outputs],
            "durations": dict(self.durations),
            "bytes_moved": self.bytes_moved,
            "warnings": list(self.warnings),
        }
        check_manifest(document)
        return document

    def write(self, path: Path) -> Path:
        """Write the checked document, whole or not at all."""
        return write_json(path, self.to_dict())


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, checked; raises `NotThere` or `BadInput`."""
    document: dict[str, Any] = read_json(path)
    check_manifest(document)
    return document


def check_manifest(document: Any) -> None:  # noqa: ANN401 - whatever a file held
    """Raise `BadInput` for a document that is no manifest; the message names the place and what is wrong there."""
    error = next(iter(_validator().iter_errors(document)), None)
    if error is not None:
        where = "/".join(str(p) for p in error.absolute_path) or "document"
        raise BadInput(f"this is no manifest of version {VERSION}: {where}: {error.message[:300]}")


def changed_outputs(document: Mapping[str, Any], folder: Path) -> list[str]:
    """The names of outputs that are no longer what the manifest says: gone, or with other bytes."""
    gone = []
    for output in document["outputs"]:
        path = folder / output["href"]
        if not path.is_file() or path.stat().st_size != output["bytes"] or sha256_of(path) != output["sha256"]:
            gone.append(str(output["name"]))
    return gone


def inputs_of(items: Iterable[Mapping[str, Any]]) -> tuple[InputFile, ...]:
    """Everything that a set of signature items was made from, after their `earthself:inputs`."""
    found = []
    for item in items:
        properties = item["properties"]
        for entry in properties.get("earthself:inputs") or ():
            window = entry.get("window")
            found.append(
                InputFile(
                    product=str(properties.get("earthself:product", item["id"])),
                    asset=str(entry["asset"]),
                    href=str(entry["href"]),
                    sha256=str(entry["sha256"]),
                    bytes=int(entry["bytes"]),
                    window=None if window is None else (int(window[0]), int(window[1]), int(window[2]), int(window[3])),
                    observation=properties.get("earthself:observation"),
                    baseline=properties.get("earthself:baseline"),
                    provider=properties.get("earthself:provider"),
                    offset=properties.get("earthself:offset"),
                    reused=bool(properties.get("earthself:reused", False)),
                    instead_of=tuple(properties.get("earthself:instead_of") or ()),
                )
            )
    return tuple(found)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_versions() -> Mapping[str, str]:
    """Version of each installed distribution of EarthSelf."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def code_commit() -> str | None:
    """Commit of the code: what EARTHSELF_COMMIT says, else that of the working copy it runs from, else None."""
    if named := os.environ.get(COMMIT_VARIABLE):
        return named if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", named) else None
    import subprocess

    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        # The folder of a package may lie inside some other repository (a virtual environment does): ask whether this file is tracked.
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10, check=False)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return None if tracked.returncode else head + ("-dirty" if dirty.strip() else "")


def plain_address(href: str) -> str:
    """The address without query, fragment and login, each of which may hold a secret."""
    if "://" not in href:
        return href
    parts = urlsplit(href)
    host = parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _input(each: InputFile) -> dict[str, Any]:
    return {
        **asdict(each),
        "href": plain_address(each.href),
        "window": None if each.window is None else list(each.window),
        "instead_of": list(each.instead_of),
    }


@cache
def _validator() -> Any:  # noqa: ANN401 - a jsonschema validator
    from jsonschema import Draft202012Validator

    text = resources.files("earthself.data").joinpath("schemas/manifest.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text), format_checker=Draft202012Validator.FORMAT_CHECKER)
