"""Keys that end while they are used, keys that live for a run only, addresses that need none; two storages with the same names."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from earthself.data.credentials import Credentials, Issuer, Keys
from earthself.data.errors import BadInput, CredentialsRefused, NotThere, TryAgain
from earthself.data.folders import Pace, stage_in, stage_out
from earthself.data.lending import lend, link
from earthself.data.profiles import StorageProfile, load_profiles
from earthself.data.rasters import read_raster
from earthself.data.retries import RetryPolicy
from earthself.data.storage import Storage
from provider import raster_bytes

from tests.s3_server import Answer, Cut, Proxy, Request, S3Server

PART = 5 << 20
PACE = Pace(single=PART, part=PART, retries=RetryPolicy(attempts=1))
PIXELS = np.random.default_rng(3).integers(1, 9999, (700, 700)).astype(np.uint16)
ROLE = "arn:aws:iam::123456789012:role/runs"


class KeyFile:
    """A file with keys that somebody renews: the storage refuses all but the newest."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self.renew()

    def renew(self) -> None:
        self.number += 1
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"access_key_id": self.key_id, "secret_access_key": "the-secret", "session_token": "the-token"}))
        part.chmod(0o600)
        part.replace(self.path)

    @property
    def key_id(self) -> str:
        return f"key-{self.number}"

    def refuse_old(self, request: Request) -> Answer | None:
        return Answer(400, "ExpiredToken") if request.key_id not in ("", self.key_id) else None


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def storage(proxy: Proxy, keys: KeyFile) -> Storage:
    return Storage({"near": StorageProfile("near", endpoint=proxy.url, credentials=f"file:{keys.path}", timeout=10, attempts=3)})


def renewing(keys: KeyFile, *at: int) -> Callable[[Request], Answer | None]:
    """The keys end at these requests, counted from 1, and new ones lie in the file at once."""
    come: list[Request] = []

    def fault(request: Request) -> Answer | None:
        come.append(request)
        if len(come) in at:
            keys.renew()
        return keys.refuse_old(request)

    return fault


def test_a_transfer_goes_on_when_its_keys_end_midway(storage: Storage, keys: KeyFile, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    data = np.random.default_rng(1).bytes(4 * PART)
    (tmp_path / "out" / "big.tif").write_bytes(data)
    (tmp_path / "out" / "small").write_bytes(b"1")
    proxy.fault = renewing(keys, 4, 7)
    assert stage_out(tmp_path / "out", "s3://near@maps/renewed", storage, PACE).moved == len(data) + 1
    proxy.fault = renewing(keys, 1, 4)
    assert stage_in("s3://near@maps/renewed", tmp_path / "in", storage, PACE).moved == len(data) + 1
    assert (tmp_path / "in" / "big.tif").read_bytes() == data
    assert keys.number == 5
    assert storage.exists("s3://near@maps/renewed/small")
    assert not storage.exists("s3://near@maps/renewed/none")


def test_fsspec_goes_on_too(storage: Storage, keys: KeyFile, proxy: Proxy) -> None:
    system, path = storage.filesystem("s3://near@maps/by-fsspec")
    system.pipe_file(f"{path}/a", b"one")
    keys.renew()
    proxy.fault = keys.refuse_old
    system.pipe_file(f"{path}/b", b"two")
    assert system.cat_file(f"{path}/a") == b"one"
    assert storage.read("s3://near@maps/by-fsspec/b") == b"two"
    proxy.fault = renewing(keys, 2, 4)
    assert [system.cat_file(f"{path}/b") for _ in range(4)] == [b"two"] * 4


def test_keys_that_nobody_renews_are_one_sentence(storage: Storage, keys: KeyFile, proxy: Proxy) -> None:
    proxy.fault = lambda _: Answer(400, "ExpiredToken")
    with pytest.raises(CredentialsRefused, match=r"^the keys of storage profile near have expired \(ExpiredToken\); renew them at file:/"):
        storage.read("s3://near@maps/x")
    assert len(proxy.seen) == 3
    # An answer to HEAD says no more than 400; the sentence is the same.
    proxy.fault = lambda request: Answer(400, "" if request.method == "HEAD" else "ExpiredToken")
    with pytest.raises(CredentialsRefused, match="have expired"):
        storage.exists("s3://near@maps/x")


def test_rasterio_goes_on_too(storage: Storage, keys: KeyFile, proxy: Proxy) -> None:
    url = "s3://near@maps/B04.tif"
    storage.write(url, raster_bytes(PIXELS))
    proxy.fault = keys.refuse_old

    def slowly(dataset: rasterio.DatasetReader) -> np.ndarray:
        first = dataset.read(1, window=((0, 8), (0, 8)))
        assert first.shape == (8, 8)
        if keys.number == 1:
            keys.renew()
        return dataset.read(1)

    assert np.array_equal(read_raster(url, slowly, storage), PIXELS)
    assert keys.number == 2
    # What GDAL learnt while the keys were no good is not believed afterwards.
    proxy.fault = lambda _: Answer(400, "ExpiredToken")
    with pytest.raises(CredentialsRefused, match="have expired"):
        read_raster(url, slowly, storage)
    proxy.reset()
    assert np.array_equal(read_raster(url, slowly, storage), PIXELS)
    with storage.profile(url).rasterio_env(), rasterio.open(storage.gdal_path(url)) as dataset:
        assert np.array_equal(dataset.read(1), PIXELS)


def test_what_rasterio_cannot_read_is_one_sentence(storage: Storage, proxy: Proxy) -> None:
    with pytest.raises(NotThere, match=r"none.tif does not exist; mend its name"):
        read_raster("s3://near@maps/none.tif", lambda dataset: dataset.read(), storage)
    storage.write("s3://near@maps/text.tif", b"no raster")
    with pytest.raises(TryAgain, match=r"cannot be read as a raster .*check that it is one"):
        read_raster("s3://near@maps/text.tif", lambda dataset: dataset.read(), storage)


@pytest.mark.parametrize("fault", [Answer(503, "SlowDown"), Answer(500, "InternalError"), Cut(5000), Cut(0)])
def test_a_raster_read_over_a_bad_line_is_right_or_an_error(fault: Answer | Cut, storage: Storage, proxy: Proxy) -> None:
    url = "s3://near@maps/bad-line.tif"
    storage.write(url, raster_bytes(PIXELS))
    for number in (1, 2):  # header, pixels
        come: list[Request] = []

        def once(request: Request, number: int = number, come: list[Request] = come) -> Answer | Cut | None:
            come.append(request)
            return fault if len(come) == number else None

        proxy.fault = once
        try:
            found = read_raster(url, lambda dataset: dataset.read(1), storage)
        except TryAgain:
            assert isinstance(fault, Cut)  # GDAL asks a busy server again
            continue
        finally:
            assert len(come) >= number
        assert np.array_equal(found, PIXELS)
    proxy.reset()
    assert np.array_equal(read_raster(url, lambda dataset: dataset.read(1), storage), PIXELS)


def test_a_raster_that_was_replaced_is_read_anew(storage: Storage) -> None:
    url = "s3://near@maps/replaced.tif"
    for pixels in (PIXELS, PIXELS[::-1].copy(), (PIXELS // 3)[:200, :200]):
        storage.write(url, raster_bytes(pixels))
        assert np.array_equal(read_raster(url, lambda dataset: dataset.read(1), storage), pixels)


def test_the_same_bucket_name_at_two_storages_is_two_buckets(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTH_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("BOTH_SECRET_ACCESS_KEY", "s")
    with S3Server() as other:
        other.bucket("maps")
        profiles = {
            name: StorageProfile(name, endpoint=each.url, credentials="env:BOTH", timeout=10, attempts=2)
            for name, each in (("near", s3), ("far", other))
        }
        storage = Storage(profiles)
        pixels = {"near": PIXELS, "far": PIXELS.T.copy()}
        for name in profiles:
            storage.write(f"s3://{name}@maps/same.tif", raster_bytes(pixels[name]))
            storage.write(f"s3://{name}@maps/same.txt", name.encode())
        for name in ("near", "far", "near"):
            url = f"s3://{name}@maps/same"
            assert storage.read(f"{url}.txt") == name.encode()
            system, path = storage.filesystem(f"{url}.txt")
            assert system.cat_file(path) == name.encode()
            assert np.array_equal(read_raster(f"{url}.tif", lambda dataset: dataset.read(1), storage), pixels[name])
        # One opened within the other: each sees its own.
        with profiles["near"].rasterio_env(), rasterio.open("/vsis3/maps/same.tif") as near:
            assert np.array_equal(read_raster("s3://far@maps/same.tif", lambda dataset: dataset.read(1), storage), pixels["far"])
            assert np.array_equal(near.read(1), pixels["near"])


def test_a_public_bucket_needs_no_keys(s3: S3Server, proxy: Proxy) -> None:
    s3.client.put_object(Bucket="maps", Key="public/B04.tif", Body=raster_bytes(PIXELS), ACL="public-read")
    storage = Storage({"open": StorageProfile("open", endpoint=proxy.url, timeout=10, attempts=1)})
    url = "s3://open@maps/public/B04.tif"
    system, path = storage.filesystem(url)
    assert system.cat_file(path) == storage.read(url)
    with storage.profile(url).rasterio_env(), rasterio.open(storage.gdal_path(url)) as dataset:
        assert np.array_equal(dataset.read(1), PIXELS)
    assert {request.key_id for request in proxy.seen} == {""}


def test_buckets_in_the_host_name(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOTH_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("BOTH_SECRET_ACCESS_KEY", "s")
    resolve = socket.getaddrinfo

    def everything_below_localhost(host: Any, *arguments: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith("localhost") else host, *arguments, **options)

    # As RFC 6761 has it, and GDAL's libcurl does; the C library of many machines does not.
    monkeypatch.setattr(socket, "getaddrinfo", everything_below_localhost)
    with Proxy(s3, virtual="localhost") as proxy:
        profile = StorageProfile("v", endpoint=f"http://localhost:{proxy.port}", addressing="virtual", credentials="env:BOTH", attempts=2)
        storage = Storage({"v": profile})
        storage.write("s3://v@maps/virtual/B04.tif", raster_bytes(PIXELS))
        assert storage.exists("s3://v@maps/virtual/B04.tif")
        assert storage.list("s3://v@maps/virtual") == ["s3://v@maps/virtual/B04.tif"]
        assert np.array_equal(read_raster("s3://v@maps/virtual/B04.tif", lambda dataset: dataset.read(1), storage), PIXELS)
        system, path = storage.filesystem("s3://v@maps/virtual/B04.tif")
        assert len(system.cat_file(path)) == len(storage.read("s3://v@maps/virtual/B04.tif"))
        assert urllib.request.urlopen(link("s3://v@maps/virtual/B04.tif", storage=storage).address, timeout=10).status == 200
        assert {request.headers["host"] for request in proxy.seen} == {f"maps.localhost:{proxy.port}"}
        assert not any(request.path.startswith("/maps") for request in proxy.seen)


def test_short_lived_keys_are_all_that_the_storage_sees(
    s3: S3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    for number, role in enumerate((None, ROLE)):
        profile = StorageProfile(
            f"run{number}", endpoint=proxy.url, credentials="env:OWNER", session_hours=1, role_arn=role, timeout=10, attempts=3
        )
        proxy.reset()
        storage = Storage({profile.name: profile})
        url = f"s3://{profile.name}@maps/short.tif"
        storage.write(url, raster_bytes(PIXELS))
        assert np.array_equal(read_raster(url, lambda dataset: dataset.read(1), storage), PIXELS)
        to_sts = [request for request in proxy.seen if request.path == "/" and request.method == "POST"]
        to_s3 = [request for request in proxy.seen if request not in to_sts]
        assert {request.key_id for request in to_sts} == {"long-lived"}
        assert len(to_sts) == 1
        assert "long-lived" not in {request.key_id for request in to_s3}
        assert all("x-amz-security-token" in request.headers for request in to_s3)
        if role is None:
            continue  # moto gives every session the same access key
        # The storage calls them expired before their time: there are new ones.
        first = profile.resolve()
        assert first is not None
        proxy.fault = lambda request, old=first.access_key_id: Answer(400, "ExpiredToken") if request.key_id == old else None
        storage.write(url, b"again")
        assert profile.resolve() != first


def test_short_lived_keys_are_renewed_before_they_end(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    passed = [timedelta()]
    start = datetime.now(UTC)
    keys = Keys("env:OWNER", "profile", Issuer(1.0, None, s3.url, timeout=10), clock=lambda: start + passed[0])
    first = keys.now()
    assert first.expires
    assert timedelta(minutes=59) < first.expires - start < timedelta(minutes=61)
    passed[0] = timedelta(minutes=50)
    assert keys.now() == first
    passed[0] = timedelta(minutes=56)
    second = keys.now()
    assert second != first
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "rotated")
    assert keys.now() not in (first, second)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(403, "AccessDenied"), CredentialsRefused, r"gives no keys of 1 hours for role arn.* \(AccessDenied\); check the keys"),
        (Answer(503, "ServiceUnavailable"), TryAgain, r"is busy \(ServiceUnavailable\); try again later"),
    ],
)
def test_an_sts_that_gives_nothing_is_one_sentence(
    *, answer: Answer, error: type[Exception], said: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    proxy.fault = lambda _: answer
    profile = StorageProfile("run", endpoint=proxy.url, credentials="env:OWNER", session_hours=1, role_arn=ROLE, attempts=1)
    for use in (lambda: Storage({"run": profile}).read("s3://run@maps/x"), profile.gdal_options, profile.fsspec_options):
        with pytest.raises(error, match=f"^the STS at {proxy.url} {said}") as caught:
            use()
        assert "long-secret" not in str(caught.value)


def test_a_step_is_lent_keys_that_end(s3: S3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    profiles = {
        "run": StorageProfile("run", endpoint=proxy.url, credentials="env:OWNER", session_hours=2, role_arn=ROLE, attempts=2),
        "open": StorageProfile("open", endpoint=proxy.url),
        "other": StorageProfile("other", endpoint="http://127.0.0.1:9", credentials="env:OTHER"),
    }
    loan = lend(
        str(tmp_path),
        "land_cover_map/manual__2026-01-01T00:00:00+00:00",
        read=["s3://run@maps/in", "s3://open@maps/x", "/volume/in"],
        write=["s3://run@maps/runs/one/"],
        profiles=profiles,
    )
    assert "long" not in json.dumps(loan.files)
    assert "other" not in loan.files["storage.json"]
    assert loan.expires
    assert timedelta(minutes=115) < loan.expires - datetime.now(UTC) < timedelta(minutes=121)
    assert not any(secret in repr(loan) for secret in json.loads(loan.files["keys-run.json"]).values() if len(secret) > 30)
    for name, text in loan.files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    inside = Storage(load_profiles(tmp_path / loan.profiles))
    inside.write("s3://run@maps/runs/one/x", b"1")
    assert inside.read("s3://run@maps/runs/one/x") == b"1"
    assert proxy.seen[-1].key_id == json.loads(loan.files["keys-run.json"])["access_key_id"]
    asked = next(request for request in proxy.seen if request.path == "/")
    form = asked.form()
    assert form["RoleSessionName"] == "land_cover_map-manual__2026-01-01T00-00-00+00-00"
    statements = json.loads(form["Policy"])["Statement"]
    assert statements[0] == {
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::maps/in", "arn:aws:s3:::maps/in/*"],
    }
    assert statements[1]["Resource"] == ["arn:aws:s3:::maps/runs/one", "arn:aws:s3:::maps/runs/one/*"]
    assert statements[2]["Resource"] == ["arn:aws:s3:::maps"]


def test_many_places_of_a_run_are_lent_as_the_folder_that_they_share(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    profiles = {"run": StorageProfile("run", endpoint=proxy.url, credentials="env:OWNER", session_hours=2, role_arn=ROLE, attempts=2)}
    run = "s3://run@maps/land_cover_map/manual__2026-01-01T00:00:00+00:00"
    lend("/keys", "run", read=[f"{run}/sign/{n}/output" for n in range(50)], write=[f"{run}/mosaic/output"], profiles=profiles)
    policy = next(request for request in proxy.seen if request.path == "/").form()["Policy"]
    assert len(policy) <= 2048
    assert json.loads(policy)["Statement"][0]["Resource"][0] == f"arn:aws:s3:::maps/{run.partition('maps/')[2]}/sign"
    with pytest.raises(BadInput, match=r"50 places, from s3://run@maps/0/.* are more than one loan can name"):
        lend("/keys", "run", read=[f"s3://run@maps/{n}/{'x' * 60}" for n in range(50)], profiles=profiles)


def test_keys_that_do_not_end_are_lent_only_where_the_profile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    own = StorageProfile("own", endpoint="https://s3.example.org", credentials="env:OWNER")
    with pytest.raises(BadInput, match=r"storage profile own gives steps no keys: .*set session_hours .*else lend_own_keys"):
        lend("/keys", "run", read=["s3://own@maps/x"], profiles={"own": own})
    willing = StorageProfile("own", endpoint="https://s3.example.org", credentials="env:OWNER", lend_own_keys=True)
    loan = lend("/keys", "run", read=["s3://own@maps/x"], profiles={"own": willing})
    assert loan.expires is None
    assert json.loads(loan.files["storage.json"])["own"]["credentials"] == "file:/keys/keys-own.json"


def test_a_link_opens_one_object(storage: Storage, keys: KeyFile, monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    storage.write("s3://near@maps/linked.txt", b"linked")
    got = link("s3://near@maps/linked.txt", 2, storage)
    assert urllib.request.urlopen(got.address, timeout=10).read() == b"linked"
    assert "X-Amz-Signature" in got.address
    assert "X-Amz" not in repr(got)
    put = link("s3://near@maps/put by link.txt", 2, storage, write=True)
    urllib.request.urlopen(
        urllib.request.Request(put.address, data=b"put", method="PUT", headers={"Content-Type": "text/plain"}), timeout=10
    )
    assert storage.read("s3://near@maps/put by link.txt") == b"put"
    for hours in (0, 169):
        with pytest.raises(BadInput, match="more than 0 and at most 168"):
            link("s3://near@maps/x", hours, storage)
    monkeypatch.setenv("OWNER_ACCESS_KEY_ID", "long-lived")
    monkeypatch.setenv("OWNER_SECRET_ACCESS_KEY", "long-secret")
    run = StorageProfile("run", endpoint=proxy.url, credentials="env:OWNER", session_hours=2, attempts=2)
    with pytest.raises(BadInput, match=r"the keys that sign it end at .*raise session_hours of storage profile run"):
        link("s3://run@maps/x", 3, Storage({"run": run}))


def test_a_mounted_secret_may_be_read_by_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    path.write_text(Credentials("k", "s", "t", datetime(2026, 1, 1, tzinfo=UTC)).to_json())
    profile = StorageProfile("p", credentials=f"file:{path}")
    path.chmod(0o640)
    with pytest.raises(BadInput, match="run chmod 600"):
        profile.resolve()
    uid = path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: uid + 1)
    assert profile.resolve() == Credentials("k", "s", "t", datetime(2026, 1, 1, tzinfo=UTC))
    path.chmod(0o644)
    with pytest.raises(BadInput, match="run chmod 600"):
        profile.resolve()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"role_arn": ROLE, "credentials": "env:X"}, "no session_hours"),
        ({"session_hours": 0.1, "credentials": "env:X"}, r"session_hours 0.1 of storage profile p is not from 0.25 to 36"),
        ({"session_hours": 1}, "no credentials to get keys with"),
        ({"session_hours": 1, "credentials": "env:X", "sts_endpoint": "sts.example.org"}, "sts_endpoint .* begin it with https://"),
    ],
)
def test_a_profile_that_cannot_give_keys_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        StorageProfile("p", **fields)
