"""What the engine answers: what it rules out and why, what it prefers, what it says it does not know; unmoved by what must not move it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from earthself.benchmark.offers.model import Allocation, Carbon, Certificate, Price, Rate, Region, Source
from earthself.benchmark.suggestion.engine import answer
from earthself.benchmark.suggestion.knowledge import Knowledge
from earthself.benchmark.suggestion.need import Need

from tests.benchmark.clouds import NEED, RATES, SOURCE, TODAY, measured, offer, offers, price

QUICK = {key: 2 * value for key, value in RATES.items()}
BIG = offer("m8", vcpus=8.0, memory_gib=32.0)
MANY = offers(
    offers=(offer(), offer("q4"), BIG, offer("new")),
    prices=(price(), price(0.6, "q4"), price(0.9, "m8"), price(0.1, "new"), price(0.3, region="n2")),
    regions=(Region("north", "n1", "North 1", SOURCE, country="SE"), Region("north", "n2", "North 2", SOURCE, country="NO")),
)
MEASURED = [*measured(), *measured("q4", rates=QUICK), *measured("m8", rates={**RATES, ("numpy_all", "pixels"): 2560.0})]


def ask(change=(), known=MANY, what=MEASURED, today=TODAY):
    return answer(Need.from_document(NEED | dict(change)), Knowledge(known, what, "1"), today)


def names(choices):
    return [(one.candidate.offer.offer, one.candidate.region) for one in choices]


def test_the_quick_and_the_cheap_are_the_front_and_one_of_them_is_preferred():
    done = ask({"deadline_hours": 1, "budget_euros": 1})
    ranked = [one for one in done.choices if one.rank]
    assert names(ranked) == [("q4", "n1"), ("m8", "n1"), ("m4", "n1")]
    assert names(one for one in done.choices if one.front) == [("q4", "n1"), ("m8", "n1"), ("m4", "n2")]
    assert done.best is done.choices[0]
    assert [one.score for one in ranked] == sorted(one.score for one in ranked)
    assert done.no_ranking == ""
    assert {weight.criterion.name for weight in done.weights} == {"cost", "time"}
    assert all(weight.low <= weight.criterion.weight <= weight.high for weight in done.weights)


def test_what_nobody_measured_is_listed_with_the_command_that_measures_it_and_never_wins():
    done = ask()
    (new,) = (one for one in done.choices if one.candidate.offer.offer == "new")
    assert new.rank is None
    assert any(said.startswith("hours unknown") for said in new.unranked)
    command = "earthself-suggest probe numpy_one numpy_all object_store --cloud north --region n1 --offer new --storage s3://PROFILE@BUCKET/PREFIX"
    assert command in [one.command for one in done.to_measure]


def test_measured_in_another_region_is_not_enough_to_be_ranked():
    (there,) = (one for one in ask().choices if one.candidate.region == "n2")
    assert there.estimate.hours.known
    assert there.unranked == ["less than half of what decides was measured: speed, reading"]


def test_without_two_that_are_known_well_enough_there_is_no_ranking():
    done = ask(what=measured())
    assert done.best is None
    assert done.no_ranking.startswith("only one offer is known well enough")
    assert not done.weights
    assert all(one.rank is None for one in done.choices)


@pytest.mark.parametrize(("days", "ranked"), [(180, True), (181, False)])
def test_a_price_of_more_than_180_days_is_no_ground_for_a_ranking(days, ranked):
    today = date.fromordinal(SOURCE.day.toordinal() + days)
    done = ask(today=today)
    assert (done.best is not None) == ranked
    assert ranked or any("price of machines (2026-11-01)" in said for one in done.choices for said in one.unranked)


def test_a_price_that_has_ended_is_no_ground_either():
    ended = replace(MANY, prices=tuple(replace(one, valid_until=date(2026, 11, 10)) for one in MANY.prices))
    assert all("its price ended on 2026-11-10" in one.unranked for one in ask(known=ended).choices)


CONSTRAINTS = [
    ({"clouds": ["south"]}, "clouds", "north is not among the clouds asked for"),
    ({"not_clouds": ["north"]}, "not_clouds", "north is ruled out"),
    ({"regions": ["n9"]}, "regions", "region n1 is not among those asked for"),
    ({"countries": ["DE"]}, "countries", "region n1 is in SE"),
    ({"certificates": ["c5"]}, "certificates", "nobody has written down that it is certified for c5"),
    ({"allocations": ["spot"]}, "allocations", "this price is for ondemand"),
    ({"machine": {"vcpus": 16}}, "machine.vcpus", "has 4 vCPU, less than 16"),
    ({"machine": {"memory_gib": 64}}, "machine.memory_gib", "has 16 GiB of memory, less than 64"),
    ({"machine": {"gpus": 1}}, "machine.gpus", "nobody says how many GPUs it has"),
    ({"machine": {"disk_gb": 10}}, "machine.disk_gb", "nobody says how many GB of disk it has"),
    ({"machine": {"architecture": "aarch64"}}, "machine.architecture", "its processors are x86_64"),
    ({"profile": {**NEED["profile"], "memory_gib": 40}}, "profile", "a step needs 40 GiB beside 0.5 for the system, it has 16"),
    ({"deadline_hours": 0.001}, "deadline_hours", "takes 0.2292 h, more than 0.001"),
    ({"budget_euros": 0.001}, "budget_euros", "takes 0.0825 EUR, more than 0.001"),
]


@pytest.mark.parametrize(("change", "constraint", "reason"), CONSTRAINTS, ids=[one[1] for one in CONSTRAINTS])
def test_each_constraint_rules_out_with_its_reason(change, constraint, reason):
    done = ask(change)
    assert not done.choices
    assert done.no_ranking == "no offer satisfies the need"
    m4 = next(one for one in done.excluded if names([one]) == [("m4", "n1")])
    assert [(miss.constraint, miss.reason) for miss in m4.misses] == [(constraint, reason)]
    assert done.reasons[constraint] == len(done.excluded)


def test_the_nearest_misses_come_first():
    done = ask({"machine": {"vcpus": 9}, "countries": ["NO"]})
    assert names(done.excluded)[0] == ("m4", "n2")
    assert names(done.excluded)[1] == ("m8", "n1")
    assert len(done.excluded[1].misses) == 2


def test_a_certificate_counts_while_it_is_valid_and_where_it_holds():
    held = (Certificate("north", "c5", SOURCE, region="n2"), Certificate("north", "iso-27001", SOURCE, valid_until=date(2026, 1, 1)))
    known = replace(MANY, certificates=held)
    assert {one.candidate.region for one in ask({"certificates": ["c5"]}, known).choices} == {"n2"}
    (first, *_) = ask({"certificates": ["iso-27001"]}, known).excluded
    assert first.misses[0].reason == "its certificate iso-27001 ended on 2026-01-01"


def test_what_may_miss_the_deadline_is_said():
    hours = ask().choices[0].estimate.hours
    done = ask({"deadline_hours": (hours.value + hours.high) / 2})
    assert any("may miss the deadline" in said for one in done.choices for said in one.warnings)


def test_unknown_carbon_counts_as_the_dirtiest():
    weights = {"weights": {"carbon": 1}}
    known = replace(MANY, carbon=(Carbon(900.0, SOURCE, cloud="north", region="n1"),), prices=(price(), price(region="n2")))
    done = ask(weights, known, [*measured(), *measured(region="n2")])
    assert names(done.choices) == [("m4", "n1"), ("m4", "n2")]
    assert [one.score for one in done.choices] == pytest.approx([0.9, 1.0])


class TestNothingElseMatters:
    def test_order(self):
        turned = replace(MANY, offers=MANY.offers[::-1], prices=MANY.prices[::-1], regions=MANY.regions[::-1])
        assert ask(known=turned, what=MEASURED[::-1]).choices == ask().choices

    def test_an_offer_that_is_there_under_two_names(self):
        twice = replace(MANY, offers=(*MANY.offers, offer("m4-too")), prices=(*MANY.prices, price(of="m4-too")))
        before = [one for one in names(ask().choices) if one[0] != "m4-too"]
        after = ask(known=twice, what=[*MEASURED, *measured("m4-too")])
        assert [one for one in names(after.choices) if one[0] != "m4-too"] == before

    def test_currency(self):
        dollars = replace(MANY, prices=tuple(replace(one, amount=one.amount / 0.9, currency="USD") for one in MANY.prices))
        for ours, theirs in zip(ask().choices, ask(known=dollars).choices, strict=True):
            assert (ours.candidate.offer, ours.rank) == (theirs.candidate.offer, theirs.rank)
            if ours.estimate.euros.known:
                assert theirs.estimate.euros.value == pytest.approx(ours.estimate.euros.value)

    def test_weights_in_another_unit(self):
        assert names(ask({"weights": {"cost": 0.6, "time": 0.4}}).choices) == names(ask({"weights": {"cost": 60, "time": 40}}).choices)

    def test_a_worse_offer(self):
        worse = replace(MANY, offers=(*MANY.offers, offer("bad")), prices=(*MANY.prices, price(99.0, "bad")))
        found = ask(known=worse, what=[*MEASURED, *measured("bad", rates={key: value / 4 for key, value in RATES.items()})])
        assert [one for one in names(found.choices) if one[0] != "bad"] == names(ask().choices)


def test_the_same_need_on_the_same_state_is_the_same_answer_and_names_it():
    first, second = ask(), ask()
    assert first == second
    assert first.state == second.state
    assert ask(what=measured()).state != first.state


def test_who_runs_the_platform_is_said(monkeypatch):
    monkeypatch.delenv("EARTHSELF_OPERATOR", raising=False)
    monkeypatch.delenv("EARTHSELF_OPERATOR_EARNS_FROM", raising=False)
    assert (ask().operator.name, ask().operator.earns_from) == ("", None)
    monkeypatch.setenv("EARTHSELF_OPERATOR", "Example Agency")
    monkeypatch.setenv("EARTHSELF_OPERATOR_EARNS_FROM", "north, South")
    assert (ask().operator.name, ask().operator.earns_from) == ("Example Agency", ("north", "south"))
    monkeypatch.setenv("EARTHSELF_OPERATOR_EARNS_FROM", "none")
    assert ask().operator.earns_from == ()


def test_spot_machines_say_that_they_may_go():
    known = replace(MANY, prices=(*MANY.prices, price(0.1, allocation=Allocation.SPOT)))
    found = ask({"allocations": ["spot"]}, known).choices
    assert ["a spot machine may be taken away" in one.warnings[0] for one in found] == [True]


def test_offers_without_a_price_are_counted():
    assert ask(known=replace(MANY, offers=(*MANY.offers, offer("free")))).unpriced == 1


def test_data_elsewhere_need_a_measurement_of_that():
    done = ask({"collections": ["S2_MSI_L2A"]})
    assert all(one.near.value == 0.0 for one in done.choices)
    assert any("download" in one.command for one in done.to_measure)


def test_an_old_rate_makes_an_old_price():
    old = Rate("USD", 0.9, Source("a table", "", date(2026, 1, 1)))
    known = replace(MANY, rates=(old,), prices=tuple(replace(one, currency="USD") for one in MANY.prices))
    assert ask(known=known).best is None


def test_every_price_is_looked_at():
    assert len(ask().choices) + len(ask().excluded) == len(MANY.prices)
    assert all(isinstance(one.candidate.price, Price) for one in ask().choices)
