"""What the broker keeps for all workers of an account: turns, rests, quotas, and what is left of it after a death or a full disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from earthself.data.broker import Account, Broker, Limits, LocalBroker, QuotaUsedUp, RemoteBroker, Resting, shares
from earthself.data.broker.__main__ import lines, main
from earthself.data.broker.breaker import FAILURES
from earthself.data.errors import BadInput, TryAgain
from earthself.data.query import SourceConfig
from served import TOKEN, in_thread
from small_disk import on_small_disk

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["folder", "service"])
def worker(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Broker]]:
    """Make a broker as another process would, of the same machine or of the same cluster."""
    folder = tmp_path / "broker"
    if request.param == "folder":
        yield lambda: LocalBroker(folder, clock=clock, sleep=clock.sleep)
        return
    with in_thread(folder, clock, clock.sleep) as address:
        yield lambda: RemoteBroker(address, TOKEN, sleep=clock.sleep)


def account(**limits: float) -> Account:
    return Account("hostile", "user and password", limits=Limits(**limits))


# --- turns ------------------------------------------------------------------------------------------------------------


def test_requests_are_no_more_a_second_than_agreed_over_all_workers(worker: Callable[[], Broker], clock: Clock) -> None:
    some, times = [worker() for _ in range(4)], []
    for number in range(80):
        some[number % 4].request(account(rate=10))
        times.append(clock.now)
    for first, last in zip(times, times[10:], strict=False):
        assert last - first >= 0.999
    assert times[-1] - BEGIN < 10


def test_teams_have_equal_shares_however_many_workers_they_have() -> None:
    """Forty workers of one team and ten of another, each of which asks again as soon as it had its turn."""
    workers = [("many", f"m{n}") for n in range(40)] + [("few", f"f{n}") for n in range(10)]
    state: dict[str, object] = {}
    tickets = dict.fromkeys(workers, 0)
    served: list[tuple[str, str]] = []
    for tick in range(2000):
        now = BEGIN + tick * 0.02
        for who in workers:
            if shares.take(state, f"{who[1]}-{tickets[who]}", who, now, 30) is not None:
                served.append(who)
                tickets[who] += 1
    assert 1150 <= len(served) <= 1210  # forty seconds
    by_team = Counter(team for team, _ in served)
    assert abs(by_team["many"] - by_team["few"]) <= 4
    for team in ("many", "few"):
        counts = [tickets[who] for who in workers if who[0] == team]
        assert max(counts) - min(counts) <= 1
    first = served[:40]
    assert Counter(team for team, _ in first)["few"] in range(18, 23)


def test_a_team_that_comes_later_is_served_at_once() -> None:
    state: dict[str, object] = {}
    for number in range(100):
        shares.take(state, f"m{number}", ("many", f"m{number}"), BEGIN, 10)
    assert shares.take(state, "late", ("few", "f"), BEGIN + 1, 10) is not None


def test_a_clock_that_was_set_back_stops_nobody(worker: Callable[[], Broker], clock: Clock) -> None:
    worker().request(account(rate=10))
    clock.now -= 86_400
    worker().request(account(rate=10))
    assert clock.now < BEGIN - 86_300


def test_without_a_rate_nobody_waits(worker: Callable[[], Broker], clock: Clock) -> None:
    for _ in range(50):
        worker().request(account())
    assert clock.now == BEGIN


def test_one_who_died_waiting_costs_one_turn(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from earthself.data.broker import Account, Limits, LocalBroker\n"
        "broker = LocalBroker(Path(sys.argv[1])); account = Account('hostile', 'user and password', limits=Limits(rate=0.5))\n"
        "while True: broker.request(account); print('asked', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "broker")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watching = LocalBroker(tmp_path / "broker")
        while not watching.status()[0].waiting and not watching.status()[0].requests_a_second > 2 / 60:
            pass
        process.send_signal(signal.SIGKILL)
    waits: list[float] = []
    later = LocalBroker(tmp_path / "broker", clock=lambda: datetime.now(UTC).timestamp() + sum(waits), sleep=waits.append)
    later.request(account(rate=0.5))
    assert sum(waits) < 7


# --- connections ------------------------------------------------------------------------------------------------------

_HOLD = """
import sys, time
from pathlib import Path
from earthself.data.broker import Account, Limits, LocalBroker
broker = LocalBroker(Path(sys.argv[1]))
with broker.connection(Account('hostile', 'user and password', limits=Limits(connections=1))):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_no_more_downloads_go_on_than_the_account_may_have(tmp_path: Path) -> None:
    mine, going, most, failed = account(connections=3), [0], [0], []
    lock = threading.Lock()

    def work(broker: LocalBroker) -> None:
        try:
            for _ in range(4):
                with broker.connection(mine):
                    with lock:
                        going[0] += 1
                        most[0] = max(most[0], going[0])
                    broker.status()
                    with lock:
                        going[0] -= 1
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    for folder in (tmp_path / "broker", None):
        shared = LocalBroker(folder)
        threads = [threading.Thread(target=work, args=(LocalBroker(folder) if folder else shared,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert going == [0]
        assert 1 <= most[0] <= 3
        with shared.connection(mine), shared.connection(mine), shared.connection(mine):
            assert shared.status()[0].connections == 3
        assert (shared.status()[0].connections, shared.status()[0].waiting) == (0, 0)


def test_the_connection_of_one_who_was_killed_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "broker")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        here = LocalBroker(tmp_path / "broker")
        assert here.status()[0].connections == 1
        assert "1 connections" in lines(here.status()[0])[0]
        process.send_signal(signal.SIGKILL)
        with here.connection(account(connections=1)):
            assert here.status()[0].connections == 1


def test_places_go_to_the_team_that_had_none_for_longest() -> None:
    state: dict[str, object] = {}
    had = []
    for number in range(8):
        for team in ("many", "many", "few")[: 3 if number % 2 else 2]:
            shares.among_first(state, f"{team}-{number}-{len(had)}", (team, team), BEGIN + number, 1)
        first = next(t for t in list(state["waiting"]) if shares.among_first(state, t, ("", ""), BEGIN + number, 1))  # type: ignore[call-overload]
        shares.had(state, first)
        had.append(first.split("-")[0])
    assert had.count("few") == 4


# --- rests ------------------------------------------------------------------------------------------------------------


def fail(broker: Broker, times: int, status: int = 504) -> None:
    for _ in range(times):
        broker.request(account())
        broker.answered(account(), status)


def test_a_provider_that_fails_and_fails_is_left_alone_by_all_and_then_tried_by_one(worker: Callable[[], Broker], clock: Clock) -> None:
    one, other = worker(), worker()
    fail(one, FAILURES - 1)
    other.request(account())
    other.answered(account(), 0)
    with pytest.raises(Resting, match=r"hostile is left alone for another 30 s, since it gave no answer, 20 failures in a row") as caught:
        one.request(account())
    assert (caught.value.retry, caught.value.wait) == (True, 30.0)
    clock.now += 31
    assert worker().status()[0].breaker == "half-open"
    one.request(account())
    with pytest.raises(Resting, match="being tried with one request"):
        other.request(account())
    one.answered(account(), 503)
    with pytest.raises(Resting, match="another 60 s, since it answered 503"):
        other.request(account())
    clock.now += 61
    other.request(account())
    other.answered(account(), 206)
    for each in (one, other, worker()):
        each.request(account())
    assert worker().status()[0].breaker == "closed"


def test_a_probe_that_never_ends_is_followed_by_another(worker: Callable[[], Broker], clock: Clock) -> None:
    fail(worker(), FAILURES)
    clock.now += 31
    worker().request(account())  # and dies
    clock.now += 61
    worker().request(account())


def test_failures_with_a_success_between_them_are_no_reason(worker: Callable[[], Broker]) -> None:
    for _ in range(3):
        fail(worker(), FAILURES - 1)
        worker().answered(account(), 404)
    worker().request(account())


def test_a_ban_is_noticed_and_said(worker: Callable[[], Broker]) -> None:
    fail(worker(), FAILURES, 403)
    with pytest.raises(Resting, match="since it refused with 403, 20 failures in a row; choose another provider"):
        worker().request(account())
    first, second, *_ = lines(worker().status()[0])
    assert "breaker open" in first
    assert second == "  it refused with 403, 20 failures in a row; asked again in 30 s"


def test_all_wait_where_one_is_asked_to(worker: Callable[[], Broker], clock: Clock) -> None:
    worker().answered(account(), 429, 20.0)
    worker().request(account())
    assert 20 <= clock.now - BEGIN < 21.5
    worker().answered(account(), 429, 7200.0)
    with pytest.raises(Resting, match="asked to be left alone for another 7200 s"):
        worker().request(account())


def test_nobody_may_ask_to_be_left_alone_for_years(worker: Callable[[], Broker], clock: Clock) -> None:
    worker().answered(account(), 503, 1e12)
    with pytest.raises(Resting, match="another 86400 s"):
        worker().request(account())
    clock.now += 86_401
    worker().request(account())


def test_a_429_that_names_no_time_is_answered_with_longer_and_longer_waits(worker: Callable[[], Broker], clock: Clock) -> None:
    waited = []
    for _ in range(4):
        before = clock.now
        worker().answered(account(), 429)
        worker().request(account())
        waited.append(clock.now - before)
    assert [round(each) for each in waited] == [1, 2, 4, 8]


def test_another_account_at_the_provider_is_not_held_up(worker: Callable[[], Broker]) -> None:
    fail(worker(), FAILURES, 403)
    worker().request(Account("hostile", "somebody else"))
    worker().request(Account("hostile"))


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_a_quota_that_is_used_up_says_when_it_renews(worker: Callable[[], Broker], clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    mine = account(bytes_a_month=10e9)
    worker().request(mine)
    worker().moved(mine, 7_000_000_000)
    worker().moved(Account("hostile", "user and password", "others"), 1_500_000_000)
    worker().request(mine)
    worker().request(mine)
    assert [each.getMessage() for each in caplog.records if each.name == "earthself.data.broker"] == [
        "the account at hostile has moved 8.5 GB of the 10.0 GB that it may until 2026-12-01"
    ]
    worker().moved(mine, 2_000_000_000)
    with pytest.raises(QuotaUsedUp, match=r"10.5 GB of the 10.0 GB .* renews on 2026-12-01: wait, raise bytes_a_month") as caught:
        worker().request(mine)
    assert (caught.value.exit_code, caught.value.retry) == (75, False)
    assert worker().status()[0].bytes == {"default": 9_000_000_000, "others": 1_500_000_000}
    clock.now = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    worker().request(mine)
    assert worker().status()[0].bytes == {}


@pytest.mark.parametrize("limits", [{"rate": 0}, {"rate": "ten"}, {"bytes_a_month": -1}, {"orders": True}, {"speed": 3}])
def test_limits_that_are_none_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        SourceConfig.from_json(json.dumps({"limits": {"hostile": limits}}))


def test_known_providers_have_the_limits_that_they_publish() -> None:
    assert SourceConfig().account("cop_dataspace").limits.rate == 10
    assert SourceConfig().account("dedl").limits.rate == 4
    assert SourceConfig(limits={"dedl": Limits(rate=2)}).account("dedl").limits.rate == 2


# --- what is left of it -----------------------------------------------------------------------------------------------


def test_only_the_owner_reads_and_no_name_tells_the_account(worker: Callable[[], Broker], tmp_path: Path) -> None:
    worker().request(account())
    folder = tmp_path / "broker"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    (state,) = folder.glob("*.state")
    assert state.stem.startswith("hostile-")
    assert "user" not in state.name
    elsewhere = LocalBroker(tmp_path / "elsewhere")
    elsewhere.request(account())
    assert not (tmp_path / "elsewhere" / state.name).exists()  # a name cannot be found by trying passwords


def test_a_damaged_state_loses_counters_and_says_so(
    worker: Callable[[], Broker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker().moved(account(), 5)
    (state,) = (tmp_path / "broker").glob("*.state")
    state.write_bytes(b"\xff" * 3000)
    worker().request(account())
    worker().moved(account(), 7)
    (found,) = worker().status()
    assert found.bytes == {"default": 7}
    assert main(["status", "--folder", str(tmp_path / "broker")]) == 0
    assert "the state was damaged and began anew" in capsys.readouterr().out
    assert state.with_suffix(".damaged").read_bytes()[:3000] == b"\xff" * 3000


def test_a_write_that_death_cut_short_leaves_the_state_before_it(worker: Callable[[], Broker], tmp_path: Path) -> None:
    worker().moved(account(), 5)
    worker().moved(account(), 6)
    (state,) = (tmp_path / "broker").glob("*.state")
    data = bytearray(state.read_bytes())
    places = {int(data[start : start + 64].split()[0]): start for start in (0, len(data) // 2)}
    newest = places[max(places)]
    data[newest + 80 : newest + 90] = bytes(10)
    state.write_bytes(data)
    assert worker().status()[0].bytes == {"default": 5}
    assert worker().status()[0].notes == ()


def test_threads_and_processes_lose_no_count(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from earthself.data.broker import Account, LocalBroker\n"
        "broker = LocalBroker(Path(sys.argv[1]))\nfor _ in range(200): broker.moved(Account('hostile', 'user and password'), 1)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "broker")]) for _ in range(3)]
    here = LocalBroker(tmp_path / "broker")
    threads = [threading.Thread(target=lambda: [here.moved(account(), 1) for _ in range(200)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for each in (*threads, *processes):
        each.join() if isinstance(each, threading.Thread) else each.wait()
    assert here.status()[0].bytes == {"default": 1200}


def test_a_full_disk_stops_no_worker_that_has_begun_and_is_said_to_others(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from earthself.data.broker import Account, Limits, LocalBroker
from earthself.data.errors import NoRoom
folder = Path(sys.argv[1])
broker, account = LocalBroker(folder / "broker"), Account("hostile", limits=Limits(rate=1000))
broker.request(account)
with (folder / "rest").open("wb", buffering=0) as rest:
    try:
        while True:
            rest.write(bytes(4096))
    except OSError as error:
        print(error.strerror)
for _ in range(20):
    broker.request(account)
    broker.moved(account, 10)
print(broker.status()[0].bytes)
try:
    broker.request(Account("other"))
except NoRoom as error:
    print(error)
"""
    full, counted, refused = on_small_disk(code, tmp_path)
    assert full == "No space left on device"
    assert counted == "{'default': 200}"
    assert "there is no room for the state of the download broker" in refused


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("a file")
    with pytest.raises((BadInput, TryAgain), match="EARTHSELF_HOME"):
        LocalBroker(tmp_path / "broker").request(Account("hostile"))


def test_the_status_is_for_people_and_for_machines(
    worker: Callable[[], Broker], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path))
    assert main(["status", "--folder", str(tmp_path / "none")]) == 69
    assert "no worker has asked a provider" in capsys.readouterr().err
    for team, times in (("forest", 3), ("water", 1)):
        for _ in range(times):
            worker().request(Account("hostile", "user and password", team, Limits(rate=10, bytes_a_month=10**10)))
        worker().moved(Account("hostile", "user and password", team), 50_000_000)
    assert worker().status()[0].shares == {"forest": 0.75, "water": 0.25}
    assert main(["status", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["provider"], found["rate"], found["bytes"]) == ("hostile", None, {"forest": 50_000_000, "water": 50_000_000})
