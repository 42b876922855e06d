"""Products in a provider's archive: ordered once whoever needs them, waited for with an estimate, read when they are online."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from account import CREDENTIALS, Account
from archive_desk import Desk
from earthself.data.broker import Limits, LocalBroker, Resting
from earthself.data.errors import DataError, NotThere, TryAgain
from earthself.data.sources import Sources, Staging
from provider import Answer, Provider, safe_zip

NAME = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
PIXELS = np.arange(10_000, dtype=np.uint16).reshape(100, 100) + 1
Worker = Callable[..., Sources]


@pytest.fixture(params=["folder", "service"])
def broker_kind(request: pytest.FixtureRequest) -> str:
    """The workers of a cluster are to see no difference."""
    return request.param


@pytest.fixture
def desk(provider: Provider) -> Desk:
    made = Desk()
    made.serve(provider)
    return made


@pytest.fixture
def worker(provider: Provider, desk: Desk, sources: Callable[..., Sources], tmp_path: Path) -> Worker:
    """Make sources as another process of the machine has them."""
    return lambda extra="", **more: sources(desk.settings(provider) + extra, broker=str(tmp_path / "broker"), **more)


def test_an_offline_product_is_ordered_and_read_when_it_is_there(desk: Desk, worker: Worker, slept: list[float]) -> None:
    first, item = worker(), desk.item(NAME)
    with pytest.raises(TryAgain, match=r"is not online at hostile \(orderable\); have it staged"):
        first.open_band(item, "B04")
    asked = first.stage(item)
    assert not asked.online
    assert asked.order is not None
    assert (round(asked.order.expected - asked.order.since), asked.order.guessed) == (3600, True)
    assert asked.item["properties"]["order:status"] == "ordered"
    slept.append(600)
    desk.stage(NAME, safe_zip(NAME, {"B04_10m": PIXELS}))
    there = worker().stage(asked.item)
    assert there.online
    assert there.item["properties"]["order:status"] == "succeeded"
    with first.open_band(there.item, "B04") as band:
        assert np.array_equal(band.read(), PIXELS)
    assert worker().stage(item).online  # another run that found it offline does not order it again
    assert desk.orders == [NAME]


def test_what_orders_took_is_what_the_next_is_expected_to_take(desk: Desk, worker: Worker, slept: list[float]) -> None:
    for number, took in enumerate((600, 900, 5000)):
        worker().stage(desk.item(f"P{number}"))
        slept.append(took)
        desk.stage(f"P{number}", b"")
        worker().stage(desk.item(f"P{number}"))
    order = worker().stage(desk.item(NAME)).order
    assert order is not None
    assert (round(order.expected - order.since, -1), order.guessed) == (900, False)


def test_many_workers_order_once(desk: Desk, worker: Worker) -> None:
    workers = [worker() for _ in range(8)]
    got: list[Staging] = []
    threads = [threading.Thread(target=lambda one=one: got.append(one.stage(desk.item(NAME)))) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.orders == [NAME]
    assert len({each.order.since for each in got if each.order}) == 1


def test_orders_have_a_budget(desk: Desk, worker: Worker, tmp_path: Path) -> None:
    limits = {"hostile": Limits(orders=2)}
    for name in ("P0", "P1"):
        worker(limits=limits).stage(desk.item(name))
    with pytest.raises(Resting, match=r"stages 2 products for this account, which is as many as it may .* P2 is ordered when"):
        worker(limits=limits).stage(desk.item("P2"))
    (status,) = LocalBroker(tmp_path / "broker").status()
    assert [order.product for order in status.orders] == ["P0", "P1"]
    desk.stage("P0", b"")
    worker(limits=limits).stage(desk.item("P0"))
    worker(limits=limits).stage(desk.item("P2"))
    assert desk.orders == ["P0", "P1", "P2"]


def test_orders_that_nobody_asks_about_any_more_take_no_place(desk: Desk, worker: Worker, slept: list[float]) -> None:
    limits = {"hostile": Limits(orders=2)}
    for name in ("P0", "P1"):
        worker(limits=limits).stage(desk.item(name))
    slept.append(3000)
    worker(limits=limits).stage(desk.item("P1"))  # the run that ordered P0 was ended
    slept.append(4500)
    worker(limits=limits).stage(desk.item("P1"))
    worker(limits=limits).stage(desk.item("P2"))
    assert desk.orders == ["P0", "P1", "P2"]
    with pytest.raises(Resting, match="stages 2 products"):
        worker(limits=limits).stage(desk.item("P3"))
    desk.stage("P0", b"")
    assert worker(limits=limits).stage(desk.item("P0")).online


def test_an_order_that_the_provider_gives_up_is_said_and_may_be_made_again(desk: Desk, worker: Worker) -> None:
    worker().stage(desk.item(NAME))
    desk.say(NAME, "failed", message="tape is broken")
    with pytest.raises(DataError, match=r"hostile refuses the order .*tape is broken"):
        worker().stage(desk.item(NAME))
    worker().stage(desk.item(NAME))
    assert desk.orders == [NAME, NAME]


def test_a_desk_that_is_closed_may_open_again(desk: Desk, worker: Worker) -> None:
    desk.fault = Answer(503)
    with pytest.raises(TryAgain, match="busy or broken"):
        worker().stage(desk.item(NAME))
    worker().stage(desk.item(NAME))
    assert desk.orders == [NAME]


def test_a_provider_that_takes_no_orders_is_said(desk: Desk, sources: Callable[..., Sources]) -> None:
    with pytest.raises(NotThere, match="offline at hostile, which takes no orders here; choose another provider"):
        sources().stage(desk.item(NAME))


def test_orders_are_made_in_the_accounts_one_session(provider: Provider, desk: Desk, worker: Worker) -> None:
    account = Account()
    account.serve(provider)
    seen: list[str] = []
    take = desk.take
    provider.forms["/order"] = lambda form: seen.append(provider.requests[-1].headers.get("Authorization", "")) or take(form)
    one = worker(account.settings(provider), credentials=CREDENTIALS)
    item = desk.item(NAME)
    item["properties"]["earthself:access"] = "login"
    one.stage(item)
    worker(account.settings(provider), credentials=CREDENTIALS).stage(item)
    assert seen == ["Bearer t1.0"]
    assert account.logins == 1


def test_a_search_keeps_where_to_order(provider: Provider, sources: Callable[..., Sources]) -> None:
    from searches import add, request

    add(provider, 13)
    mapping = '    metadata_mapping:\n      eodag:order_link: \'https://hostile.example/order?{{"id": "{id}"}}\'\n'
    settings = provider.settings("hostile").replace("    need_auth: false\n", f"    need_auth: false\n{mapping}")
    (item,) = sources(provider_config=settings).search(request()).items
    assert item["properties"]["earthself:order_link"] == f'https://hostile.example/order?{{"id": "{item["id"]}"}}'
