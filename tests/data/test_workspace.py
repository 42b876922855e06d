"""Where files of a run lie, that nothing gets out of the workspace, and that no reader ever sees half a file."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from earthself.data.errors import BadInput, NotThere
from earthself.data.workspace import Workspace, atomic, read_json, write_json, write_text


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    run = Workspace(tmp_path).run("land_cover_map", "manual__2026-01-02T03:04:05.678+00:00")
    base = tmp_path / "runs" / "land_cover_map" / "manual__2026-01-02T03:04:05.678+00:00"
    where = {
        run.land_cover: "land_cover.tif",
        run.item: "item.json",
        run.statistics_parquet: "statistics.parquet",
        run.statistics_csv: "statistics.csv",
        run.quicklook: "quicklook.png",
        run.report: "report.html",
        run.manifest: "manifest.json",
        run.result: "result.json",
        run.request: "work/request.json",
        run.found: "work/found/catalog.json",
        run.superseded: "work/found/superseded.json",
        run.known: "work/known/catalog.json",
        run.batch(0): "work/batches/0000/catalog.json",
        run.signatures: "work/signatures/catalog.json",
        run.output("mosaic"): "work/mosaic",
        run.step("sign", 3): "work/steps/sign~3",
        run.step("sign-3"): "work/steps/sign-3",
        run.step("mosaic"): "work/steps/mosaic",
        run.step("mosaic", -1): "work/steps/mosaic",
    }
    assert {path.relative_to(base).as_posix() for path in where} == set(where.values())
    assert all(path == base / name for path, name in where.items())
    assert Workspace(tmp_path).catalog == tmp_path / "catalog" / "catalog.json"
    assert Workspace(tmp_path).downloads == tmp_path / "downloads"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../x", "a\\b", "", ".hidden", "a\0b", "x" * 251, "a b", "ä", "a\n"])
def test_no_name_leads_out_of_the_workspace(tmp_path: Path, name: str) -> None:
    for make in (
        lambda: Workspace(tmp_path).run(name, "r"),
        lambda: Workspace(tmp_path).run("d", name),
        lambda: Workspace(tmp_path).run("d", "r").step(name),
    ):
        with pytest.raises(BadInput, match="cannot name a folder"):
            make()


def test_the_environment_names_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EARTHSELF_WORKSPACE", raising=False)
    assert Workspace.from_env().root == tmp_path / "home" / "workspace"
    monkeypatch.setenv("EARTHSELF_WORKSPACE", str(tmp_path / "other"))
    assert Workspace.from_env().root == tmp_path / "other"
    monkeypatch.setenv("EARTHSELF_WORKSPACE", "s3://minio@bucket/x")
    with pytest.raises(BadInput, match="a workspace is a folder"):
        Workspace.from_env()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a" / "x.json", {"n": 1})
    with pytest.raises(ValueError, match=r"NaN|Out of range"):
        write_json(path, {"n": float("nan")})
    with pytest.raises(RuntimeError), atomic(path) as part:  # noqa: PT012 - the block is what fails
        part.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"n": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_temporary_name_keeps_the_suffix_that_writers_choose_the_format_by(tmp_path: Path) -> None:
    with atomic(tmp_path / "map.tif") as part:
        assert part.suffix == ".tif"
        assert part.parent == tmp_path
        part.write_bytes(b"II*\0")
    assert (tmp_path / "map.tif").read_bytes() == b"II*\0"


def test_readers_see_whole_files_while_writers_race(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, ["0"] * 5000)
    done = threading.Event()
    torn: list[str] = []

    def read() -> None:
        while not done.is_set():
            value = json.loads(path.read_text())
            if len(value) != 5000 or len(set(value)) != 1:
                torn.append(value[0])

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=lambda n=n: [write_json(path, [str(n)] * 5000) for _ in range(5)]) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert not torn
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_missing_and_broken_documents_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="run the task that writes it"):
        read_json(tmp_path / "none.json")
    with pytest.raises(BadInput, match="clear the task"):
        read_json(write_text(tmp_path / "broken.json", "{"))
