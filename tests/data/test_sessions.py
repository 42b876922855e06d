"""One session for all workers of an account: renewed in time by one, never opened anew for each request that is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from account import CREDENTIALS, Account, Keycloak
from earthself.data.broker import LocalBroker, Resting
from earthself.data.broker.breaker import FAILURES
from earthself.data.errors import CredentialsRefused, EarthSelfError, TryAgain
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Sources
from provider import Answer, Cut, File, Provider, raster_bytes
from rasterio.windows import Window
from searches import add, request

PIXELS = np.random.default_rng(5).integers(1, 4000, (600, 600)).astype(np.uint16)
SCENE = raster_bytes(PIXELS)
Worker = Callable[..., Sources]


@pytest.fixture(params=["folder", "service"])
def broker_kind(request: pytest.FixtureRequest) -> str:
    """The workers of a cluster are to see no difference."""
    return request.param


@pytest.fixture
def account(provider: Provider) -> Account:
    made = Account()
    made.serve(provider)
    provider.files["/B04.tif"] = File(SCENE)
    return made


@pytest.fixture
def worker(provider: Provider, account: Account, sources: Callable[..., Sources], tmp_path: Path) -> Worker:
    """Make sources as another process of the machine has them."""

    def make(credentials: dict[str, Any] = CREDENTIALS, extra: str = "") -> Sources:
        return sources(account.settings(provider) + extra, credentials=credentials, broker=str(tmp_path / "broker"))

    return make


def product(provider: Provider, path: str = "/B04.tif") -> dict[str, Any]:
    properties = {"earthself:provider": "hostile", "earthself:collection": "S2_MSI_L2A", "earthself:access": "login"}
    return {"type": "Feature", "id": "P", "properties": properties, "assets": {"B04": {"href": provider.url + path}}}


def read(worker: Sources, provider: Provider) -> None:
    with worker.open_band(product(provider), "B04") as band:
        assert np.array_equal(band.read(Window(0, 0, 600, 600)), PIXELS)


def test_workers_share_one_session_and_renew_it_before_it_ends(
    provider: Provider, account: Account, worker: Worker, slept: list[float]
) -> None:
    workers = [worker() for _ in range(4)]
    for each in workers:
        read(each, provider)
    assert (account.logins, account.refreshes) == (1, 0)
    slept.append(account.life - 200)  # time passes, to shortly before the end
    for each in workers:
        read(each, provider)
    assert (account.logins, account.refreshes) == (1, 1)
    assert account.refused == []


def test_openid_sessions_are_shared_and_renewed_too(provider: Provider, sources: Worker, tmp_path: Path, slept: list[float]) -> None:
    account = Keycloak()
    account.serve(provider)
    provider.files["/B04.tif"] = File(SCENE)

    def process(number: int) -> Sources:
        """Each with an EODAG of its own, as another process has."""
        return sources(account.settings(provider) + f"  # {number}\n", credentials=CREDENTIALS, broker=str(tmp_path / "broker"))

    for number in range(2):
        read(process(number), provider)
    (token,) = LocalBroker(tmp_path / "broker").status()[0].tokens
    assert 3500 < (token.expires_in or 0) <= 3600
    slept.append(account.life - 200)
    read(process(2), provider)
    account.expire()
    read(process(3), provider)
    assert (account.logins, account.refreshes) == (1, 2)
    assert len(provider.asked("/oidc")) == 3  # only those who log in talk to the login server
    slept.append(account.life - 200)
    account.faults = [Answer(504)]
    read(process(4), provider)  # what is busy is not asked for a second session
    slept.append(20)
    read(process(5), provider)
    assert (account.logins, account.refreshes) == (1, 3)


def test_a_token_that_ends_between_headers_and_body_costs_no_session(
    provider: Provider, account: Account, worker: Worker, tmp_path: Path
) -> None:
    provider.files["/B04.tif"].faults.append(Cut(30_000))

    def guard(path: str, headers: dict[str, str]) -> Answer | None:
        refused = account.guard(path, headers)
        if not refused and len(account.served) == 1:
            account.expire()
        return refused

    provider.guard = guard
    path = worker().download(product(provider), tmp_path / "out")["B04"]
    assert path.read_bytes() == SCENE
    assert [r.headers.get("Range") for r in provider.asked("/B04.tif")] == [None, "bytes=30000-", "bytes=30000-"]
    assert (account.logins, account.refreshes, account.refused) == (1, 1, [401])


def test_a_storm_of_refusals_is_answered_with_one_renewal(provider: Provider, account: Account, worker: Worker) -> None:
    workers = [worker() for _ in range(8)]
    for each in workers:
        read(each, provider)
    account.expire()
    begin = threading.Barrier(len(workers))
    failed: list[BaseException] = []

    def storm(one: Sources) -> None:
        begin.wait()
        try:
            read(one, provider)
        except EarthSelfError as error:
            failed.append(error)

    threads = [threading.Thread(target=storm, args=(each,)) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert (account.logins, account.refreshes) == (1, 1)
    assert set(account.refused) == {401}


def test_tokens_that_are_refused_however_new_open_no_session_after_session(provider: Provider, account: Account, worker: Worker) -> None:
    provider.guard = lambda path, headers: Answer(403)
    for _ in range(FAILURES):
        with pytest.raises(CredentialsRefused, match="hostile refuses access"):
            read(worker(), provider)
    assert account.logins + account.refreshes <= 4
    with pytest.raises(Resting, match=r"hostile is left alone .* since it refused with 403"):
        read(worker(), provider)


def test_one_product_that_is_refused_costs_the_others_nothing(provider: Provider, account: Account, worker: Worker) -> None:
    provider.files["/licensed.tif"] = File(SCENE)
    provider.guard = lambda path, headers: Answer(403) if path == "/licensed.tif" else account.guard(path, headers)
    one = worker()
    for _ in range(8):
        with pytest.raises(CredentialsRefused, match=r"hostile refuses access to .*licensed.tif"):
            one.open_band(product(provider, "/licensed.tif"), "B04")
        read(one, provider)
    assert account.logins + account.refreshes <= 4


@pytest.mark.parametrize("trouble", ["the token is over", "files are elsewhere"])
def test_the_one_request_that_tries_a_provider_again_may_take_several_hops(
    provider: Provider, account: Account, worker: Worker, slept: list[float], trouble: str
) -> None:
    one = worker()
    read(one, provider)
    provider.files["/B04.tif"].faults = [Answer(503)] * 1000
    for _ in range(FAILURES // 3 + 1):
        with pytest.raises(TryAgain):
            read(one, provider)
    provider.files["/B04.tif"].faults.clear()
    slept.append(700)
    if trouble == "the token is over":
        account.expire()
    else:
        provider.files["/there.tif"] = provider.files["/B04.tif"]
        provider.files["/B04.tif"] = File(b"", redirect="/there.tif")
    read(one, provider)


def test_a_wrong_password_is_tried_once_and_not_by_each_worker(provider: Provider, account: Account, worker: Worker) -> None:
    wrong = {"hostile": {"username": "me@example.org", "password": "wrong-word"}}
    for _ in range(6):
        with pytest.raises(CredentialsRefused, match="hostile refuses the login") as caught:
            read(worker(wrong), provider)
        assert "wrong-word" not in str(caught.value)
    assert len(provider.asked("/login")) == 1
    read(worker(), provider)


def test_a_login_server_that_is_overrun_is_left_alone_by_all(
    provider: Provider, account: Account, worker: Worker, slept: list[float]
) -> None:
    account.faults = [Answer(504)] * 1000
    for _ in range(8):
        with pytest.raises(TryAgain):
            read(worker(), provider)
    assert len(provider.asked("/login")) == FAILURES
    with pytest.raises(Resting, match=r"hostile is left alone .* since it answered 504"):
        read(worker(), provider)
    account.faults.clear()
    slept.append(60)
    read(worker(), provider)
    assert account.logins == 1


def test_a_renewal_that_fails_in_time_is_not_noticed(provider: Provider, account: Account, worker: Worker, slept: list[float]) -> None:
    one = worker()
    read(one, provider)
    slept.append(account.life - 200)
    account.faults = [Answer(504)] * 1000
    read(one, provider)
    assert (account.logins, account.refreshes) == (1, 0)
    assert len(provider.asked("/login")) == 2  # one renewal, once for all requests
    account.faults.clear()
    slept.append(20)
    read(one, provider)
    assert (account.logins, account.refreshes, set(account.refused)) == (1, 1, {504})


@pytest.mark.parametrize("status", [429, 500, 504])
def test_a_login_server_that_is_busy_is_not_asked_for_a_second_session(
    provider: Provider, account: Account, worker: Worker, slept: list[float], status: int
) -> None:
    one = worker()
    read(one, provider)
    account.expire()
    account.faults = [Answer(status)] * 2
    read(one, provider)
    assert (account.logins, account.refreshes) == (1, 1)
    assert account.refused.count(status) == 2
    assert sum(slept) >= 2


def test_a_session_that_the_login_server_cannot_renew_for_an_hour_is_begun_anew(
    provider: Provider, account: Account, worker: Worker, slept: list[float]
) -> None:
    account.sessions = 2
    read(worker(), provider)
    log_in = account.log_in
    provider.forms["/login"] = lambda form: (500, {}) if form.get("grant_type") == "refresh_token" else log_in(form)
    slept.append(account.life)
    for _ in range(2):
        with pytest.raises(TryAgain):
            read(worker(), provider)
    assert account.logins == 1
    slept.append(3700)
    read(worker(), provider)
    assert account.logins == 2


def test_a_worker_that_waits_for_anothers_login_does_not_log_in(provider: Provider, account: Account, worker: Worker) -> None:
    workers = [worker() for _ in range(6)]
    threads = [threading.Thread(target=read, args=(each, provider)) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.logins == 1
    assert account.refused == []


def test_searches_are_made_in_the_same_session(
    provider: Provider, account: Account, worker: Worker, sources: Worker, tmp_path: Path
) -> None:
    add(provider, 13)
    settings = provider.settings("hostile", account.settings(provider)).replace("need_auth: false", "need_auth: true")

    def searching() -> Sources:
        return sources(provider_config=settings, credentials=CREDENTIALS, broker=str(tmp_path / "broker"))

    for one in (searching(), searching()):
        assert len(one.search(request()).items) == 1
    read(worker(), provider)
    assert (account.logins, account.refreshes, account.refused) == (1, 0, [])
    account.expire()
    assert len(searching().search(request()).items) == 1
    assert (account.logins, account.refreshes, account.refused) == (1, 1, [401])


def test_the_status_says_how_old_a_session_is_and_not_what_it_is(
    provider: Provider, account: Account, worker: Worker, tmp_path: Path
) -> None:
    read(worker(), provider)
    (found,) = LocalBroker(tmp_path / "broker").status()
    (token,) = found.tokens
    assert 0 <= token.age < 60
    assert 3500 < (token.expires_in or 0) <= 3600
    assert "t1.0" not in repr(found)


def test_a_login_server_that_says_nothing_holds_up_nobody_for_ever(provider: Provider, account: Account, worker: Worker) -> None:
    silent, over = threading.Event(), threading.Event()

    def say_nothing(form: dict[str, str]) -> tuple[int, Any]:
        silent.set()
        over.wait(30)
        return 504, {}

    provider.forms["/login"] = say_nothing
    first, second = worker(), worker(extra="  # another process has an EODAG of its own\n")
    first._catalogue.deadline = 0.3
    first._catalogue.retries = second._catalogue.retries = first._http.retries = second._http.retries = RetryPolicy(1)
    try:
        with pytest.raises(TryAgain, match=r"hostile did not answer within 0.3 s"):
            read(first, provider)
        assert silent.is_set()
        provider.forms["/login"] = account.log_in
        read(second, provider)
        assert account.logins == 1
    finally:
        over.set()
