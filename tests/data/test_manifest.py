"""Manifests and references: enough to explain and repeat a run, checked by a schema, without secrets."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from earthself.data.errors import BadInput, NotThere
from earthself.data.manifest import (
    InputFile,
    Manifest,
    OutputFile,
    changed_outputs,
    check_manifest,
    code_commit,
    code_versions,
    inputs_of,
    plain_address,
    read_manifest,
)
from earthself.data.reference import Reference
from jsonschema import Draft202012Validator

SIGNATURE = {
    "id": "S2A_W0-0-512-512",
    "properties": {
        "earthself:product": "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608",
        "earthself:observation": "S2A_33UUP_20170613T101031_R022",
        "earthself:baseline": "N0205",
        "earthself:provider": "earth_search",
        "earthself:offset": 0,
        "earthself:inputs": [
            {"asset": "B04", "href": "https://host/B04.tif?sig=secret", "sha256": "ab" * 32, "bytes": 524288, "window": [0, 0, 512, 512]},
            {"asset": "SCL", "href": "/local/SCL.tif", "sha256": "cd" * 32, "bytes": 65536},
        ],
    },
}


@pytest.fixture
def made(tmp_path: Path) -> Manifest:
    (tmp_path / "land_cover.tif").write_bytes(b"pixels")
    return Manifest(
        dag_id="land_cover_map",
        run_id="manual__2026-01-02T03:04:05+00:00",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        parameters={"area": [16, 48, 17, 49], "max_cloud_cover": 60},
        legend="clc:1",
        model="baseline:1",
        inputs=inputs_of([SIGNATURE]),
        outputs=(OutputFile.of("land_cover", tmp_path / "land_cover.tif", tmp_path),),
        durations={"search": 1.5, "sign": 20.0},
        bytes_moved=589824,
        superseded=("S2A_old",),
        warnings=("one thing",),
    )


def test_a_manifest_is_written_and_read_back(made: Manifest, tmp_path: Path) -> None:
    document = read_manifest(made.write(tmp_path / "manifest.json"))
    assert document == made.to_dict()
    assert document["run"] == {"dag_id": "land_cover_map", "run_id": "manual__2026-01-02T03:04:05+00:00", "title": None}
    assert document["created"] == "2026-01-02T03:04:05Z"
    assert document["model"] == {"id": "baseline:1"}
    assert document["code"]["versions"]["earthself-data"] == "0.1.0"
    assert [each["asset"] for each in document["inputs"]] == ["B04", "SCL"]
    assert document["inputs"][0]["window"] == [0, 0, 512, 512]
    assert document["inputs"][0]["offset"] == 0
    assert document["outputs"][0]["href"] == "land_cover.tif"
    assert document["bytes_moved"] == 589824


def test_addresses_lose_what_may_be_secret(made: Manifest) -> None:
    assert made.to_dict()["inputs"][0]["href"] == "https://host/B04.tif"
    assert plain_address("https://me:pw@host/x?token=1#y") == "https://host/x"
    assert plain_address("s3://minio@maps/x") == "s3://minio@maps/x"
    assert plain_address("/a/b.tif") == "/a/b.tif"
    leaking = dataclasses.replace(made, outputs=(OutputFile("x", "https://host/x?sig=secret", "ab" * 32, 1),))
    with pytest.raises(BadInput, match="outputs/0/href"):
        leaking.to_dict()


def test_what_was_changed_since_is_named(made: Manifest, tmp_path: Path) -> None:
    document = made.to_dict()
    assert changed_outputs(document, tmp_path) == []
    (tmp_path / "land_cover.tif").write_bytes(b"PIXELS")
    assert changed_outputs(document, tmp_path) == ["land_cover"]
    (tmp_path / "land_cover.tif").unlink()
    assert changed_outputs(document, tmp_path) == ["land_cover"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (["version"], 2, "version"),
        (["run", "dag_id"], "", "run/dag_id"),
        (["inputs", 0, "sha256"], "x", "inputs/0/sha256"),
        (["inputs", 0, "window"], [1, 2, 3], "inputs/0/window"),
        (["outputs", 0, "bytes"], -1, "outputs/0/bytes"),
        (["durations", "sign"], -1, "durations/sign"),
        (["code", "image"], "latest", "code/image"),
        (["bytes_moved"], "many", "bytes_moved"),
    ],
)
def test_a_document_that_is_no_manifest_is_refused_where_it_is_wrong(made: Manifest, path: list[Any], value: object, where: str) -> None:
    document = json.loads(json.dumps(made.to_dict()))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(BadInput, match=where):
        check_manifest(document)


def test_a_manifest_without_a_part_is_refused(made: Manifest) -> None:
    for key in ("inputs", "outputs", "code", "parameters", "durations", "legend", "model"):
        document = {k: v for k, v in made.to_dict().items() if k != key}
        with pytest.raises(BadInput, match=f"'{key}' is a required property"):
            check_manifest(document)
    with pytest.raises(BadInput, match="no manifest"):
        check_manifest([])


def test_the_schema_is_shipped_and_a_schema() -> None:
    schema = json.loads(resources.files("earthself.data").joinpath("schemas/manifest.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    described = set(schema["$defs"]["input"]["properties"])
    assert described == {field.name for field in dataclasses.fields(InputFile)}


def test_the_code_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "earthself-data" in code_versions()
    monkeypatch.setenv("EARTHSELF_COMMIT", "0123456789abcdef0123456789abcdef01234567")
    code_commit.cache_clear()
    assert code_commit() == "0123456789abcdef0123456789abcdef01234567"
    code_commit.cache_clear()
    monkeypatch.setenv("EARTHSELF_COMMIT", "nonsense; rm -rf")
    assert code_commit() is None
    code_commit.cache_clear()


def test_a_reference_knows_when_its_document_changed(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    with pytest.raises(NotThere, match="run the task that writes it first"):
        Reference.to_file(path, 0)
    path.write_text("{}")
    reference = Reference.from_dict(json.loads(json.dumps(Reference.to_file(path, 3).to_dict())))
    assert (reference.path(), reference.count) == (path, 3)
    path.write_text("{ }")
    with pytest.raises(NotThere, match="has changed since it was handed over"):
        reference.path()
    path.unlink()
    with pytest.raises(NotThere, match="does not exist any more"):
        reference.path()
    for broken in ({}, {"href": "x"}, None, {"href": "x", "count": "many", "sha256": "y"}):
        with pytest.raises(BadInput, match="is not a reference"):
            Reference.from_dict(broken)
