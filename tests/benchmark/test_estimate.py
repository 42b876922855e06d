"""What an offer takes and costs, held against what a person computes with a pencil."""

from __future__ import annotations

from datetime import date

import pytest
from earthself.benchmark.offers.model import Allocation, Source
from earthself.benchmark.offers.money import Rates
from earthself.benchmark.suggestion.estimate import Candidate, estimate, steps_at_once
from earthself.benchmark.suggestion.need import Need
from earthself.benchmark.suggestion.performance import Performance
from earthself.benchmark.suggestion.values import Badge

from tests.benchmark.clouds import NEED, RATES, SOURCE, measured, offer, offers, price


def found(change=(), of=None, at=None, known=None, near=True):
    catalogue = offers()
    candidate = Candidate(of or offer(), at or price(), "SE", near, catalogue.storage_prices[0], catalogue.egress_prices[0])
    return estimate(
        Need.from_document(NEED | dict(change)), candidate, Performance(measured() if known is None else known), Rates(catalogue.rates)
    )


def test_hours_and_euros_are_those_of_the_formula():
    done = found()
    # Four steps at once; a tile: 10 s + 100 s * 100 / 160 + 1,000 MB * 4 / 400 MB/s = 82.5 s; ten rounds.
    assert (done.steps, done.machines) == (4, 1)
    assert done.hours.value == pytest.approx(825 / 3600)
    assert done.euros.value == pytest.approx(0.36 * 825 / 3600)
    assert done.tile_euros.value == pytest.approx(0.36 * 825 / 3600 / 40)
    assert done.hours.badge == Badge.MEASURED
    assert done.measured == 1.0


def test_the_interval_is_that_of_the_slowest_and_the_quickest():
    hours = found().hours
    assert hours.low == pytest.approx(10 * (10 + 100 * 100 / 176 + 4000 / 440) / 3600)
    assert hours.high == pytest.approx(10 * (10 + 100 * 100 / 144 + 4000 / 360) / 3600)


@pytest.mark.parametrize(
    ("machine", "steps"),
    [
        ({"vcpus": 4.0, "memory_gib": 16.0}, 4),
        ({"vcpus": 8.0, "memory_gib": 8.0}, 3),
        ({"vcpus": 8.0, "memory_gib": 2.4}, 0),
        ({"vcpus": 0.5, "memory_gib": 4.0}, 1),
        ({"vcpus": None, "memory_gib": 4.0}, 0),
    ],
)
def test_steps_at_once_are_what_cores_and_memory_allow(machine, steps):
    found = steps_at_once(Need.from_document(NEED).profile, offer(**machine))
    assert found == steps
    assert type(found) is int, "it stands in the answer as a number"


def test_more_machines_share_the_rounds_and_no_machine_is_idle():
    done = found({"machines": 100})
    assert done.machines == 10
    assert done.hours.value == pytest.approx(82.5 / 3600)
    assert done.euros.value == pytest.approx(10 * 0.36 * 82.5 / 3600)


def test_an_environment_is_paid_for_while_it_stands():
    assert found({"level": "kaas"}).euros.value == pytest.approx(0.36 * 720)
    assert found({"level": "kaas", "hours_per_month": 10}).euros.value == pytest.approx(3.6)


def test_a_reservation_is_paid_for_the_whole_month_with_its_share_of_what_is_paid_at_once():
    reserved = price(0.1, allocation=Allocation.RESERVED, upfront=120.0, term_months=12)
    assert found({"allocations": ["reserved"]}, at=reserved).euros.value == pytest.approx(0.1 * 720 + 10)
    endless = price(0.1, allocation=Allocation.RESERVED, upfront=120.0)
    assert not found({"allocations": ["reserved"]}, at=endless).euros.known


def test_storage_and_egress_are_added():
    done = found({"storage_gb": 500, "egress_gb": 300})
    assert done.costs["storage"].value == pytest.approx(10.0)
    assert done.costs["egress"].value == pytest.approx(200 * 0.05)
    assert done.euros.value == pytest.approx(20 + 0.36 * 825 / 3600)


def test_other_currencies_are_changed_at_their_rate_or_unknown():
    assert found(at=price(currency="USD")).euros.value == pytest.approx(0.9 * 0.36 * 825 / 3600)
    unknown = found(at=price(currency="CHF")).euros
    assert not unknown.known
    assert "CHF" in unknown.note


def test_a_price_is_as_old_as_its_rate():
    old = offers().rates[0].__class__("USD", 0.9, Source("a table", "", date(2026, 1, 1)))
    candidate = Candidate(offer(), price(currency="USD"), None, True, None, None)
    done = estimate(Need.from_document(NEED), candidate, Performance(measured()), Rates([old]))
    assert done.costs["machines"].day == date(2026, 1, 1)


def test_what_was_not_measured_makes_the_hours_unknown_and_never_small():
    done = found(known=[])
    assert not done.hours.known
    assert not done.euros.known
    assert "numpy_one" in done.hours.note


def test_a_specification_is_no_measurement():
    done = found(of=offer(network_gbps=8.0), known=measured(rates={key: RATES[key] for key in RATES if key[0].startswith("numpy")}))
    assert done.deciding["reading"].badge == Badge.DERIVED
    assert (done.deciding["reading"].low, done.deciding["reading"].value) == (250.0, 1000.0)
    assert done.hours.badge == Badge.DERIVED
    assert done.measured == 0.5


def test_what_was_measured_in_another_region_is_derived():
    done = found(known=measured(region="n2"))
    assert done.hours.value == pytest.approx(825 / 3600)
    assert done.measured == 0.0
    assert "measured in region n2" in done.deciding["speed"].note


def test_the_same_processor_says_something_of_one_that_was_not_measured():
    others = measured(of="x", rates={("numpy_one", "pixels"): 100.0}) + measured(of="y", rates={("numpy_one", "pixels"): 140.0})
    speed = found(of=offer(cpu_model="CPU"), known=others).deciding["speed"]
    assert (speed.low, speed.value, speed.high, speed.badge) == (100.0, 120.0, 140.0, Badge.DERIVED)


def test_one_core_alone_is_not_all_of_them_at_work():
    speed = found(known=measured(rates={("numpy_one", "pixels"): 200.0, ("object_store", "read"): 100.0})).deciding["speed"]
    assert speed.badge == Badge.DERIVED
    assert "numpy_all" in speed.note


def test_data_from_elsewhere_come_as_fast_as_they_were_fetched_from_there():
    far = found(known=measured(rates=RATES | {("download", "whole"): 50.0}), near=False)
    assert far.deciding["reading"].value == 50.0
    assert not found(near=False).hours.known, "the storage beside says nothing about what is far away"


@pytest.mark.parametrize(("cores", "rate"), [(1.0, 100.0), (2.0, 200.0), (4.0, 400.0), (8.0, 400.0), (16.0, 700.0), (40.0, 700.0)])
def test_steps_share_what_so_many_streams_were_measured_to_bring(cores, rate):
    known = measured(rates=RATES | {("object_store", "read_32"): 700.0})
    assert found(of=offer(vcpus=cores, memory_gib=200.0), known=known).deciding["reading"].value == pytest.approx(rate)


def test_euros_are_as_old_as_their_oldest_price_and_not_as_the_measurement():
    late = Source("a table", "", date(2030, 1, 2))
    done = found(at=price(source=late))
    assert done.hours.day < late.day
    assert (done.costs["machines"].day, done.tile_euros.day, done.euros.day) == (late.day, late.day, late.day)
    assert found({"storage_gb": 5}, at=price(source=late)).euros.day == SOURCE.day
