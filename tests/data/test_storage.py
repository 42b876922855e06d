"""Storage profiles against a real S3 server on loopback: one profile for fsspec and GDAL, and one sentence when something is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.data.errors import BadInput, CredentialsRefused, NotThere, TryAgain
from earthself.data.query import SourceConfig
from earthself.data.sources import Sources
from earthself.data.storage import LOCAL, Storage, StorageProfile, load_profiles
from provider import raster_bytes

PIXELS = np.arange(300 * 300, dtype=np.uint16).reshape(300, 300)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of an S3 server with the bucket `maps`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
    client.create_bucket(Bucket="maps")
    yield url
    server.stop()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("MINIO_SECRET_ACCESS_KEY", "the-secret-of-the-key")


@pytest.fixture
def storage(s3: str, keys: None) -> Storage:
    return Storage({"minio": StorageProfile("minio", endpoint=s3, region="us-east-1", credentials="env:MINIO", timeout=5, attempts=1)})


def test_files_go_and_come_back(storage: Storage, tmp_path: Path) -> None:
    storage.write("s3://minio@maps/a/x.txt", b"one")
    assert storage.read("s3://minio@maps/a/x.txt") == b"one"
    assert storage.exists("s3://minio@maps/a/x.txt")
    assert not storage.exists("s3://minio@maps/a/y.txt")
    (tmp_path / "local.txt").write_bytes(b"two")
    storage.put(tmp_path / "local.txt", "s3://minio@maps/a/b/y.txt")
    storage.get("s3://minio@maps/a/b/y.txt", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_bytes() == b"two"
    assert storage.list("s3://minio@maps/a") == ["s3://minio@maps/a/b/y.txt", "s3://minio@maps/a/x.txt"]


def test_local_paths_work_alike(tmp_path: Path) -> None:
    storage = Storage({})
    where = str(tmp_path / "a" / "x.txt")
    storage.write(where, b"one")
    assert storage.read(where) == b"one"
    assert storage.exists(where)
    storage.get(where, tmp_path / "y.txt")
    storage.put(tmp_path / "y.txt", str(tmp_path / "z.txt"))
    assert storage.list(str(tmp_path)) == sorted(str(tmp_path / name) for name in ("a/x.txt", "y.txt", "z.txt"))
    assert (storage.profile(where), storage.gdal_path(where)) == (LOCAL, where)
    assert LOCAL.fsspec_options() == LOCAL.gdal_options() == {}
    with pytest.raises(NotThere, match="does not exist"):
        storage.read(str(tmp_path / "none"))


def test_gdal_reads_with_the_same_profile(storage: Storage) -> None:
    url = "s3://minio@maps/B04.tif"
    storage.write(url, raster_bytes(PIXELS))
    with storage.profile(url).rasterio_env(), rasterio.open(storage.gdal_path(url)) as file:
        assert np.array_equal(file.read(1), PIXELS)


def test_options_follow_the_profile(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = StorageProfile("aws", region="eu-central-1", credentials="env:MINIO")
    own = StorageProfile("own", endpoint="https://s3.example.org:9000", addressing="auto")
    assert aws.gdal_options()["AWS_VIRTUAL_HOSTING"] == "TRUE"
    assert aws.gdal_options()["AWS_REGION"] == "eu-central-1"
    assert aws.gdal_options()["AWS_SECRET_ACCESS_KEY"] == "the-secret-of-the-key"
    assert "AWS_S3_ENDPOINT" not in aws.gdal_options()
    assert aws.fsspec_options()["config_kwargs"]["s3"] == {"addressing_style": "virtual"}
    assert (
        own.gdal_options() | {"AWS_S3_ENDPOINT": "s3.example.org:9000", "AWS_HTTPS": "YES", "AWS_NO_SIGN_REQUEST": "YES"}
        == own.gdal_options()
    )
    assert own.gdal_options()["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert own.fsspec_options()["anon"] is True
    monkeypatch.setenv("MINIO_SESSION_TOKEN", "for-an-hour")
    assert aws.gdal_options()["AWS_SESSION_TOKEN"] == aws.fsspec_options()["token"] == "for-an-hour"


def test_a_missing_file_is_one_sentence_with_the_next_step(storage: Storage, tmp_path: Path) -> None:
    for use in (lambda: storage.read("s3://minio@maps/none.tif"), lambda: storage.get("s3://minio@maps/none.tif", tmp_path / "x")):
        with pytest.raises(NotThere, match=r"^s3://minio@maps/none.tif does not exist; mend the key, or run the task that writes it$"):
            use()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", ["s3://minio@maps/put", "put"])
def test_only_a_file_that_is_there_can_be_copied(storage: Storage, tmp_path: Path, target: str) -> None:
    url = target if "://" in target else str(tmp_path / target)
    with pytest.raises(NotThere, match=f"^{tmp_path}/none.tif does not exist and cannot be copied to {url}; mend the path"):
        storage.put(tmp_path / "none.tif", url)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_bytes(b"x")
    with pytest.raises(BadInput, match=f"^{tmp_path}/folder is a folder and cannot be copied to {url}; copy the files in it"):
        storage.put(tmp_path / "folder", url)
    assert not storage.exists(url)


def test_a_missing_bucket_is_one_sentence_with_the_next_step(storage: Storage, s3: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    uses = (
        lambda: storage.read("s3://minio@nowhere/x"),
        lambda: storage.write("s3://minio@nowhere/x", b""),
        lambda: storage.put(tmp_path / "x", "s3://minio@nowhere/x"),
        lambda: storage.exists("s3://minio@nowhere/x"),
        lambda: storage.list("s3://minio@nowhere"),
    )
    for use in uses:
        with pytest.raises(
            NotThere, match=f"^there is no bucket 'nowhere' at {s3}; create it, or mend its name or the endpoint of profile minio$"
        ):
            use()


def test_missing_keys_are_one_sentence_with_the_next_step(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOBODY_ACCESS_KEY_ID", raising=False)
    path = tmp_path / "keys.json"
    for credentials, said in (
        ("env:NOBODY", "env:NOBODY lacks access_key_id"),
        (f"file:{path}", "does not exist; write it, with mode 600"),
    ):
        storage = Storage({"minio": StorageProfile("minio", endpoint=s3, credentials=credentials)})
        with pytest.raises(CredentialsRefused, match=f"storage profile minio has no key: .*{said}"):
            storage.read("s3://minio@maps/x")
    path.write_text(json.dumps({"access_key_id": "k", "secret_access_key": "s"}))
    path.chmod(0o644)
    with pytest.raises(BadInput, match="run chmod 600"):
        storage.read("s3://minio@maps/x")
    path.chmod(0o600)
    storage.write("s3://minio@maps/x", b"1")
    path.write_text("nonsense")
    with pytest.raises(CredentialsRefused, match="no JSON object"):
        Storage({"minio": StorageProfile("minio", endpoint=s3, credentials=f"file:{path}")}).read("s3://minio@maps/x")


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        (400, "ExpiredToken", CredentialsRefused, "the keys of storage profile minio have expired .ExpiredToken.; renew them at env:MINIO"),
        (403, "InvalidAccessKeyId", CredentialsRefused, "refuses the keys of storage profile minio .*check env:MINIO"),
        (403, "AccessDenied", CredentialsRefused, "refuses the keys"),
        (403, "SignatureDoesNotMatch", CredentialsRefused, "refuses the keys"),
        (503, "SlowDown", TryAgain, "is busy .SlowDown.; try again later"),
    ],
)
def test_refusals_are_one_sentence_with_the_next_step(keys: None, status: int, code: str, error: type, said: str) -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said the server</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    profile = StorageProfile("minio", endpoint=f"http://127.0.0.1:{server.server_address[1]}", credentials="env:MINIO", attempts=1)
    try:
        storage = Storage({"minio": profile})
        where = "s3://minio@maps/x"
        uses = (lambda: storage.read(where), lambda: storage.list(where), lambda: storage.write(where, b"1"))
        for use in uses:
            with pytest.raises(error, match=said) as caught:
                use()
            assert "the-secret" not in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_server_that_is_not_there_may_come_back(keys: None) -> None:
    storage = Storage({"minio": StorageProfile("minio", endpoint="http://127.0.0.1:9", credentials="env:MINIO", timeout=0.5, attempts=1)})
    with pytest.raises(TryAgain, match=r"http://127.0.0.1:9 cannot be reached"):
        storage.read("s3://minio@maps/x")


def test_profiles_come_from_a_file_and_hold_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
    path = tmp_path / "storage.json"
    path.write_text(json.dumps({"minio": {"endpoint": "https://s3.example.org", "credentials": "env:MINIO"}}))
    monkeypatch.setenv("EARTHSELF_STORAGE", str(path))
    profile = Storage().profile("s3://minio@maps/x")
    assert profile.endpoint == "https://s3.example.org"
    assert "the-secret" not in repr(profile) + repr(profile.resolve())
    with pytest.raises(BadInput, match=r"names storage profile 'other', which is not configured \(known: minio\)"):
        Storage().read("s3://other@maps/x")
    for broken in ("{", "[]", '{"minio": {"colour": "red"}}'):
        path.write_text(broken)
        with pytest.raises(BadInput, match="does not hold storage profiles"):
            load_profiles()
    path.unlink()
    with pytest.raises(NotThere, match="does not exist; write the storage profiles there"):
        load_profiles()
    monkeypatch.delenv("EARTHSELF_STORAGE")
    assert load_profiles() == {}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"addressing": "sideways"}, "use auto, path or virtual"),
        ({"endpoint": "s3.example.org"}, "begin it with https://"),
        ({"credentials": "AKIA:pasted-secret"}, "must be a reference"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        StorageProfile("x", **fields)
    assert "pasted-secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://maps/x", "s3://@maps/x", "ftp://minio@maps/x", "s3://minio@"])
def test_an_address_without_a_profile_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="write s3://PROFILE@bucket/key"):
        Storage({}).read(url)


def test_a_provider_on_s3_is_read_through_signed_addresses(s3: str, storage: Storage, tmp_path: Path) -> None:
    storage.write("s3://minio@maps/deep/B04.tif", raster_bytes(PIXELS))
    settings = (
        "on_s3:\n  url: http://127.0.0.1:9\n  priority: 1\n  search:\n    type: StacSearch\n    api_endpoint: http://127.0.0.1:9/search\n"
        "    discover_collections: {fetch_url: null}\n    discover_queryables: {fetch_url: null, collection_fetch_url: null}\n"
        "  products:\n    S2_MSI_L2A:\n      _collection: x\n  download:\n    type: AwsDownload\n"
        f"  auth:\n    type: AwsAuth\n    matching_url: s3://\n    s3_endpoint: {s3}\n"
    )
    found = {
        "id": "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608",
        "geometry": {"type": "Polygon", "coordinates": [[[16, 48], [17, 48], [17, 49], [16, 48]]]},
        "properties": {"earthself:provider": "on_s3", "earthself:collection": "S2_MSI_L2A", "earthself:access": "login"},
        "assets": {"B04": {"href": "s3://maps/deep/B04.tif"}},
    }
    config = SourceConfig(("on_s3",), settings, {"on_s3": {"aws_access_key_id": "k", "aws_secret_access_key": "s3cret-word"}}, attempts=1)
    with Sources(config) as made:
        with made.open_band(found, "B04") as reader:
            assert reader.ranged
            assert np.array_equal(reader.read(), PIXELS)
        assert made.download(found, tmp_path)["B04"].read_bytes() == storage.read("s3://minio@maps/deep/B04.tif")
        found["assets"]["B04"]["href"] = "s3://maps/deep/gone.tif"
        with pytest.raises(NotThere) as caught:
            made.open_band(found, "B04")
        assert "s3cret" not in str(caught.value)
