"""Full downloads: whole and verified, or absent; resumed, not repeated; clear about whose fault it is."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from earthself.data.answers import shown
from earthself.data.errors import CredentialsRefused, Damaged, NotThere, ProductChanged, TryAgain
from earthself.data.http import Http, OpenAccess
from earthself.data.retries import RetryPolicy
from earthself.data.transfer import Checksum, Expected, download
from provider import QUICK, Answer, Change, Cut, Drip, DripHeaders, File, Lie, Misplace, Provider, Stall
from small_disk import on_small_disk, with_small_files

DATA = bytes(range(256)) * 2000
ACCESS = OpenAccess("hostile")
Fetch = Callable[..., int]


@pytest.fixture
def fetch(provider: Provider, slept: list[float], tmp_path: Path) -> Fetch:
    """Download `/file` to `tmp_path/file.bin`."""

    def work(expected: Expected | None = None, path: str = "/file", timeout: float = 10, deadline: float | None = None) -> int:
        http = Http(timeout, RetryPolicy(3, sleep=slept.append, jitter=lambda: 0.0), deadline)
        try:
            return download(http, ACCESS, provider.url + path, tmp_path / "file.bin", expected)
        finally:
            http.close()

    return work


def left(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir())


def test_a_file_gets_its_name_when_it_is_whole(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA)
    assert fetch(Expected(len(DATA), Checksum("sha256", hashlib.sha256(DATA).hexdigest()))) == len(DATA)
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("fault", [Cut(200_000), Stall(200_000)])
def test_an_interrupted_download_goes_on_where_it_stopped(
    provider: Provider, fetch: Fetch, tmp_path: Path, slept: list[float], fault: Cut | Stall
) -> None:
    provider.files["/file"] = File(DATA, faults=[fault, fault])
    assert fetch(timeout=QUICK if isinstance(fault, Stall) else 10) == len(DATA)
    assert (tmp_path / "file.bin").read_bytes() == DATA
    asked = [r.headers.get("Range") for r in provider.asked("/file")]
    assert asked == [None, "bytes=200000-", "bytes=400000-"]
    assert [r.headers.get("If-Range") for r in provider.asked("/file")][1:] == ['"first"', '"first"']
    assert slept == [1.0, 2.0]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(100_000)], always=Answer(503))
    with pytest.raises(TryAgain, match="503"):
        fetch()
    assert not (tmp_path / "file.bin").exists()
    assert ".file.bin.part" in left(tmp_path)
    provider.files["/file"].always = None
    provider.requests.clear()
    assert fetch() == len(DATA) - 100_000
    assert [r.headers.get("Range") for r in provider.asked("/file")] == ["bytes=100000-"]
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert left(tmp_path) == ["file.bin"]


def test_a_part_of_one_providers_file_is_not_finished_with_anothers(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    other = bytes(len(DATA))
    provider.files["/file"] = File(DATA, etag=None, faults=[Cut(100_000)], always=Answer(503))
    with pytest.raises(TryAgain):
        fetch()
    provider.files["/other"] = File(other, etag=None)
    fetch(path="/other")
    assert (tmp_path / "file.bin").read_bytes() == other


def test_a_server_that_cuts_every_answer_gets_through_as_long_as_it_moves_on(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, always=Cut(60_000))
    assert fetch() == len(DATA)
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_a_server_without_ranges_starts_again(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, ranges=False, faults=[Cut(100_000)])
    assert fetch() == len(DATA) + 100_000
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_without_a_way_to_tell_states_apart_nothing_is_appended(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, etag=None, modified=None, faults=[Cut(100_000)])
    fetch()
    assert [r.headers.get("Range") for r in provider.asked("/file")] == [None, None]
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    "wrong",
    [
        Misplace(0, whole=True),
        Misplace(0),
        Misplace(99_999),
        Misplace(100_001, whole=True),
        Misplace(0, whole=True, said=False),
        Misplace(0, said=False),
    ],
)
def test_a_resume_that_gets_other_bytes_starts_again(provider: Provider, fetch: Fetch, tmp_path: Path, wrong: Misplace) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(100_000), wrong])
    fetch()
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert [r.headers.get("Range") for r in provider.asked("/file")] == [None, "bytes=100000-", None]
    assert left(tmp_path) == ["file.bin"]


def test_a_server_that_never_resumes_rightly_and_always_cuts_is_given_up(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(300_000), Misplace(0)], always=Cut(300_000))
    with pytest.raises(Damaged, match="ends after 300000 bytes every time"):
        fetch()
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize(
    "change", [Change(DATA[::-1]), Change(DATA[::-1], etag=None, modified="Tue, 02 Jan 2024 00:00:00 GMT"), Change(DATA + b"x", etag=None)]
)
def test_a_file_that_is_replaced_meanwhile_is_not_glued_together(provider: Provider, fetch: Fetch, tmp_path: Path, change: Change) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(100_000), change])
    with pytest.raises(ProductChanged, match="was replaced while it was downloaded"):
        fetch()
    assert left(tmp_path) == []
    fetch()
    assert (tmp_path / "file.bin").read_bytes() == change.data


def test_a_stalled_and_a_dripping_server_end_in_an_error_that_says_so(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, always=Stall(0))
    with pytest.raises(TryAgain, match=r"hostile sent nothing for 0.3 s"):
        fetch(timeout=QUICK)
    provider.files["/file"].always = Drip(0.02)
    with pytest.raises(TryAgain, match="less than 1024 bytes a second"):
        fetch(timeout=QUICK)
    assert not (tmp_path / "file.bin").exists()


def test_headers_that_never_end_are_given_up(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, always=DripHeaders(0.05))
    with pytest.raises(TryAgain, match=r"hostile did not answer within 0.4 s .*try again"):
        fetch(deadline=0.4)
    assert not (tmp_path / "file.bin").exists()


def test_a_slow_body_is_no_slow_answer(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA[:60], always=Drip(0.01))
    fetch(deadline=0.3)
    assert (tmp_path / "file.bin").read_bytes() == DATA[:60]


def test_packed_bytes_are_refused_for_files_and_unpacked_for_documents(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(gzip.compress(DATA), headers={"Content-Encoding": "gzip"})
    with pytest.raises(Damaged, match=r"hostile sends .* packed \(gzip\), which was not asked for; choose another provider"):
        fetch()
    assert left(tmp_path) == []
    with contextlib.closing(Http(10, RetryPolicy(1))) as http:
        assert http.get(ACCESS, provider.url + "/file", len(DATA)) == DATA
        with pytest.raises(Damaged, match="longer than 1000 bytes"):
            http.get(ACCESS, provider.url + "/file", 1000)


def test_a_document_that_drips_is_given_up(provider: Provider) -> None:
    provider.files["/doc"] = File(DATA, always=Drip(0.01))
    with contextlib.closing(Http(10, RetryPolicy(1), 0.3)) as http, pytest.raises(TryAgain, match=r"did not answer within 0.3 s"):
        http.get(ACCESS, provider.url + "/doc", len(DATA))


def test_a_server_that_states_more_than_it_has_is_found_out(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, ranges=False, always=Lie(1000))
    with pytest.raises(Damaged, match=f"ends after {len(DATA)} bytes every time"):
        fetch()
    assert not (tmp_path / "file.bin").exists()


def test_a_server_that_states_less_than_it_has_is_found_out_by_the_catalogue(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, always=Lie(-1000))
    with pytest.raises(Damaged, match=f"{len(DATA) - 1000} bytes by its server and {len(DATA)} by the catalogue"):
        fetch(Expected(size=len(DATA)))
    with pytest.raises(Damaged, match="sha256"):
        fetch(Expected(checksum=Checksum("sha256", hashlib.sha256(DATA).hexdigest())))
    assert left(tmp_path) == []


def test_wrong_bytes_are_removed_and_fetched_anew_next_time(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    good = Expected(checksum=Checksum("md5", hashlib.md5(DATA).hexdigest()))  # noqa: S324 - what catalogues use
    provider.files["/file"] = File(DATA[::-1])
    with pytest.raises(Damaged, match="the catalogue states"):
        fetch(good)
    assert left(tmp_path) == []
    provider.files["/file"] = File(DATA)
    fetch(good)
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    "header",
    [
        {"Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"},
        {"Content-MD5": base64.b64encode(hashlib.md5(DATA).digest()).decode()},  # noqa: S324
        {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(hashlib.md5(DATA).digest()).decode()}"},  # noqa: S324
        {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(DATA).digest()).decode()},
    ],
)
def test_the_digest_that_the_server_states_is_held_against_the_bytes(provider: Provider, fetch: Fetch, header: dict[str, str]) -> None:
    provider.files["/file"] = File(DATA, headers=header)
    fetch()
    provider.files["/file"] = File(DATA[:-1] + b"?", headers=header)
    with pytest.raises(Damaged, match="its server states"):
        fetch()


def test_the_digest_of_a_part_is_not_taken_for_the_files(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    """Content-MD5 is of the bytes that an answer carries; what the first answer said of the whole file still counts."""
    of_rest = base64.b64encode(hashlib.md5(DATA[100_000:]).digest()).decode()  # noqa: S324
    whole = base64.b64encode(hashlib.md5(DATA).digest()).decode()  # noqa: S324
    provider.files["/file"] = File(DATA, faults=[Cut(100_000)], headers={"Content-MD5": whole}, ranged_headers={"Content-MD5": of_rest})
    fetch()
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, CredentialsRefused, "hostile refuses access .* provider settings"),
        (403, CredentialsRefused, "hostile refuses access"),
        (404, NotThere, "hostile has no .* any more"),
        (410, NotThere, "search again"),
        (418, Exception, "answers 418"),
    ],
)
def test_what_waiting_cannot_mend_is_said_at_once(provider: Provider, fetch: Fetch, status: int, error: type[Exception], said: str) -> None:
    provider.files["/file"] = File(DATA, always=Answer(status))
    with pytest.raises(error, match=said) as caught:
        fetch()
    assert not getattr(caught.value, "retry", True)
    assert len(provider.asked("/file")) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_backoff(
    provider: Provider, fetch: Fetch, slept: list[float], tmp_path: Path, status: int
) -> None:
    provider.files["/file"] = File(DATA, faults=[Answer(status), Answer(status)])
    fetch()
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert slept == [1.0, 2.0]
    provider.files["/file"].always = Answer(status)
    with pytest.raises(TryAgain, match=f"answers {status}"):
        fetch()


def test_the_seconds_that_a_server_asks_for_are_waited(provider: Provider, fetch: Fetch, slept: list[float]) -> None:
    dated = {"Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Retry-After": "Mon, 01 Jan 2024 00:00:05 GMT"}
    provider.files["/file"] = File(DATA, faults=[Answer(429, {"Retry-After": "7"})])
    fetch()
    assert slept == [7.0]
    answer = Answer(503, dated)
    provider.files["/file"] = File(DATA, faults=[answer])
    provider.files["/other"] = File(DATA, always=Answer(429, {"Retry-After": "86400"}))
    with pytest.raises(TryAgain, match="asks to wait 86400 s"):
        fetch(path="/other")
    assert slept == [7.0]  # a day is for the workflow to wait
    assert len(provider.asked("/other")) == 1


def test_redirects_are_followed_but_not_for_ever_and_not_to_files(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(b"", redirect="/there?token=secret")
    provider.files["/there"] = File(DATA)
    fetch()
    assert (tmp_path / "file.bin").read_bytes() == DATA
    provider.files["/there"].redirect = "/file"
    with pytest.raises(Damaged, match="redirects"):
        fetch()
    provider.files["/file"].redirect = "file:///etc/passwd"
    with pytest.raises(Damaged, match="not an http address"):
        fetch()


def test_two_workers_that_want_one_file_do_not_spoil_it(provider: Provider, slept: list[float], tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(100_000)] * 3)
    http = Http(10, RetryPolicy(3, sleep=slept.append))
    workers = [threading.Thread(target=download, args=(http, ACCESS, provider.url + "/file", tmp_path / "file.bin")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert [name for name in left(tmp_path) if name.endswith((".part", ".json"))] == []


def test_nobody_there_is_an_error_that_may_pass(slept: list[float], tmp_path: Path) -> None:
    http = Http(0.3, RetryPolicy(2, sleep=slept.append))
    with pytest.raises(TryAgain, match="connection to hostile broke"):
        download(http, ACCESS, "http://127.0.0.1:9/file", tmp_path / "x")
    assert len(slept) == 1


def test_addresses_are_shown_without_what_may_be_secret() -> None:
    assert shown("https://user:pw@host/a/b.tif?sig=secret#x") == "https://host/a/b.tif"


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("1220" + "ab" * 32, "sha256"),
        ("d50110" + "ab" * 16, "md5"),
        ("1114" + "ab" * 20, "sha1"),
        ("1340" + "ab" * 64, "sha512"),
        ("AB" * 16, "md5"),
        ("ab" * 32, "sha256"),
        ("ab" * 5, None),
        ("not hex", None),
        ("", None),
        (None, None),
    ],
)
def test_checksums_of_catalogues_are_multihashes_or_bare_digests(text: str | None, algorithm: str | None) -> None:
    made = Checksum.parse(text)
    assert (made.algorithm if made else None) == algorithm
    if made:
        assert set(made.hexdigest) == {"a", "b"}


_DOWNLOAD = """
import sys
from pathlib import Path
from earthself.data.errors import EarthSelfError
from earthself.data.http import Http, OpenAccess
from earthself.data.retries import RetryPolicy
from earthself.data.transfer import download
folder = Path(sys.argv[1])
try:
    download(Http(10, RetryPolicy(3, sleep=lambda s: None)), OpenAccess("hostile"), sys.argv[2], folder / "file.bin")
except EarthSelfError as error:
    print(type(error).__name__, error.retry, error)
print(sorted(path.name for path in folder.iterdir()))
"""


def test_a_file_that_does_not_fit_is_not_begun(provider: Provider, tmp_path: Path) -> None:
    provider.files["/file"] = File(bytes(4 << 20))
    said, left = on_small_disk(_DOWNLOAD, tmp_path, provider.url + "/file")
    assert said.startswith("NoRoom True there is no room for http://127.0.0.1")
    assert "4194304 bytes are to come and 3145728 are free); make room and try again" in said
    assert left == "[]"
    assert len(provider.asked("/file")) == 1


def test_a_disk_that_fills_up_under_a_download_leaves_nothing(provider: Provider, tmp_path: Path) -> None:
    provider.files["/file"] = File(bytes(1 << 20))
    said, left = with_small_files(_DOWNLOAD, 300_000, str(tmp_path), provider.url + "/file")
    assert said.startswith("NoRoom True there is no room")
    assert "File too large" in said
    assert left == "[]"
    assert len(provider.asked("/file")) == 1


def test_a_file_that_is_taken_away_under_a_download_is_said(provider: Provider, fetch: Fetch, tmp_path: Path) -> None:
    provider.files["/file"] = File(DATA, faults=[Cut(100_000)], always=Answer(410))
    with pytest.raises(NotThere, match=r"hostile has no .* any more"):
        fetch()
    assert not (tmp_path / "file.bin").exists()
