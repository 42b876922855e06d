"""Reading windows and downloading products: by ranges where a provider has them, whole where it has not, from archives too."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from earthself.data import login
from earthself.data.errors import BadInput, CredentialsRefused, Damaged, NotThere, ProductChanged, TryAgain
from earthself.data.radiometry import offset_from_metadata
from earthself.data.ranges import BandReader
from earthself.data.sources import Sources
from provider import QUICK, Answer, Change, Cut, Drip, File, Lie, Provider, Stall, raster_bytes, safe_zip
from rasterio.windows import Window

NAME = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
RNG = np.random.default_rng(7)
PIXELS = RNG.integers(1, 4000, (900, 900)).astype(np.uint16)
SCENE = raster_bytes(PIXELS)
Make = Callable[..., Sources]


def item(provider: Provider, *, access: str = "open", **assets: Any) -> dict[str, Any]:
    """A found product; values are files at `/<key>.<suffix>`, or whole assets."""
    made = {}
    for key, value in assets.items():
        if isinstance(value, dict):
            made[key] = value
            continue
        suffix = {b"PK": "zip", b"\0\0": "jp2"}.get(value.data[:2], "tif")
        provider.files[f"/{key}.{suffix}"] = value
        made[key] = {"href": f"{provider.url}/{key}.{suffix}"}
    square = {"type": "Polygon", "coordinates": [[[16, 48], [17, 48], [17, 49], [16, 48]]]}
    properties = {
        "datetime": "2017-06-13T10:10:31Z",
        "earthself:provider": "hostile",
        "earthself:collection": "S2_MSI_L2A",
        "earthself:access": access,
    }
    return {"type": "Feature", "id": NAME, "geometry": square, "properties": properties, "assets": made, "links": []}


def patience(fault: Any) -> float:
    return QUICK if isinstance(fault, (Stall, Drip)) else 10


# --- ranges -----------------------------------------------------------------------------------------------------------


def test_a_window_costs_its_bytes_and_not_the_files(provider: Provider, sources: Make) -> None:
    with sources().open_band(item(provider, B04=File(SCENE)), "B04") as band:
        assert (band.shape, band.block_shape, band.nodata, band.dtype, band.ranged) == ((900, 900), (128, 128), 0.0, "uint16", True)
        assert band.crs.to_epsg() == 32633
        assert (band.transform.c, band.transform.f, band.transform.a) == (300000, 5400000, 10)
        got = band.read(Window(130, 260, 100, 90))
        assert np.array_equal(got, PIXELS[260:350, 130:230])
        assert band.bytes_read < len(SCENE) / 5
        sent = sum(int(r.headers["Range"].split("-")[1]) - int(r.headers["Range"][6:].split("-")[0]) + 1 for r in provider.requests)
        assert band.bytes_read == sent
        assert len(provider.requests) <= 3
        assert np.array_equal(band.read(), PIXELS)
    assert all(r.headers["Range"] for r in provider.requests)


def test_reading_outside_the_raster_is_refused(provider: Provider, sources: Make) -> None:
    with (
        sources().open_band(item(provider, B04=File(SCENE)), "B04") as band,
        pytest.raises(ValueError, match="not inside the 900 x 900 pixels"),
    ):
        band.read(Window(800, 800, 200, 10))


def test_a_jpeg_2000_is_read_by_ranges_too(provider: Provider, sources: Make) -> None:
    data = raster_bytes(PIXELS[:300, :300], driver="JP2OpenJPEG")
    with sources().open_band(item(provider, B04=File(data)), "B04") as band:
        assert np.array_equal(band.read(Window(10, 20, 200, 100)), PIXELS[20:120, 10:210])
        assert band.ranged


def test_bands_are_read_side_by_side_in_threads(provider: Provider, sources: Make) -> None:
    found = item(provider, **{band: File(SCENE) for band in ("B02", "B03", "B04")})
    with sources() as made:
        readers = {band: made.open_band(found, band) for band in ("B02", "B03", "B04")}
        got: dict[str, np.ndarray] = {}

        def read(name: str, reader: BandReader) -> None:
            got[name] = reader.read(Window(0, 0, 500, 500))

        threads = [threading.Thread(target=read, args=each) for each in readers.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for reader in readers.values():
            reader.close()
    assert all(np.array_equal(array, PIXELS[:500, :500]) for array in got.values())
    assert len(got) == 3


@pytest.mark.parametrize("fault", [Answer(503), Answer(429, {"Retry-After": "4"}), Cut(1000), Stall(1000), Drip(0.05)])
def test_what_passes_is_not_noticed(provider: Provider, sources: Make, slept: list[float], fault: Any) -> None:
    found = item(provider, B04=File(SCENE, faults=[fault, None, fault]))
    with sources(timeout=patience(fault)).open_band(found, "B04") as band:
        assert np.array_equal(band.read(Window(0, 0, 300, 300)), PIXELS[:300, :300])
    assert slept == ([4.0, 4.0] if isinstance(fault, Answer) and fault.headers else [1.0, 1.0])


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Answer(401), CredentialsRefused, "hostile refuses access"),
        (Answer(403), CredentialsRefused, "connection `eodag`"),
        (Answer(404), NotThere, "any more"),
        (Answer(429), TryAgain, "answers 429"),
        (Answer(504), TryAgain, "answers 504"),
        (Cut(1000), TryAgain, "cut the connection"),
        (Stall(1000), TryAgain, "sent nothing for 0.3 s"),
        (Lie(5), TryAgain, "cut the connection"),
        (Lie(-5), TryAgain, "bytes from .* asked for|cut the connection|broke"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["at the first read", "later"])
def test_what_does_not_pass_is_said(provider: Provider, sources: Make, fault: Any, error: type, said: str, first: bool) -> None:  # noqa: PLR0917
    file = File(SCENE, always=fault)
    with pytest.raises(error, match=said):
        sources(timeout=patience(fault)).open_band(item(provider, B04=file), "B04")
    file.faults.append(None)
    with sources(timeout=patience(fault)).open_band(item(provider, B04=file), "B04") as band, pytest.raises(error, match=said):
        band.read(Window(0, 0, 500, 500))


def test_a_product_that_changes_between_two_reads_is_not_mixed(provider: Provider, sources: Make) -> None:
    other = raster_bytes(PIXELS[::-1].copy())
    for change in (Change(other), Change(other, etag=None, modified="Tue, 02 Jan 2024 00:00:00 GMT"), Change(other + b"x", etag=None)):
        found = item(provider, B04=File(SCENE))
        with sources().open_band(found, "B04") as band:
            first = band.read(Window(0, 0, 128, 128))
            provider.files["/B04.tif"].faults = [change]
            with pytest.raises(ProductChanged, match="changed while it was read; read the product again") as caught:
                band.read(Window(512, 512, 128, 128))
            with pytest.raises(ProductChanged):
                band.read(Window(0, 0, 128, 128))
        assert np.array_equal(first, PIXELS[:128, :128])
        assert (caught.value.exit_code, caught.value.retry) == (75, True)


def test_a_size_that_is_not_the_catalogues_is_found_out(provider: Provider, sources: Make) -> None:
    provider.files["/B04.tif"] = File(SCENE)
    found = item(provider, B04={"href": f"{provider.url}/B04.tif", "file:size": len(SCENE) + 1})
    with pytest.raises(Damaged, match=f"{len(SCENE)} bytes by its server and {len(SCENE) + 1} by the catalogue"):
        sources().open_band(found, "B04")


def test_what_is_no_raster_is_said(provider: Provider, sources: Make) -> None:
    with pytest.raises(Damaged, match=f"B04 of {NAME} is not a raster"):
        sources().open_band(item(provider, B04=File(b"<html>login</html>")), "B04")
    broken = bytearray(SCENE)
    broken[len(SCENE) // 2 : len(SCENE) // 2 + 50_000] = bytes(50_000)
    with sources().open_band(item(provider, B04=File(bytes(broken))), "B04") as band, pytest.raises(Damaged, match="cannot be read"):
        band.read()


def test_a_band_that_is_missing_is_named_with_those_there_are(provider: Provider, sources: Make) -> None:
    with pytest.raises(NotThere, match="no band B11; it has B04"):
        sources().open_band(item(provider, B04=File(SCENE)), "B11")


# --- without ranges ---------------------------------------------------------------------------------------------------


def test_without_ranges_the_file_is_downloaded_once(provider: Provider, sources: Make) -> None:
    found = item(provider, B04=File(SCENE, ranges=False))
    made = sources()
    with made.open_band(found, "B04") as band:
        assert not band.ranged
        assert np.array_equal(band.read(Window(5, 6, 70, 80)), PIXELS[6:86, 5:75])
        assert band.bytes_read == len(SCENE)
    with made.open_band(found, "B04") as band:
        assert band.bytes_read == 0
    assert len(provider.requests) == 2


def test_downloads_get_their_names_when_they_are_whole(provider: Provider, sources: Make, tmp_path: Path) -> None:
    digest = "1220" + hashlib.sha256(SCENE).hexdigest()
    provider.files["/red.tif"] = File(SCENE, faults=[Cut(5000)])
    found = item(provider, B04={"href": f"{provider.url}/red.tif", "file:size": len(SCENE), "file:checksum": digest}, B08=File(SCENE))
    made = sources()
    paths = made.download(found, tmp_path / "out")
    assert paths == {band: tmp_path / "out" / NAME / f"{band}.tif" for band in ("B04", "B08")}
    assert all(path.read_bytes() == SCENE for path in paths.values())
    asked = len(provider.requests)
    assert made.download(found, tmp_path / "out", ["B04"]) == {"B04": paths["B04"]}
    assert len(provider.requests) == asked
    local = {**found, "assets": {band: {"href": str(path)} for band, path in paths.items()}}
    with made.open_band(local, "B04") as band:
        assert band.bytes_read == 0
        assert np.array_equal(band.read(), PIXELS)
    assert made.download(local, tmp_path / "copy")["B08"].read_bytes() == SCENE


def test_a_file_that_was_cut_without_a_trace_is_not_kept(provider: Provider, sources: Make, tmp_path: Path) -> None:
    found = item(provider, B04=File(SCENE[:-20_000]))
    with pytest.raises(Damaged, match="cannot be read"):
        sources().download(found, tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_missing_local_file_says_what_to_do(sources: Make, provider: Provider, tmp_path: Path) -> None:
    gone = item(provider, B04={"href": str(tmp_path / "gone.tif")})
    with pytest.raises(NotThere, match="fetch the product again"):
        sources().open_band(gone, "B04")
    with pytest.raises(NotThere, match="fetch the product again"):
        sources().download(gone, tmp_path / "out")


# --- archives ---------------------------------------------------------------------------------------------------------

MTD = b'<n1:Level-2A_User_Product><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></n1:Level-2A_User_Product>'
SAFE = safe_zip(
    NAME,
    {"B04_10m": PIXELS[:200, :200], "B04_20m": PIXELS[:100, :100], "B11_20m": PIXELS[:100, :100], "SCL_20m": PIXELS[:100, :100] % 12},
    MTD,
)


def test_an_archive_works_like_single_files(provider: Provider, sources: Make) -> None:
    found = item(provider, product=File(SAFE, ranges=False))
    made = sources()
    with made.open_band(found, "B04") as band:
        assert band.shape == (200, 200)
        assert band.transform.a == 10
        assert np.array_equal(band.read(Window(50, 60, 100, 90)), PIXELS[60:150, 50:150])
        assert band.bytes_read == len(SAFE)
    with made.open_band(found, "SCL") as band:
        assert band.read().max() == 11
        assert band.bytes_read == 0
    assert len(provider.requests) == 1
    assert offset_from_metadata(made.metadata(found) or b"") == 0
    with pytest.raises(NotThere, match="no band B12; it has B04, B11, SCL"):
        made.open_band(found, "B12")


def test_bands_are_taken_out_of_an_archive(provider: Provider, sources: Make, tmp_path: Path) -> None:
    found = item(provider, product=File(SAFE))
    paths = sources().download(found, tmp_path / "out")
    assert sorted(paths) == ["B04", "B11", "SCL"]
    assert paths["B11"] == tmp_path / "out" / NAME / "B11.jp2"
    with rasterio.open(paths["B04"]) as file:
        assert np.array_equal(file.read(1), PIXELS[:200, :200])
    assert (tmp_path / "out" / NAME / "product_metadata.xml").read_bytes() == MTD
    assert list(sources().download(found, tmp_path / "two", ["B11"])) == ["B11"]


def test_a_cut_archive_is_not_kept(provider: Provider, sources: Make, tmp_path: Path) -> None:
    found = item(provider, product=File(SAFE[:-100], ranges=False))
    with pytest.raises(Damaged, match="not a whole zip archive"):
        sources().open_band(found, "B04")
    assert [p for p in (tmp_path / "downloads").rglob("*") if p.is_file()] == []


def packed(metadata: bytes = MTD) -> bytes:
    """A product whose files are compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.SAFE/MTD_MSIL2A.xml", metadata)
        archive.writestr("X.SAFE/R10m/T33UUP_B04_10m.tif", SCENE)
    return out.getvalue()


def spoilt(name: bytes) -> bytes:
    """Such a product with nonsense where the bytes of one file should be."""
    data = bytearray(packed(MTD * 50))
    start = data.find(name) + len(name) + 8
    data[start : start + 30] = b"\xff" * 30
    return bytes(data)


def encrypted() -> bytes:
    """Such a product whose files say that they are encrypted."""
    data = bytearray(packed())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 4)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (spoilt(b"MTD_MSIL2A.xml"), "is damaged at X.SAFE/MTD_MSIL2A.xml"),
        (encrypted(), "is damaged at .* encrypted"),
        (packed(bytes(6_000_000)), "MTD_MSIL2A.xml in .* has 6000000 bytes unpacked"),
    ],
    ids=["spoilt", "encrypted", "bomb"],
)
def test_an_archive_whose_metadata_cannot_be_unpacked_is_damaged(
    provider: Provider, sources: Make, tmp_path: Path, data: bytes, said: str
) -> None:
    found = item(provider, product=File(data))
    with pytest.raises(Damaged, match=said):
        sources().metadata(found)
    with pytest.raises(Damaged, match=said):
        sources().download(found, tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_an_archive_whose_band_cannot_be_unpacked_is_damaged(provider: Provider, sources: Make, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"is damaged at X.SAFE/R10m/T33UUP_B04_10m.tif"):
        sources().download(item(provider, product=File(spoilt(b"T33UUP_B04_10m.tif"))), tmp_path / "out")
    assert not list(tmp_path.rglob("B04*"))


def test_what_one_provider_damaged_is_not_taken_for_what_another_gives(provider: Provider, sources: Make) -> None:
    found = item(provider, product=File(spoilt(b"T33UUP_B04_10m.tif")))
    made = sources()
    with pytest.raises(Damaged), made.open_band(found, "B04") as band:
        band.read()
    other = item(provider, product=File(packed()))
    other["properties"] = {**other["properties"], "earthself:provider": "other"}
    with made.open_band(other, "B04") as band:
        assert band.read().any()


def test_an_archive_cannot_write_where_it_likes(provider: Provider, sources: Make, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../../../escaped_B04.tif", SCENE)
    paths = sources().download(item(provider, product=File(out.getvalue())), tmp_path / "out")
    assert paths == {"B04": tmp_path / "out" / NAME / "B04.tif"}
    assert not list(tmp_path.rglob("*escaped*"))


def test_the_metadata_document_of_single_files_is_fetched(provider: Provider, sources: Make) -> None:
    provider.files["/MTD_MSIL2A.xml"] = File(MTD, faults=[Answer(503)])
    found = item(provider, B04=File(SCENE), product_metadata={"href": f"{provider.url}/MTD_MSIL2A.xml"})
    assert sources().metadata(found) == MTD
    assert sources().metadata(item(provider, B04=File(SCENE))) is None


# --- logins -----------------------------------------------------------------------------------------------------------

BASIC = f"Basic {base64.b64encode(b'me:secret-word').decode()}"
BASIC_AUTH = "  auth:\n    type: GenericAuth\n"


def test_a_login_is_used_for_ranges_and_downloads(provider: Provider, sources: Make, tmp_path: Path) -> None:
    provider.login = lambda headers, _query: headers.get("Authorization") == BASIC
    found = item(provider, access="login", B04=File(SCENE))
    made = sources(BASIC_AUTH, credentials={"hostile": {"username": "me", "password": "secret-word"}})
    with made.open_band(found, "B04") as band:
        assert np.array_equal(band.read(Window(0, 0, 300, 300)), PIXELS[:300, :300])
    assert made.download(found, tmp_path / "out")["B04"].read_bytes() == SCENE


def test_a_search_knows_that_a_login_is_needed(provider: Provider, sources: Make) -> None:
    from earthself.data.area import Area
    from earthself.data.query import SearchRequest

    provider.add_product(NAME, {"B04": SCENE})
    wanted = SearchRequest(Area.from_conf([16.1, 48.1, 16.3, 48.3]), "2017-06-01", "2017-07-01")
    made = sources(BASIC_AUTH, credentials={"hostile": {"username": "me", "password": "secret-word"}})
    found = made.search(wanted).items[0]
    assert found["properties"]["earthself:access"] == "login"
    provider.login = lambda headers, _query: headers.get("Authorization") == BASIC
    with made.open_band(found, "B04") as band:
        assert np.array_equal(band.read(), PIXELS)


def test_a_login_that_is_missing_or_wrong_says_whose_and_where(provider: Provider, sources: Make) -> None:
    provider.login = lambda headers, _query: headers.get("Authorization") == BASIC
    found = item(provider, access="login", B04=File(SCENE))
    with pytest.raises(CredentialsRefused, match=r"hostile refuses the login.*connection `eodag`"):
        sources(BASIC_AUTH).open_band(found, "B04")
    with pytest.raises(CredentialsRefused, match="hostile refuses access") as caught:
        sources(BASIC_AUTH, credentials={"hostile": {"username": "me", "password": "wrong-word"}}).open_band(found, "B04")
    assert "wrong-word" not in str(caught.value)
    found["properties"]["earthself:provider"] = "stranger"
    with pytest.raises(BadInput, match="not in the provider settings of this task"):
        sources().open_band(found, "B04")


def test_a_token_in_the_address_is_used_and_never_shown(provider: Provider, sources: Make) -> None:
    provider.login = lambda _headers, query: "apikey=secret-key" in query
    auth = "  auth:\n    type: HttpQueryStringAuth\n    auth_uri: ''\n"
    found = item(provider, access="login", B04=File(SCENE))
    made = sources(auth, credentials={"hostile": {"apikey": "secret-key"}})
    with made.open_band(found, "B04") as band:
        assert np.array_equal(band.read(Window(0, 0, 100, 100)), PIXELS[:100, :100])
    provider.files["/B04.tif"].always = Answer(504)
    with pytest.raises(TryAgain) as caught:
        made.open_band(found, "B04")
    assert "secret-key" not in str(caught.value)


def test_a_login_does_not_follow_redirects_to_other_hosts(provider: Provider, sources: Make) -> None:
    with Provider() as elsewhere:
        elsewhere.files["/B04.tif"] = File(SCENE)
        found = item(provider, access="login", B04=File(b"", redirect=f"{elsewhere.url}/B04.tif"))
        made = sources(BASIC_AUTH, credentials={"hostile": {"username": "me", "password": "secret-word"}})
        with made.open_band(found, "B04") as band:
            assert np.array_equal(band.read(Window(0, 0, 100, 100)), PIXELS[:100, :100])
        assert all("Authorization" in r.headers for r in provider.requests)
        assert not any("Authorization" in r.headers for r in elsewhere.requests)


@pytest.mark.parametrize(
    ("pattern", "url", "signed"),
    [
        (None, "https://prov.example/b", True),
        (None, "http://prov.example/b", False),
        (None, "https://other.example/b", False),
        (None, "http://open.example/b", True),
        (None, "https://open.example/b", True),
        (r"https?://[a-z]+\.example/", "https://third.example/b", True),
        (r"https?://[a-z]+\.example/", "http://third.example/b", False),
        (r"https?://[a-z]+\.example/", "http://prov.example/b", False),
        (r"https?://[a-z]+\.example/", "http://open.example/b", True),
        (r"https://prov\.example/", "https://open.example/b", False),
    ],
)
def test_a_login_does_not_go_out_in_the_clear(pattern: str | None, url: str, signed: bool) -> None:
    origins = frozenset({"https://prov.example", "http://open.example"})
    assert login._is_for(pattern, url, origins) is signed


def token_auth(provider: Provider, *valid: str) -> str:
    """Settings of a login that fetches a token; files are given to those who show one of `valid`."""
    provider.files["/token"] = File(json.dumps({"access_token": valid[0], "expires_in": 3600}).encode())
    provider.login = lambda headers, _query: headers.get("Authorization") in [f"Bearer {token}" for token in valid]
    return (
        "  auth:\n    type: TokenAuth\n"
        f"    auth_uri: {provider.url}/token\n    request_method: GET\n    token_type: json\n    token_key: access_token\n"
        "    headers:\n      X-Login: '{apikey}'\n      Authorization: 'Bearer {token}'\n    req_data: {}\n"
    )


KEY = {"hostile": {"apikey": "k-e-y"}}


def test_a_token_that_expires_meanwhile_is_renewed(provider: Provider, sources: Make) -> None:
    found = item(provider, access="login", B04=File(SCENE))
    with sources(token_auth(provider, "t0"), credentials=KEY).open_band(found, "B04") as band:
        assert np.array_equal(band.read(Window(0, 0, 100, 100)), PIXELS[:100, :100])
        assert len(provider.asked("/token")) == 1
        token_auth(provider, "t1")
        assert np.array_equal(band.read(Window(600, 600, 200, 200)), PIXELS[600:800, 600:800])
    assert 2 <= len(provider.asked("/token")) <= 5


def test_requests_refused_with_one_old_token_are_all_tried_again(provider: Provider, sources: Make) -> None:
    made = sources(token_auth(provider, "t0"), credentials=KEY)
    access = made._logins.access(item(provider, access="login", B04=File(SCENE)))
    first = access.sign(f"{provider.url}/B04.tif").login
    assert access.renew(first)
    second = access.sign(f"{provider.url}/B04.tif").login
    assert access.renew(first)  # the request of another thread, refused while the first was renewing
    assert access.sign(f"{provider.url}/B04.tif").login == second != first


def test_many_products_share_one_token(provider: Provider, sources: Make) -> None:
    made = sources(token_auth(provider, "t0"), credentials=KEY)
    for number in range(5):
        found = {**item(provider, access="login", B04=File(SCENE)), "id": f"{NAME}_{number}"}
        with made.open_band(found, "B04") as band:
            band.read(Window(0, 0, 10, 10))
    assert len(provider.asked("/token")) == 1


def test_a_login_server_that_is_overrun_is_waited_for(provider: Provider, sources: Make, slept: list[float]) -> None:
    auth = token_auth(provider, "t0")
    found = item(provider, access="login", B04=File(SCENE))
    provider.files["/token"].faults = [Answer(504)] * 30
    with pytest.raises(TryAgain, match=r"the login server of hostile is busy or broken \(504\)"):
        sources(auth, credentials=KEY).open_band(found, "B04")
    provider.files["/token"].faults.clear()
    assert slept == [1.0, 2.0]
    with sources(auth, credentials=KEY).open_band(found, "B04") as band:
        assert band.shape == (900, 900)


def test_a_product_on_a_second_host_of_the_provider_is_signed_too(provider: Provider, sources: Make) -> None:
    with Provider() as second:
        second.files["/B04.tif"] = File(SCENE)
        second.login = lambda headers, _query: headers.get("Authorization") == BASIC
        made = sources(BASIC_AUTH, credentials={"hostile": {"username": "me", "password": "secret-word"}})
        made.open_band(item(provider, access="login", B04=File(SCENE)), "B04").close()
        with made.open_band(item(provider, access="login", B04={"href": f"{second.url}/B04.tif"}), "B04") as band:
            assert band.shape == (900, 900)
