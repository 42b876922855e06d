"""Writing to a disk or a storage that is full: said as that, to be tried again; nothing half is left, and nothing finished is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from earthself.data.errors import NoRoom, TryAgain
from earthself.data.folders import Pace, stage_in, stage_out, staged
from earthself.data.profiles import StorageProfile
from earthself.data.storage import Storage
from small_disk import on_small_disk

from tests.s3_server import Answer, Proxy, Request, S3Server

_WRITE = """
import sys, zipfile
from pathlib import Path
from earthself.data import archive
from earthself.data.errors import EarthSelfError
from earthself.data.storage import Storage
from earthself.data.workspace import atomic, write_bytes
folder, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])

def document():
    write_bytes(folder / "document.json", bytes(4 << 20))

def raster():
    import numpy as np, rasterio
    from affine import Affine
    pixels = np.random.default_rng(0).integers(0, 60000, (2000, 2000)).astype("uint16")
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 300000, 0, -10, 5400000)}
    with atomic(folder / "raster.tif") as part, rasterio.open(part, "w", "COG", 2000, 2000, 1, dtype="uint16", **place) as file:
        file.write(pixels, 1)

def band():
    packed = elsewhere / "product.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("X.SAFE/GRANULE/IMG_DATA/R10m/T33UUP_B04_10m.jp2", bytes(4 << 20))
    archive.extract(packed, "B04", folder)

def copy():
    (elsewhere / "file").write_bytes(bytes(4 << 20))
    Storage().put(elsewhere / "file", str(folder / "copy"))

for work in (document, raster, band, copy):
    try:
        work()
    except EarthSelfError as error:
        print(work.__name__, type(error).__name__, error.retry, error, [path.name for path in folder.rglob("*")])
"""


def test_what_does_not_fit_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    small, elsewhere = tmp_path / "small", tmp_path / "elsewhere"
    small.mkdir()
    elsewhere.mkdir()
    lines = on_small_disk(_WRITE, small, str(elsewhere))
    assert [line.split(" ", 3)[:3] for line in lines] == [[name, "NoRoom", "True"] for name in ("document", "raster", "band", "copy")]
    for line, name in zip(lines, ("document.json", "raster.tif", "B04.jp2", "copy"), strict=True):
        assert f"there is no room for {name} in {small}" in line
        assert line.endswith("make room and try again []")


_STAGE = """
import sys
from pathlib import Path
from earthself.data.errors import EarthSelfError
from earthself.data.folders import Pace, stage_in
from earthself.data.profiles import StorageProfile
from earthself.data.storage import Storage
small, url = Path(sys.argv[1]), sys.argv[2]
storage = Storage({"near": StorageProfile("near", endpoint=url, credentials="env:NEAR", attempts=1)})
for pace in (Pace(files=1), Pace(files=1, single=5 << 20)):
    try:
        stage_in("s3://near@maps/run", small / "in", storage, pace)
    except EarthSelfError as error:
        print(type(error).__name__, error.retry, sorted(p.name for p in small.iterdir()), error)
(small / "filler").unlink()
print(stage_in("s3://near@maps/run", small / "in", storage).moved)
"""


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "the-secret")


def test_a_folder_that_does_not_fit_is_staged_once_there_is_room(keys: None, tmp_path: Path) -> None:
    """The file that had come before the disk was full has not to come again."""
    out, small = tmp_path / "out", tmp_path / "small"
    out.mkdir()
    small.mkdir()
    (out / "a").write_bytes(bytes(2 << 20))
    (out / "b").write_bytes(bytes(12 << 20))
    filled = "import sys, pathlib; (pathlib.Path(sys.argv[1]) / 'filler').write_bytes(bytes(9 << 20))"
    with S3Server() as server:
        server.bucket("maps")
        stage_out(out, "s3://near@maps/run", Storage({"near": StorageProfile("near", endpoint=server.url, credentials="env:NEAR")}))
        first, second, moved = on_small_disk(f"{filled}\n{_STAGE}", small, server.url, megabytes=18)
    for line in (first, second):
        assert line.startswith("NoRoom True ['.in.part', 'filler'] there is no room for b in ")
        assert line.endswith("make room and try again")
    assert int(moved) == 12 << 20


@pytest.mark.parametrize(
    ("status", "code"), [(403, "QuotaExceeded"), (507, "InsufficientStorage"), (507, ""), (400, "EntityTooLarge"), (413, "")]
)
def test_a_storage_without_room_keeps_what_is_finished(status: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEAR_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("NEAR_SECRET_ACCESS_KEY", "the-secret")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"a")
    (out / "b").write_bytes(bytes(11 << 20))
    pace = Pace(files=1, single=5 << 20, part=5 << 20)

    def full(request: Request) -> Answer | None:
        return Answer(status, code) if request.query.get("partNumber") == ["2"] or "more" in request.path else None

    with S3Server() as server, Proxy(server) as proxy:
        server.bucket("maps")
        storage = Storage({"near": StorageProfile("near", endpoint=proxy.url, credentials="env:NEAR", timeout=10, attempts=2)})
        stage_out(out, "s3://near@maps/before", storage, pace)
        proxy.fault = full
        with pytest.raises(NoRoom, match=f"^{proxy.url} has no room for s3://near@maps/run/b .*raise the quota of profile near") as caught:
            stage_out(out, "s3://near@maps/run", storage, pace)
        assert caught.value.retry
        for use in (lambda: storage.write("s3://near@maps/more", b"1"), lambda: storage.put(out / "b", "s3://near@maps/more")):
            with pytest.raises(NoRoom, match="has no room for s3://near@maps/more"):
                use()
        assert server.unfinished("maps") == []
        with pytest.raises(TryAgain, match="is not whole"):
            staged("s3://near@maps/run", storage)
        stage_in("s3://near@maps/before", tmp_path / "in", storage, pace)
        proxy.reset()
        # What had arrived has not to be sent again.
        assert stage_out(out, "s3://near@maps/run", storage, pace).moved == 11 << 20
