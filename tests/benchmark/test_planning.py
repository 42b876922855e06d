"""Which targets fit into a budget, by cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.offers.model import Allocation, Offers, Price, Rate, Source
from earthself.benchmark.planning import Budget, Candidate, Hourly, Target, estimate, hourly, pace, plan
from earthself.benchmark.samples import FAILED, Sample

TODAY = date(2026, 3, 1)
NONE = Offers()
SAID = Source("a list", "", date(2026, 2, 1))


def target(offer, **more):
    return Target("north", "north", "n-1", offer=offer, **more)


def price(offer, amount, **more):
    return Price("north", "n-1", offer, **{"allocation": Allocation.ON_DEMAND, "currency": "EUR", "source": SAID, **more}, amount=amount)


def offers_of(candidates, offers=NONE, **budget):
    made = plan(candidates, offers, Budget(**budget), TODAY)
    return [one.target.offer for one in made.run], {one.target.offer: one.reason for one in made.left_out}


def test_never_measured_comes_first_and_then_what_was_measured_longest_ago():
    found = [Candidate(target("a"), 10, 300.0), Candidate(target("b"), 10, 100.0), Candidate(target("c"), 10), Candidate(target("d"), 10)]
    assert offers_of(found, minutes=40)[0] == ["c", "d", "b", "a"]
    run, left = offers_of(found, minutes=25)
    assert run == ["c", "d"]
    assert left["b"] == "it takes about 10 minutes, and 5 of the budget's 25 minutes are left"


def test_over_several_runs_all_get_their_turn():
    last = dict.fromkeys("abcde")
    for run in range(3):
        measured, _ = offers_of([Candidate(target(name), 10, last[name]) for name in last], minutes=20)
        assert len(measured) == 2
        last |= dict.fromkeys(measured, float(run))
    assert None not in last.values()


def test_a_smaller_one_takes_the_room_that_a_larger_one_leaves():
    assert offers_of([Candidate(target("a"), 10), Candidate(target("b"), 30), Candidate(target("c"), 5)], minutes=15)[0] == ["a", "c"]


def test_money_is_counted_and_what_has_no_price_is_left_out_unless_that_is_allowed():
    found = [Candidate(target("a"), 30), Candidate(target("b"), 30), Candidate(target("c"), 30)]
    known = Offers(prices=[price("a", 2.0), price("b", 1.2)])
    run, left = offers_of(found, known, minutes=100, euros=1.5)
    assert run == ["a"]
    assert left["b"] == "it costs about 0.60 EUR, and 0.50 of the budget's 1.50 EUR are left"
    assert (
        left["c"]
        == "no on-demand price of north n-1 c is known, so it cannot be held against budget_euros; unpriced=true measures it all the same"
    )
    assert offers_of(found, known, minutes=100, euros=1.5, unpriced=True)[0] == ["a", "c"]
    assert offers_of(found, known, minutes=100)[0] == ["a", "b", "c"]
    made = plan(found, known, Budget(100), TODAY)
    assert (made.minutes, made.euros) == (90, pytest.approx(1.6))


def test_limits_together_are_no_more_than_the_budget():
    found = [Candidate(target("a"), 10), Candidate(target("b"), 20)]
    assert [one.limit for one in plan(found, Offers(), Budget(45), TODAY).run] == [15, 30]
    assert [one.limit for one in plan(found, Offers(), Budget(1000), TODAY).run] == [20, 40], "twice the estimate is enough"
    known = Offers(prices=[price("a", 6.0), price("b", 6.0)])
    assert [one.limit for one in plan(found, known, Budget(1000, euros=3.3), TODAY).run] == pytest.approx([11, 22])
    assert plan(found, known, Budget(30, euros=3.0), TODAY).run[0].limit == 10
    assert plan([], Offers(), Budget(10), TODAY).run == []


@pytest.mark.parametrize(
    ("prices", "euros"),
    [
        ([price("a", 1.0), price("a", 2.0, source=replace(SAID, day=date(2026, 2, 2)))], 2.0),
        ([price("a", 1.0), price("a", 2.0)], 2.0),
        ([price("a", 1.0, zone="n-1a"), price("a", 2.0)], 1.0),
        ([price("a", 1.0, zone="n-1b"), price("a", 2.0)], 2.0),
        ([price("a", 1.0, allocation=Allocation.SPOT)], None),
        ([price("a", 1.0, valid_until=date(2026, 2, 28))], None),
        ([price("a", 1.0, valid_until=TODAY)], 1.0),
        ([price("b", 1.0)], None),
        ([price("a", 1.0, currency="USD")], 0.9),
        ([price("a", 1.0, currency="CHF")], None),
    ],
)
def test_the_price_is_that_of_the_zone_then_the_newest_then_the_dearest(prices, euros):
    rates = [Rate("USD", 0.9, SAID)]
    assert hourly(target("a", zone="n-1a"), Offers(prices=prices, rates=rates), TODAY).euros == (
        None if euros is None else pytest.approx(euros)
    )


def test_what_a_price_rests_on_is_said():
    assert hourly(target("a"), Offers(prices=[price("a", 1.0)]), TODAY) == Hourly(1.0, "a list, 2026-02-01")
    said = hourly(target("a"), Offers(prices=[price("a", 1.0, currency="CHF")]), TODAY).said
    assert said == "its price is in CHF (a list, 2026-02-01), and no exchange rate of that is known"


def test_a_repeat_takes_as_long_as_it_did_the_last_time():
    def sample(test, metric, when):
        return Sample(test, metric, 1.0, "", {}, when, "r")

    run = [sample("disk", way, 100 + 30 * number) for number in range(3) for way in ("read", "write")] + [sample("net", FAILED, 175)]
    assert pace(run) == 25, "four repeats, of which three lie between the first time and the last"
    assert pace(run[:2]) is None
    assert estimate(4, 5, 6.0) == 4
    assert estimate(4, 5, 6.0, pace=9.0) == 3
    assert estimate(4, 5, 6.0, pace=1.0) == 2, "a repeat takes no less than it is told to measure"


@pytest.mark.parametrize("name", ["a|b", "a\nb", "|,|", "x" * 101, "ä"])
def test_what_cannot_be_a_label_is_refused(name):
    with pytest.raises(BadSetting, match="cannot be a label"):
        Target(cloud=name)
