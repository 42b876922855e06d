"""What only a broker far away can meet: callers and services that die, connections that are cut, strangers."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from earthself.data.broker import Account, BrokerAway, BrokerRefused, Grant, Limits, LocalBroker, Order, RemoteBroker, Resting
from earthself.data.broker.__main__ import main
from earthself.data.broker.books import Books
from earthself.data.broker.breaker import FAILURES
from earthself.data.errors import BadInput, CredentialsRefused
from earthself.data.sources import SourceConfig, Sources
from provider import Provider
from searches import add, request
from served import TOKEN, Process, in_thread

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
sys.path.insert(0, str(Path(__file__).parents[1] / "signature"))
from certificates import authority, pair
from tcp_proxy import Proxy

SECRET = "user and password"
HOLD = """
import sys, time
from earthself.data.broker import Account, Grant, Limits, RemoteBroker
broker, account = RemoteBroker(sys.argv[1], sys.argv[2]), Account("hostile", "user and password", limits=Limits(connections=1))
def log_in(before):
    print("held", flush=True)
    sys.stdin.read()
if sys.argv[3] == "login":
    broker.token(account, "session", log_in)
with broker.connection(account):
    log_in(None)
"""


def account(**limits: float) -> Account:
    return Account("hostile", SECRET, limits=Limits(**limits))


def grant(name: str) -> Grant:
    return Grant(name, {"Authorization": f"Bearer of {name}"}, {}, time.time(), time.time() + 3600, {"refresh_token": f"again {name}"})


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def service(folder: Path) -> Iterator[Process]:
    with Process(folder) as process:
        yield process


def holder(address: str, what: str) -> subprocess.Popen[str]:
    """A process that holds the login or the only connection."""
    command = [sys.executable, "-c", HOLD, address, TOKEN, what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


# --- callers that die -------------------------------------------------------------------------------------------------


def test_a_caller_that_lives_keeps_its_connection_and_one_that_is_killed_loses_it(folder: Path) -> None:
    with in_thread(folder, lease=1.0) as address:
        process = holder(address, "connection")
        other, got = RemoteBroker(address, TOKEN), threading.Event()

        def wait() -> None:
            with other.connection(account(connections=1)):
                got.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(3.0)  # three times what a dead one would have
        assert other.status()[0].connections == 1
        kill(process)
        waiting.join(60)
        assert got.is_set()
        assert (other.status()[0].connections, other.status()[0].waiting) == (0, 0)


def test_a_login_that_its_caller_died_of_is_made_by_another(folder: Path) -> None:
    with in_thread(folder, lease=1.0) as address:
        kill(holder(address, "login"))
        assert RemoteBroker(address, TOKEN).token(account(), "session", lambda _: grant("second")).id == "second"


def test_a_caller_that_is_killed_while_it_waits_takes_nobodys_turn(folder: Path) -> None:
    with in_thread(folder) as address:
        here = RemoteBroker(address, TOKEN)
        with here.connection(account(connections=1)):
            process = subprocess.Popen([sys.executable, "-c", HOLD, address, TOKEN, "connection"], stdin=subprocess.PIPE)
            until(lambda: here.status()[0].waiting == 1)
            process.kill()
            process.communicate()
            until(lambda: here.status()[0].waiting == 0)


def test_workers_of_the_machine_and_of_the_cluster_share_what_there_is(folder: Path, service: Process) -> None:
    """The service keeps its books where processes beside it would."""
    near, far = LocalBroker(folder), RemoteBroker(service.address, TOKEN)
    mine = account(connections=2)
    with near.connection(mine), far.connection(mine):
        assert near.status() == far.status()
        assert near.status()[0].connections == 2
    assert near.token(mine, "session", lambda _: grant("near")).id == "near"
    assert far.token(mine, "session", lambda _: grant("far")).id == "near"
    assert far.order(mine, "P", lambda: Order("P", time.time(), time.time() + 60)).product == "P"
    assert near.order(mine, "P", pytest.fail).product == "P"
    assert len(near.status()) == 1


# --- a service that dies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_service_that_comes_back_costs_a_wait_and_nothing_else(folder: Path, service: Process, how: int) -> None:
    broker, mine = RemoteBroker(service.address, TOKEN), account(rate=20.0, connections=1)
    logins, failed, turns = [], [], []
    holds, go = threading.Event(), threading.Event()

    def hold() -> None:
        with broker.connection(mine):
            holds.set()
            go.wait(60)

    def work() -> None:
        try:
            for _ in range(4):
                broker.token(mine, "session", lambda _: logins.append(1) or grant("one"))
                broker.request(mine)
                turns.append(1)
                broker.moved(mine, 10)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=hold)]
    threads[0].start()
    assert holds.wait(30)
    threads += [threading.Thread(target=work) for _ in range(12)]
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(turns) > 8)
    service.end(how)
    service.start()
    for thread in threads[1:]:
        thread.join(60)
    assert failed == []
    assert len(logins) == 1
    (status,) = broker.status()
    assert (status.connections, status.logins, status.bytes["default"]) == (1, 1, 480)
    go.set()
    threads[0].join()
    until(lambda: broker.status()[0].connections == 0)


def test_who_waits_goes_on_waiting_at_the_service_that_comes_back(folder: Path, service: Process) -> None:
    broker, mine, got = RemoteBroker(service.address, TOKEN), account(connections=1), threading.Event()

    def wait() -> None:
        with broker.connection(mine):
            got.set()

    with broker.connection(mine):
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: broker.status()[0].waiting == 1)
        log = service.end()
        service.start()
        until(lambda: broker.status()[0].waiting == 1)
        assert not got.is_set()
    waiting.join(60)
    assert got.is_set()
    assert "ERROR" not in log


def test_a_service_that_does_not_come_back_is_one_clear_error(service: Process, provider: Provider) -> None:
    service.end()
    slept: list[float] = []
    broker = RemoteBroker(service.address, TOKEN, clock=lambda: sum(slept), sleep=slept.append)
    with pytest.raises(BrokerAway, match=rf"broker at {service.address} does not answer .* waited for 12\d s; .*try again") as caught:
        broker.request(account())
    assert (caught.value.exit_code, caught.value.retry) == (75, True)
    waits = len(slept)
    with pytest.raises(BrokerAway):
        broker.moved(account(), 5)
    assert len(slept) == waits, "whoever asks next is told at once"
    add(provider, 13)
    config = SourceConfig(("hostile", "other"), provider_config=provider.settings("hostile") + provider.settings("other"))
    with Sources(config, broker=broker) as sources, pytest.raises(BrokerAway):
        sources.search(request())
    assert provider.requests == []
    service.start()
    slept.append(61.0)
    broker.request(account())


def test_a_connection_that_is_cut_counts_nothing_twice(service: Process) -> None:
    proxy = Proxy("127.0.0.1", service.port)
    broker, mine, over = RemoteBroker(f"http://127.0.0.1:{proxy.port}", TOKEN), account(rate=200.0, connections=2), threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(12):
                broker.token(mine, "session", lambda _: grant("one"))
                with broker.connection(mine):
                    broker.request(mine)
                    broker.moved(mine, 10)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    def cut() -> None:
        while not over.wait(0.05):
            proxy.cut()

    threads, cutter = [threading.Thread(target=work) for _ in range(4)], threading.Thread(target=cut)
    for thread in (*threads, cutter):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    cutter.join()
    assert failed == []
    assert proxy.cuts > 3
    (status,) = RemoteBroker(service.address, TOKEN).status()
    assert (status.bytes["default"], status.logins, status.connections) == (480, 1, 0)
    proxy.close()


# --- many -------------------------------------------------------------------------------------------------------------


def test_two_hundred_wait_without_a_thread_each(service: Process) -> None:
    mine, failed, got = account(rate=100.0), [], []
    first = RemoteBroker(service.address, TOKEN)
    first.answered(mine, 503, 6.0)  # the provider wants to be left alone for a while

    def work() -> None:
        try:
            first.request(mine)
            got.append(time.monotonic())
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    process = psutil.Process(service.process.pid)
    until(lambda: len(process.net_connections("tcp")) > 200)
    assert process.num_threads() < 8
    assert httpx.get(f"{service.address}/healthz", timeout=5).json() == {"status": "ok"}
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(got) == 200


def test_a_provider_that_is_left_alone_is_so_for_all_callers(service: Process, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(FAILURES):
        RemoteBroker(service.address, TOKEN).answered(account(), 503)
    assert [each.getMessage() for each in caplog.records if each.name == "earthself.data.broker"] == [
        f"hostile is left alone by all workers for 30 s: it answered 503, {FAILURES} failures in a row"
    ]
    with pytest.raises(Resting, match=r"another (30|2\d) s") as caught:
        RemoteBroker(service.address, TOKEN).request(account())
    assert 20 < caught.value.wait <= 30


# --- strangers and secrets --------------------------------------------------------------------------------------------


def test_who_has_no_token_is_told_so_and_gets_nothing(service: Process) -> None:
    for token in ("", "another-token-0123456789", TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(BrokerRefused, match="does not know the token of this worker") as caught:
            RemoteBroker(service.address, token).request(account())
        assert (caught.value.exit_code, caught.value.retry) == (65, False)
        for path in ("key", "status"):
            assert httpx.get(f"{service.address}/v1/{path}", headers={"Authorization": f"Bearer {token or '-'}"}).status_code == 401
    assert httpx.get(f"{service.address}/healthz").status_code == 200


def test_a_new_token_is_taken_before_the_old_one_goes(folder: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token-0123456789\n")
    with Process(folder, "--token-file", str(tokens)) as service:
        first, second = RemoteBroker(service.address, "first-token-0123456789"), RemoteBroker(service.address, "second-token-0123456789")
        first.request(account())
        tokens.write_text("second-token-0123456789\nfirst-token-0123456789\n")
        first.request(account())
        second.request(account())
        tokens.write_text("second-token-0123456789\n")
        with pytest.raises(BrokerRefused):
            first.request(account())
        second.request(account())


def test_it_listens_to_no_other_machine_without_a_token(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("EARTHSELF_BROKER_TOKEN", raising=False)
    assert main(["serve", "--bind", "0.0.0.0:0", "--folder", str(folder)]) == 65
    assert "can be reached from other machines" in capsys.readouterr().err
    (tmp_path / "short").write_text("secret")
    assert main(["serve", "--bind", "0.0.0.0:0", "--folder", str(folder), "--token-file", str(tmp_path / "short")]) == 65
    assert "a token of 6 characters can be guessed" in capsys.readouterr().err
    assert main(["serve", "--bind", "8083"]) == 2


def test_nothing_that_is_secret_is_logged_or_told_to_the_service(folder: Path, service: Process) -> None:
    broker = RemoteBroker(service.address, TOKEN)
    broker.token(account(), "session", lambda _: grant("token-of-the-account"))
    broker.request(account(rate=10))

    def refuse(_: Grant | None) -> Grant:
        raise CredentialsRefused("hostile refuses the login")

    with pytest.raises(CredentialsRefused, match="refuses the login"):
        broker.token(account(), "another", refuse)
    with pytest.raises(CredentialsRefused, match="refuses the login"):
        broker.token(account(), "another", pytest.fail)  # remembered
    told = {"Authorization": f"Bearer {TOKEN}"}
    for body in (b"nonsense", b"[]", b'{"account": {"provider": "../../x"}}', b"x" * 300_000):
        assert httpx.post(f"{service.address}/v1/request", headers=told, content=body).status_code == 400
    for name in ("../../../tmp/x", "hostile/../x-0123456789ab", "other-0123456789ab"):
        mine = {"provider": "hostile", "name": name, "team": "t", "limits": {}}
        question = {"account": mine, "ticket": "0123456789ab", "worker": "w"}
        assert httpx.post(f"{service.address}/v1/request", headers=told, json=question).status_code == 400
        hold = {"holds": {name: ["0123456789ab"]}}
        assert httpx.post(f"{service.address}/v1/hold", headers=told, json=hold).status_code in ((200,) if "/" not in name else (400,))
    shown = json.dumps(httpx.get(f"{service.address}/v1/status", headers=told).json())
    log = service.end()
    kept = b"".join(path.read_bytes() for path in folder.glob("*.state"))
    for secret in (SECRET, TOKEN, "token-of-the-account"):
        assert secret not in log + shown
    assert SECRET.encode() not in kept
    assert b"token-of-the-account" in kept
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_tls_by_certificates_of_ones_own(folder: Path, tmp_path: Path) -> None:
    signer = authority()
    trusted = signer.write(tmp_path / "ca.crt").read_text()
    certificate, key = pair(tmp_path, signer)
    with Process(folder, "--tls-cert", str(certificate), "--tls-key", str(key)) as service:
        assert service.address.startswith("https://")
        RemoteBroker(service.address, TOKEN, trusted).request(account())
        with pytest.raises(BrokerRefused, match=r"is of nobody whom this worker trusts; name its authorities \(EARTHSELF_BROKER_CA\)"):
            RemoteBroker(service.address, TOKEN).request(account())
        with pytest.raises(BadInput, match="no certificates"):
            RemoteBroker(service.address, TOKEN, "nonsense").request(account())
        with pytest.raises((ssl.SSLError, httpx.TransportError)):
            httpx.get(service.address.replace("https", "http"), timeout=5).raise_for_status()


@pytest.mark.parametrize("address", ["broker:8083", "ftp://broker", "https://", "https://me:word@broker"])
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(BadInput, match="address is not like https") as caught:
        RemoteBroker(address)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("token", ["two words", "line\n", "schlüssel"])
def test_tokens_that_cannot_be_sent_are_refused(token: str) -> None:
    with pytest.raises(BadInput, match="the token of the download broker has characters") as caught:
        RemoteBroker("http://127.0.0.1:1", token)
    assert token not in str(caught.value)


def test_the_status_of_a_service_is_asked_with_the_same_command(
    folder: Path, service: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    RemoteBroker(service.address, TOKEN).moved(account(), 2_000_000_000)
    monkeypatch.setenv("EARTHSELF_BROKER", service.address)
    assert main(["status"]) == 65
    assert "does not know the token" in capsys.readouterr().err
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("EARTHSELF_BROKER_TOKEN_FILE", str(tmp_path / "token"))
    assert main(["status"]) == 0
    assert "2.00 GB in" in capsys.readouterr().out
    monkeypatch.setenv("EARTHSELF_BROKER", "broker:8083")
    assert main(["status"]) == 65
    assert "'broker:8083' is neither an address" in capsys.readouterr().err
    monkeypatch.delenv("EARTHSELF_BROKER")
    assert main(["status", "--broker", service.address, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["bytes"] == {"default": 2_000_000_000}
    assert Books(folder, time.time).names() == [found["account"]]
    service.end()
    assert main(["status", "--broker", service.address]) == 75
    assert "does not answer" in capsys.readouterr().err
