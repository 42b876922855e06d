"""Environments are made and taken away whoever dies when, by an engine whose world outlives its process and which fails as told."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np
import pytest
from earthself.provision import (
    BadOrder,
    Builder,
    EngineBusy,
    EngineFailed,
    Journal,
    Level,
    Observed,
    Order,
    Patience,
    Plan,
    Quota,
    Resource,
    Stage,
    Status,
    TakenAway,
)

NETWORK, HOST, VOLUME, KEY = "network/r", "host/r", "volume/r", "key/r"


class Died(BaseException):
    """The process is no more."""


@dataclass
class World:
    """What there is, whichever process looks."""

    made: dict[str, int] = field(default_factory=dict)
    """Key to the looks that it takes until it is ready."""
    calls: Counter = field(default_factory=Counter)
    fail: dict[tuple[str, str], Exception] = field(default_factory=dict)
    """What a call of (what, kind) raises, before it has done anything."""
    fail_after: dict[tuple[str, str], Exception] = field(default_factory=dict)
    """The same, after it has done all."""
    broken: set[str] = field(default_factory=set)
    slow: int = 0
    die_at: int | None = None
    """The point of all, counted from 1, at which the process dies."""
    points: int = 0

    def point(self):
        self.points += 1
        if self.points == self.die_at:
            raise Died


class Engine:
    """An engine whose resources need each other as those of a cloud do."""

    name = "test"

    def __init__(self, world):
        self.world = world

    def plan(self, order):
        key = order.request
        parts = [
            Resource("network", key), Resource("host", key, {}, (f"network/{key}",)), Resource("volume", key, {"gb": 5}, (f"host/{key}",)),
            Resource("key", key),
        ]  # fmt: skip
        return Plan(self.name, order, parts)

    def _call(self, what, resource, do):
        self.world.calls[what, resource.key] += 1
        self.world.point()
        if error := self.world.fail.get((what, resource.kind)):
            raise error
        done = do()
        self.world.point()
        if error := self.world.fail_after.get((what, resource.kind)):
            raise error
        return done

    def create(self, order, resource):
        missing = [need for need in resource.needs if self.world.made.get(need, 1) != 0]
        assert not missing, f"{resource.key} is made before {missing}"
        self._call("create", resource, lambda: self.world.made.setdefault(resource.key, self.world.slow))
        return f"id-of-{resource.kind}"

    def observe(self, order, resource):
        self.world.point()
        looks = self.world.made.get(resource.key)
        if looks is None:
            return Observed(Status.ABSENT)
        if resource.kind in self.world.broken:
            return Observed(Status.BROKEN, message="no route to it")
        self.world.made[resource.key] = max(0, looks - 1)
        return Observed(Status.MAKING if looks else Status.READY)

    def destroy(self, order, resource):
        users = [one.key for one in self.plan(order).resources if resource.key in one.needs and one.key in self.world.made]
        assert not users, f"{resource.key} goes while {users} need it"
        self._call("destroy", resource, lambda: self.world.made.pop(resource.key, None))

    def left(self, request):
        return [key for key in self.world.made if key.endswith(f"/{request}")]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def journal(url):
    with Journal(url, now=lambda: datetime(2026, 11, 24, tzinfo=UTC)) as kept:
        yield kept


def order(request="req-1", **kwargs):
    return Order(**{"request": request, "team": "north", "owner": "ada", "level": Level.KAAS, "until": date(2027, 1, 1)} | kwargs)


def builder(world, journal, **kwargs):
    slept = []
    patience = Patience(**{"seconds": 10, "pause": 1, "sleep": slept.append, "clock": lambda: float(len(slept))} | kwargs)
    return Builder(Engine(world), journal, patience)


def whole(journal, request="req-1"):
    return {one.resource.kind: one.stage for one in journal.resources(request)}


MADE = dict.fromkeys(("network", "host", "volume", "key"), Stage.MADE)
GONE = dict.fromkeys(MADE, Stage.GONE)


def test_an_environment_is_made_looked_at_and_taken_away(world, journal):
    building = builder(world, journal)
    plan = Engine(world).plan(order())
    building.apply(plan)
    assert sorted(world.made) == ["host/req-1", "key/req-1", "network/req-1", "volume/req-1"]
    assert whole(journal) == MADE
    assert [one.id for one in journal.resources("req-1")] == [f"id-of-{kind}" for kind in MADE]
    assert {seen.status for seen in building.look("req-1").values()} == {Status.READY}
    assert journal.standing() == [plan.order]
    assert building.remove("req-1") == []
    assert (world.made, Engine(world).left("req-1"), whole(journal), journal.standing()) == ({}, [], GONE, [])


def test_everything_is_written_down_before_anything_is_made(world, journal):
    world.fail["create", "network"] = Died()
    with pytest.raises(Died):
        builder(world, journal).apply(Engine(world).plan(order()))
    assert whole(journal) == {"network": Stage.BEGUN, "host": Stage.PLANNED, "volume": Stage.PLANNED, "key": Stage.PLANNED}


def test_what_takes_long_is_waited_for(world, journal):
    world.slow = 4
    builder(world, journal).apply(Engine(world).plan(order()))
    assert whole(journal) == MADE
    assert {world.calls["create", key] for key in world.made} == {1}, "begun once, then looked at"


def test_what_takes_too_long_may_be_gone_on_with(world, journal):
    world.slow = 50
    plan = Engine(world).plan(order())
    with pytest.raises(EngineBusy, match="network/req-1 is making after 10 s, not ready"):
        builder(world, journal).apply(plan)
    world.made["network/req-1"] = world.slow = 0
    builder(world, journal).apply(plan)
    assert whole(journal) == MADE


def points(url, tmp_path, what):
    """Count the points at which a process may die while it does something."""
    world = World()
    with Journal(f"sqlite:///{tmp_path / 'count.db'}") as journal:
        building, plan = builder(world, journal), Engine(world).plan(order())
        building.apply(plan)
        making = world.points
        building.remove("req-1")
    return making if what == "apply" else world.points - making


@pytest.mark.parametrize("what", ["apply", "remove"])
def test_wherever_it_dies_the_next_goes_on_to_the_same_end(tmp_path, what):
    for at in range(1, points(None, tmp_path, what) + 1):
        world = World()
        with Journal(f"sqlite:///{tmp_path / f'{what}-{at}.db'}") as journal:
            plan = Engine(world).plan(order())
            if what == "remove":
                builder(world, journal).apply(plan)
            world.points, world.die_at = 0, at
            with pytest.raises(Died):
                builder(world, journal).apply(plan) if what == "apply" else builder(world, journal).remove("req-1")
            if what == "apply":
                builder(world, journal).apply(plan)
                assert (whole(journal), len(world.made)) == (MADE, 4), at
            assert builder(world, journal).remove("req-1") == []
            assert (whole(journal), world.made, journal.standing()) == (GONE, {}, []), at


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("when", ["fail", "fail_after"])
def test_where_it_fails_all_that_was_made_is_taken_away(world, journal, kind, when):
    getattr(world, when)["create", kind] = EngineFailed("no more addresses; ask for another region")
    with pytest.raises(EngineFailed, match="no more addresses"):
        builder(world, journal).apply(Engine(world).plan(order()))
    assert (world.made, whole(journal), journal.standing()) == ({}, GONE, [])


def test_what_is_broken_is_said_and_taken_away(world, journal):
    world.broken.add("host")
    with pytest.raises(EngineFailed, match="host/req-1 is broken: no route to it"):
        builder(world, journal).apply(Engine(world).plan(order()))
    assert (world.made, whole(journal)) == ({}, GONE)


def test_what_may_pass_is_not_taken_away(world, journal):
    plan = Engine(world).plan(order())
    world.fail["create", "volume"] = EngineBusy("the storage is busy")
    with pytest.raises(EngineBusy):
        builder(world, journal).apply(plan)
    assert [one.error for one in journal.resources("req-1") if one.resource.kind == "volume"] == ["the storage is busy"]
    world.fail.clear()
    builder(world, journal).apply(plan)
    assert whole(journal) == MADE
    assert world.calls["create", "network/req-1"] == 1
    assert {one.error for one in journal.resources("req-1")} == {""}


def test_what_cannot_go_is_listed_keeps_what_it_needs_and_is_tried_again(world, journal):
    builder(world, journal).apply(Engine(world).plan(order()))
    world.fail["destroy", "volume"] = EngineFailed("the volume is attached")
    stuck = builder(world, journal).remove("req-1")
    assert [one.resource.kind for one in stuck] == ["network", "host", "volume"], "the key, which nothing needs, is gone"
    assert sorted(world.made) == ["host/req-1", "network/req-1", "volume/req-1"]
    assert [(one.resource.key, one.error) for one in journal.stuck()] == [("volume/req-1", "the volume is attached")]
    assert len(journal.standing()) == 1
    world.fail.clear()
    assert builder(world, journal).remove("req-1") == []
    assert (world.made, journal.stuck(), journal.standing()) == ({}, [], [])


def test_what_was_deleted_from_outside_is_made_anew_and_gone_is_gone(world, journal):
    plan = Engine(world).plan(order())
    builder(world, journal).apply(plan)
    del world.made["volume/req-1"]
    assert builder(world, journal).look("req-1")["volume/req-1"].status is Status.ABSENT
    builder(world, journal).apply(plan)
    assert "volume/req-1" in world.made
    world.made.clear()
    assert builder(world, journal).remove("req-1") == []


def test_another_plan_for_the_same_request_is_refused(world, journal):
    builder(world, journal).apply(Engine(world).plan(order()))
    with pytest.raises(BadOrder, match="was begun by another plan"):
        builder(world, journal).apply(Engine(world).plan(order(quota=Quota(8))))
    builder(world, journal).remove("req-1")
    with pytest.raises(BadOrder, match="is gone; make another request"):
        builder(world, journal).apply(Engine(world).plan(order()))
    assert world.made == {}


def test_who_makes_what_another_takes_away_leaves_nothing(world, journal, url):
    """A worker that was taken for dead still makes the host while all is taken away."""
    plan, entered, go_on, ended = Engine(world).plan(order()), threading.Event(), threading.Event(), []

    class Slow(Engine):
        def create(self, order, resource):
            if resource.kind == "host":
                entered.set()
                go_on.wait(20)
                world.made[resource.key] = 0
                return "late"
            return super().create(order, resource)

    def make():
        with Journal(url) as mine:
            try:
                Builder(Slow(world), mine, Patience(pause=0)).apply(plan)
            except TakenAway as error:
                ended.append(str(error))

    maker = threading.Thread(target=make)
    maker.start()
    assert entered.wait(20)
    assert builder(world, journal).remove("req-1") == []
    go_on.set()
    maker.join(20)
    assert ended == ["host/req-1 of req-1 is being taken away; make another request"]
    assert (world.made, whole(journal)) == ({}, GONE)


@pytest.mark.timeout(300)
def test_a_hundred_environments_come_and_go_with_failures_and_deaths(tmp_path):
    draw, world, ended = np.random.default_rng(7), World(), Counter()
    kinds = [EngineBusy("not now"), EngineBusy("later"), EngineFailed("never")]

    def one_of(options):
        return options[draw.integers(len(options))]

    with Journal(f"sqlite:///{tmp_path / 'many.db'}") as journal:
        for number in range(100):
            request = f"req-{number}"
            plan = Engine(world).plan(order(request))
            for _ in range(200):
                faults = [(one_of(["create", "destroy"]), one_of(list(MADE))) for _ in range(draw.integers(3))]
                world.fail = {fault: one_of(kinds) for fault in faults}
                world.fail_after = {fault: one_of(kinds) for fault in faults[1:]}
                world.points, world.die_at = 0, one_of([None, None, int(draw.integers(1, 25))])
                try:
                    builder(world, journal).apply(plan)
                    ended["made"] += 1
                    if draw.random() < 0.5:
                        builder(world, journal).remove(request)
                except (EngineBusy, EngineFailed, BadOrder, Died) as error:
                    ended[type(error).__name__] += 1
                    continue
                break
            world.fail, world.fail_after, world.die_at = {}, {}, None
            assert builder(world, journal).remove(request) == []
            assert Engine(world).left(request) == []
        assert (world.made, journal.standing(), journal.stuck()) == ({}, [], [])
    assert min(ended[name] for name in ("made", "EngineBusy", "EngineFailed", "Died")) > 10, ended


@pytest.mark.parametrize(
    "request_id", ["", "ab", "Req-1", "req_1", "-req", "req-", "req/1", "../../etc", "req 1", "r" * 41, "réq-1", "req\n1", "$(id)"]
)
def test_an_id_that_cannot_name_what_is_made_is_refused(request_id):
    with pytest.raises(BadOrder, match="cannot name what is made"):
        order(request_id)


def test_a_plan_holds_what_each_part_needs_before_it():
    parts = [Resource("a", "x", {}, ("b/x",)), Resource("b", "x")]
    with pytest.raises(BadOrder, match="plans a/x before b/x, which it needs"):
        Plan("test", order(), parts)
    with pytest.raises(BadOrder, match="plans b/x twice"):
        Plan("test", order(), [parts[1], parts[1]])


def test_an_order_comes_back_from_the_journal_as_it_was(world, journal):
    wanted = order(quota=Quota(0.5, 2, 10), repository="https://example.org/a.git")
    plan = Engine(world).plan(wanted)
    journal.open(plan)
    assert journal.order("req-1") == wanted
    assert [one.resource for one in journal.resources("req-1")] == list(plan.resources)
    with pytest.raises(BadOrder, match="nothing was ever begun"):
        journal.order("req-2")
