"""What interrupted stagings leave in a storage is removed by its age, and nothing that anybody reads or still writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from earthself.data.cleaning import main
from earthself.data.errors import BadInput, CredentialsRefused, TryAgain
from earthself.data.folders import MARKER, Pace, drop, stage_in, stage_out, staged
from earthself.data.leftovers import sweep
from earthself.data.retries import RetryPolicy
from earthself.data.storage import Storage, StorageProfile

from tests.s3_server import Answer, Proxy, Request, S3Server, wait_until

PART = 5 << 20
PACE = Pace(files=1, single=PART, part=PART, retries=RetryPolicy(attempts=1))
TOMORROW = datetime.now(UTC) + timedelta(hours=30)
BELOW = "s3://near@maps/runs"


@pytest.fixture
def storage(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "the-secret")
    return Storage({"near": StorageProfile("near", endpoint=proxy.url, credentials="env:NEAR", timeout=10, attempts=1)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    (made / "deep").mkdir(parents=True)
    (made / "catalog.json").write_text("{}")
    (made / "deep" / "x.tif").write_bytes(bytes(1000))
    return made


def begin_only(proxy: Proxy, storage: Storage, folder: Path, url: str) -> None:
    """Leave a folder that was not staged to its end."""
    proxy.fault = lambda request: Answer(403, "AccessDenied") if "x.tif" in request.path else None
    with pytest.raises(CredentialsRefused):
        stage_out(folder, url, storage, PACE)
    proxy.reset()


def test_what_nobody_finished_goes_and_what_is_whole_stays(
    storage: Storage, folder: Path, proxy: Proxy, s3: S3Server, tmp_path: Path
) -> None:
    stage_out(folder, f"{BELOW}/whole", storage, PACE)
    begin_only(proxy, storage, folder, f"{BELOW}/begun")
    storage.write(f"{BELOW}/whole/left.txt", b"not in the marker")
    storage.write(f"{BELOW}/orphan/a.txt", b"12345")
    storage.write("s3://near@maps/elsewhere.txt", b"not below")
    s3.client.create_multipart_upload(Bucket="maps", Key="runs/begun/big.tif")
    s3.client.create_multipart_upload(Bucket="maps", Key="elsewhere/big.tif")
    stale = ["runs/begun/.staged.json", "runs/begun/catalog.json", "runs/orphan/a.txt", "runs/whole/left.txt"]
    before = s3.keys("maps")

    assert not sweep(BELOW, 24, storage).objects  # nothing is old; the upload is, by moto's calendar
    assert s3.unfinished("maps") == ["elsewhere/big.tif"]
    dry = sweep(BELOW, 24, storage, dry_run=True, now=lambda: TOMORROW)
    assert (sorted(dry.objects), s3.keys("maps")) == (stale, before)
    assert sweep(BELOW, 24, storage, now=lambda: TOMORROW) == dry
    assert dry.size >= 5 + len("not in the marker") + 2
    assert sorted(set(before) - set(s3.keys("maps"))) == stale
    stage_in(f"{BELOW}/whole", tmp_path / "in", storage, PACE)
    assert sweep(BELOW, 24, storage, now=lambda: TOMORROW).objects == ()


def test_uploads_are_removed_below_the_address_only(storage: Storage, s3: S3Server) -> None:
    for key in ("runs/a.tif", "runs-of-others/b.tif"):
        s3.client.create_multipart_upload(Bucket="maps", Key=key)
    assert sweep(BELOW, 24, storage, dry_run=True).uploads == ("runs/a.tif",)
    assert sorted(s3.unfinished("maps")) == ["runs-of-others/b.tif", "runs/a.tif"]
    assert sweep(BELOW, 24, storage).uploads == ("runs/a.tif",)
    assert s3.unfinished("maps") == ["runs-of-others/b.tif"]


def test_a_folder_that_is_still_being_staged_stays(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    begin_only(proxy, storage, folder, f"{BELOW}/slow")
    times = {each["Key"]: each["LastModified"] for each in s3.client.list_objects_v2(Bucket="maps")["Contents"]}
    first = min(times.values())
    # Its marker is 30 hours old, its newest file is new.
    proxy.seen.clear()
    later = Proxy(s3)
    with later:
        later.change = lambda request, data: (
            data.replace(_stamp(times["runs/slow/catalog.json"], "catalog.json"), _stamp(TOMORROW, "catalog.json"))
            if "list-type" in request.query
            else data
        )
        slow = Storage({"near": StorageProfile("near", endpoint=later.url, credentials="env:NEAR", timeout=10, attempts=1)})
        assert sweep(BELOW, 24, slow, now=lambda: first + timedelta(hours=30)).objects == ()
    # So does one of which a large file is on its way.
    with Proxy(s3) as later:
        later.change = lambda request, data: data.replace(b"2010-11-10T20:48:33.000Z", TOMORROW.strftime("%Y-%m-%dT%H:%M:%S.000Z").encode())
        s3.client.create_multipart_upload(Bucket="maps", Key="runs/slow/big.tif")
        slow = Storage({"near": StorageProfile("near", endpoint=later.url, credentials="env:NEAR", timeout=10, attempts=1)})
        swept = sweep(BELOW, 24, slow, now=lambda: TOMORROW + timedelta(hours=1))
        assert (swept.objects, swept.uploads) == ((), ())
    assert len(s3.keys("maps")) == 2


def _stamp(when: datetime, name: str) -> bytes:
    return f"{name}</Key><LastModified>{when.strftime('%Y-%m-%dT%H:%M:%S')}".encode()


def test_a_marker_that_the_listing_hides_still_counts(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    stage_out(folder, f"{BELOW}/whole", storage, PACE)
    proxy.change = lambda request, data: data.replace(MARKER.encode(), b"something-else") if "list-type" in request.query else data
    swept = sweep(f"{BELOW}/whole/deep", 24, storage, now=lambda: TOMORROW)
    assert swept.objects == ()
    assert "runs/whole/catalog.json" in s3.keys("maps")


def test_a_sweep_that_was_interrupted_is_finished_by_the_next(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    begin_only(proxy, storage, folder, f"{BELOW}/begun")
    proxy.fault = lambda request: Answer(503, "SlowDown") if request.method == "DELETE" and MARKER in request.path else None
    with pytest.raises(TryAgain):
        sweep(BELOW, 24, storage, now=lambda: TOMORROW)
    assert s3.keys("maps") == ["runs/begun/.staged.json"]
    proxy.reset()
    assert sweep(BELOW, 24, storage, now=lambda: TOMORROW).objects == ("runs/begun/.staged.json",)
    assert s3.keys("maps") == []


def test_less_than_an_hour_is_refused(storage: Storage) -> None:
    with pytest.raises(BadInput, match=r"0.5 hours is less than a staging may take"):
        sweep(BELOW, 0.5, storage)


_STAGE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from pathlib import Path
from earthself.data.folders import Pace, stage_out
from earthself.data.profiles import StorageProfile
from earthself.data.storage import Storage
storage = Storage({"near": StorageProfile("near", endpoint=sys.argv[1], credentials="env:NEAR", timeout=60, attempts=1)})
stage_out(Path(sys.argv[2]), sys.argv[3], storage, Pace(single=5 << 20, part=5 << 20))
"""


def end_midway(proxy: Proxy, folder: Path, url: str, number: signal.Signals) -> int:
    """Stage in a process that gets a signal while it sends the second part of a file; gives how it ended."""
    (folder / "big.tif").write_bytes(bytes(3 * PART))
    held: list[Request] = []
    told: list[bool] = []

    def hold(request: Request) -> None:
        if request.query.get("partNumber") == ["2"]:
            held.append(request)
            wait_until(lambda: bool(told), 60)

    proxy.fault = hold
    process = subprocess.Popen([sys.executable, "-c", _STAGE, proxy.url, str(folder), url])
    try:
        wait_until(lambda: bool(held), 60)
        process.send_signal(number)
        told.append(True)
        return process.wait(60)
    finally:
        told.append(True)
        process.kill()
        process.wait()
        proxy.reset()


def test_who_is_stopped_in_the_middle_takes_back_what_was_sent(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    assert end_midway(proxy, folder, f"{BELOW}/stopped", signal.SIGTERM) == 143
    assert s3.unfinished("maps") == []
    with pytest.raises(TryAgain, match="is not whole"):
        staged(f"{BELOW}/stopped", storage)


def test_who_is_killed_in_the_middle_leaves_nothing_to_read(storage: Storage, folder: Path, proxy: Proxy, s3: S3Server) -> None:
    url = f"{BELOW}/killed"
    assert end_midway(proxy, folder, url, signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(TryAgain, match="is not whole"):
        staged(url, storage)
    assert s3.unfinished("maps") == ["runs/killed/big.tif"]
    swept = sweep(BELOW, 24, storage, now=lambda: TOMORROW)
    assert swept.uploads == ("runs/killed/big.tif",)
    assert (s3.keys("maps"), s3.unfinished("maps")) == ([], [])
    stage_out(folder, url, storage, PACE)
    assert staged(url, storage).size == 3 * PART + 1002
    assert drop(url, storage) == 3 * PART + 1002


def test_the_command_sweeps_what_it_is_told_and_says_so(
    *,
    storage: Storage,
    folder: Path,
    proxy: Proxy,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3.client.create_multipart_upload(Bucket="maps", Key="runs/big.tif")
    stage_out(folder, f"{BELOW}/whole", storage, PACE)
    profiles = {"near": {"endpoint": proxy.url, "credentials": "env:NEAR", "attempts": 1}}
    (tmp_path / "storage.json").write_text(json.dumps(profiles))
    monkeypatch.setenv("EARTHSELF_STORAGE", str(tmp_path / "storage.json"))
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / ".x.part").write_bytes(b"1")
    os.utime(tmp_path / "workspace" / ".x.part", (0, 0))
    call = ["--workspace", str(tmp_path / "workspace"), "--json", "--staged", "s3://near@none", "--staged", BELOW]
    assert main([*call, "--dry-run"]) == 69
    assert s3.unfinished("maps") == ["runs/big.tif"]
    capsys.readouterr()
    # One storage that cannot be swept keeps neither the others nor the account of what went.
    assert main(call) == 69
    told = capsys.readouterr()
    assert "there is no bucket 'none'" in told.err
    done = json.loads(told.out)
    assert [each["path"] for each in done["removed"]] == [".x.part"]
    assert done["staged"] == {BELOW: {"uploads": ["runs/big.tif"], "objects": [], "size": 0}}
    assert s3.unfinished("maps") == []
    assert main([*call[:3], "--staged", BELOW]) == 0
