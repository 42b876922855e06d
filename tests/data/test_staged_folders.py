"""Folders staged out to an object storage and in from it: whole or not at all for a reader, whatever the storage does meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from earthself.data.errors import BadInput, Damaged, NotThere, TryAgain
from earthself.data.folders import MARKER, Pace, drop, stage_in, stage_out, staged
from earthself.data.retries import RetryPolicy
from earthself.data.storage import Storage, StorageProfile

from tests.s3_server import Answer, Cut, Proxy, Request, S3Server

PART = 5 << 20
PACE = Pace(single=PART, part=PART, retries=RetryPolicy(attempts=3, sleep=lambda _: None))
STREAMS = replace(PACE, single=1 << 30)
URL = "s3://near@maps/runs/one"


@pytest.fixture
def storage(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "the-secret")
    return Storage({"near": StorageProfile("near", endpoint=proxy.url, credentials="env:NEAR", timeout=10, attempts=2)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small files, one of three parts, one without bytes, names that need care, a folder without files."""
    made = tmp_path / "out"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "none").mkdir()
    (made / "catalog.json").write_text("{}")
    (made / "deep" / "er" / "ü ñ+&?#%.txt").write_text("x")
    (made / "empty").write_bytes(b"")
    (made / "deep" / "big.tif").write_bytes(np.random.default_rng(1).bytes(2 * PART + 12345))
    return made


def tree(folder: Path) -> dict[str, bytes | None]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("pace", [PACE, STREAMS])
def test_a_folder_goes_and_comes_back(*, pace: Pace, storage: Storage, folder: Path, tmp_path: Path, s3: S3Server) -> None:
    out = stage_out(folder, URL, storage, pace)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert (out.moved, out.folder.size, len(out.folder.files)) == (size, size, 4)
    assert stage_in(URL, tmp_path / "in", storage, pace).moved == size
    assert tree(tmp_path / "in") == tree(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert staged(URL, storage) == out.folder
    big = next(file for file in out.folder.files if file.name == "deep/big.tif")
    assert big.sha256 == hashlib.sha256((folder / "deep" / "big.tif").read_bytes()).hexdigest()
    # Files lie under their own names, so that rasterio and others read them in place.
    assert "runs/one/deep/er/ü ñ+&?#%.txt" in s3.keys("maps")


def test_doing_it_again_moves_nothing(storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    stage_out(folder, URL, storage, PACE)
    stage_in(URL, tmp_path / "in", storage, PACE)
    proxy.seen.clear()
    assert stage_out(folder, URL, storage, PACE).moved == 0
    assert stage_in(URL, tmp_path / "in", storage, PACE).moved == 0
    assert sorted(request.method for request in proxy.seen) == ["GET", "GET", "HEAD", "HEAD", "HEAD", "HEAD"]


@pytest.mark.parametrize("files_before", [0, 1, 3])
def test_a_folder_that_is_not_whole_is_not_there(
    *, files_before: int, storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy, s3: S3Server
) -> None:
    def full(request: Request) -> Answer | None:
        come = [key for key in s3.keys("maps") if not key.endswith(MARKER)]
        return Answer(403, "AccessDenied") if request.method != "GET" and MARKER not in request.path and len(come) >= files_before else None

    with pytest.raises(NotThere, match=r"^nothing is staged at s3://near@maps/runs/one; mend the address, or run the task"):
        stage_in(URL, tmp_path / "in", storage, PACE)
    proxy.fault = full
    one_by_one = Pace(files=1, single=PART, part=PART, retries=PACE.retries)
    with pytest.raises(Exception, match="refuses the keys"):
        stage_out(folder, URL, storage, one_by_one)
    with pytest.raises(TryAgain, match=r"runs/one is not whole: it has been staged since 20"):
        stage_in(URL, tmp_path / "in", storage, PACE)
    assert not (tmp_path / "in").exists()
    assert s3.unfinished("maps") == []
    proxy.reset()
    again = stage_out(folder, URL, storage, PACE)
    sent = [request.path for request in proxy.seen if request.method == "PUT" and MARKER not in request.path]
    assert again.moved < again.folder.size or files_before == 0
    assert len(set(sent)) == 4 - files_before
    stage_in(URL, tmp_path / "in", storage, PACE)
    assert tree(tmp_path / "in") == tree(folder)


def test_staging_in_goes_on_where_it_stopped(storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    stage_out(folder, URL, storage, PACE)
    proxy.fault = lambda request: Answer(403, "AccessDenied") if "empty" in request.path else None
    with pytest.raises(Exception, match="refuses the keys"):
        stage_in(URL, tmp_path / "in", storage, Pace(files=1, single=PART, part=PART, retries=PACE.retries))
    assert not (tmp_path / "in").exists()
    (tmp_path / ".in.part" / "left.over").write_text("of another staging")
    proxy.reset()
    again = stage_in(URL, tmp_path / "in", storage, PACE)
    assert again.moved < again.folder.size - 2 * PART
    assert tree(tmp_path / "in") == tree(folder)


@pytest.mark.parametrize("pace", [PACE, STREAMS])
def test_what_was_cut_busy_or_late_is_asked_for_again(pace: Pace, storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    asked: dict[tuple[str, str, str], int] = {}

    def once(request: Request) -> Answer | Cut | None:
        about = (request.method, request.path, request.headers.get("range", "") + str(request.query.get("partNumber")))
        asked[about] = asked.get(about, 0) + 1
        if asked[about] > 1:
            return None
        if request.method == "PUT":
            return Answer(503, "SlowDown")
        if request.method == "GET":
            return Cut(1000) if "big" in request.path else Answer(500, "InternalError")
        return None

    proxy.fault = once
    stage_out(folder, URL, storage, pace)
    stage_in(URL, tmp_path / "in", storage, pace)
    assert tree(tmp_path / "in") == tree(folder)
    # The marker, three files and one or three parts of the large one, both ways.
    again = [about for about, times in asked.items() if times > 1 and about[0] != "POST"]
    assert len(again) == (10 if pace is STREAMS else 14)


def test_a_storage_that_stays_busy_is_given_up_without_a_trace(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    proxy.fault = lambda request: Answer(503, "SlowDown") if request.query.get("partNumber") == ["2"] else None
    with pytest.raises(TryAgain, match=r"is busy .SlowDown.; try again later"):
        stage_out(folder, URL, storage, PACE)
    assert s3.unfinished("maps") == []


def test_a_key_that_shows_late_is_waited_for(storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    stage_out(folder, URL, storage, PACE)
    late: list[str] = []

    def hide(request: Request) -> Answer | None:
        if MARKER in request.path or late.count(request.path) == 2:
            return None
        late.append(request.path)
        return Answer(404, "NoSuchKey")

    proxy.fault = hide
    stage_in(URL, tmp_path / "in", storage, Pace(files=1, single=PART, part=PART, retries=RetryPolicy(attempts=8, sleep=lambda _: None)))
    assert tree(tmp_path / "in") == tree(folder)
    assert not any("list-type" in request.query for request in proxy.seen)


@pytest.mark.parametrize(("name", "pace"), [("catalog.json", PACE), ("deep/big.tif", PACE), ("deep/big.tif", STREAMS)])
@pytest.mark.parametrize("harm", ["gone", "shorter", "longer", "other"])
def test_files_that_are_not_what_was_staged_are_refused(
    *, name: str, pace: Pace, harm: str, storage: Storage, folder: Path, tmp_path: Path, s3: S3Server
) -> None:
    stage_out(folder, URL, storage, pace)
    data = bytearray((folder / name).read_bytes())
    if harm == "gone":
        s3.client.delete_object(Bucket="maps", Key=f"runs/one/{name}")
    else:
        data[-1] ^= 1
        changed = {"shorter": data[:-1], "longer": data + b"x", "other": data}[harm]
        s3.client.put_object(Bucket="maps", Key=f"runs/one/{name}", Body=bytes(changed))
    with pytest.raises(Damaged, match=rf"runs/one/{name} is not .*clear the task that wrote it$"):
        stage_in(URL, tmp_path / "in", storage, pace)
    assert not (tmp_path / "in").exists()
    # Who stages the same again heals it, sending only what is not right.
    assert stage_out(folder, URL, storage, pace).moved == (folder / name).stat().st_size
    stage_in(URL, tmp_path / "in", storage, pace)
    assert tree(tmp_path / "in") == tree(folder)


def test_a_folder_staged_anew_while_it_is_read_is_never_mixed(storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    stage_out(folder, URL, storage, PACE)
    other = tmp_path / "other"
    other.mkdir()
    (other / "catalog.json").write_text('{"new": 1}')
    writer = Storage({"near": storage.profile(URL)})
    done: list[str] = []

    def replaced(request: Request) -> None:
        if request.path.endswith("catalog.json") and request.method == "GET" and not done:
            done.append("yes")
            stage_out(other, URL, writer, PACE)

    proxy.fault = replaced
    with pytest.raises(TryAgain, match="was staged anew while it was read"):
        stage_in(URL, tmp_path / "in", storage, PACE)
    assert not (tmp_path / "in").exists()
    stage_in(URL, tmp_path / "in", storage, PACE)
    assert tree(tmp_path / "in") == {"catalog.json": b'{"new": 1}'}


def test_a_file_that_changes_while_it_is_sent_is_sent_again(storage: Storage, folder: Path, tmp_path: Path, proxy: Proxy) -> None:
    changed: list[bool] = []

    def change(request: Request) -> None:
        if request.query.get("partNumber") == ["2"] and not changed:
            changed.append(True)
            (folder / "deep" / "big.tif").write_bytes(bytes(2 * PART + 7))

    proxy.fault = change
    stage_out(folder, URL, storage, PACE)
    stage_in(URL, tmp_path / "in", storage, PACE)
    assert tree(tmp_path / "in") == tree(folder)


def test_what_the_new_folder_has_not_is_removed_after_it_is_whole(storage: Storage, folder: Path, tmp_path: Path, s3: S3Server) -> None:
    stage_out(folder, URL, storage, PACE)
    (folder / "deep" / "big.tif").unlink()
    stage_out(folder, URL, storage, PACE)
    assert "runs/one/deep/big.tif" not in s3.keys("maps")
    stage_in(URL, tmp_path / "in", storage, PACE)
    assert tree(tmp_path / "in") == tree(folder)


def test_a_dropped_folder_is_gone_whole(storage: Storage, folder: Path, s3: S3Server) -> None:
    size = stage_out(folder, URL, storage, PACE).folder.size
    stage_out(folder, URL + "-beside", storage, PACE)
    assert drop(URL, storage) == size
    assert drop(URL, storage) == 0
    assert all(key.startswith("runs/one-beside/") for key in s3.keys("maps"))
    with pytest.raises(NotThere):
        staged(URL, storage)


@pytest.mark.parametrize("name", ["../out.txt", "/etc/x", "a/../../x", "a//b", "", ".", "a\0b"])
def test_a_marker_cannot_lead_out_of_the_folder(name: str, storage: Storage, folder: Path, tmp_path: Path, s3: S3Server) -> None:
    stage_out(folder, URL, storage, PACE)
    marker = json.loads(storage.read(f"{URL}/{MARKER}"))
    marker["files"][0][0] = name
    storage.write(f"{URL}/{MARKER}", json.dumps(marker).encode())
    with pytest.raises(Damaged, match="is no marker of version 1"):
        stage_in(URL, tmp_path / "in", storage, PACE)
    storage.write(f"{URL}/{MARKER}", b"[]")
    with pytest.raises(Damaged, match="is no marker"):
        staged(URL, storage)
    assert stage_out(folder, URL, storage, PACE).moved == 0
    assert len(staged(URL, storage).files) == 4


def test_what_is_no_file_of_the_folder_is_refused(storage: Storage, folder: Path, tmp_path: Path, s3: S3Server) -> None:
    (folder / "inside").symlink_to(folder / "catalog.json")
    assert stage_out(folder, URL, storage, PACE).folder.files[-1].name == "inside"
    for bad in (
        lambda p: p.symlink_to("/etc/passwd"),
        lambda p: p.symlink_to(folder / "deep"),
        os.mkfifo,
        lambda p: p.symlink_to("nothing"),
    ):
        bad(folder / "bad")
        with pytest.raises(BadInput, match=r"bad (is a link|cannot be staged)"):
            stage_out(folder, URL, storage, PACE)
        (folder / "bad").unlink()
    (folder / "deep" / MARKER).write_text("{}")
    with pytest.raises(BadInput, match="kept for markers"):
        stage_out(folder, URL, storage, PACE)
    with pytest.raises(NotThere, match="is no folder"):
        stage_out(tmp_path / "nothing", URL, storage, PACE)
    with pytest.raises(BadInput, match="is a path and not in an object storage"):
        stage_out(folder / "none", str(tmp_path / "x"), storage, PACE)


def test_a_folder_with_something_else_is_left_alone(storage: Storage, folder: Path, tmp_path: Path) -> None:
    stage_out(folder, URL, storage, PACE)
    (tmp_path / "in").mkdir()
    stage_in(URL, tmp_path / "in", storage, PACE)
    (tmp_path / "in" / "catalog.json").write_text("{ }")
    with pytest.raises(BadInput, match="holds something else"):
        stage_in(URL, tmp_path / "in", storage, PACE)
    assert (tmp_path / "in" / "catalog.json").read_text() == "{ }"
    with pytest.raises(BadInput, match="is a mount"):
        stage_in(URL, Path("/proc"), storage, PACE)


def test_a_folder_without_files_is_there_too(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stage_out(tmp_path / "out", URL, storage, PACE)
    stage_in(URL, tmp_path / "in", storage, PACE)
    assert tree(tmp_path / "in") == {}
