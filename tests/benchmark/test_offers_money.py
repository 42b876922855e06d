"""Euros and egress, computed by hand."""

from __future__ import annotations

from datetime import date

import pytest
from earthself.benchmark.errors import BadOffers, RateUnknown
from earthself.benchmark.offers.model import EgressPrice, Rate, Tier
from earthself.benchmark.offers.money import Euros, Rates, egress

from tests.benchmark.offers import source

USD = Rate("USD", 0.9, source(day=date(2026, 8, 1)))
TIERED = EgressPrice("north", "eu-paris", (Tier(100.0, 0.0), Tier(10_000.0, 0.09), Tier(None, 0.05)), "USD", source())


def test_amounts_become_euros_by_a_dated_rate():
    found = Rates([USD]).euros(2.0, "USD")
    assert found == Euros(1.8, USD)
    assert [found.old(day) for day in (date(2026, 8, 1), date(2026, 10, 30), date(2026, 10, 31))] == [False, False, True]


def test_euros_need_no_rate_and_do_not_age():
    found = Rates([]).euros(2.0, "EUR")
    assert found == Euros(2.0, None)
    assert not found.old(date(2090, 1, 1))


def test_a_currency_without_a_rate_is_unknown_never_one_to_one():
    with pytest.raises(RateUnknown, match=r"what a PLN is worth in euros.*load ecb"):
        Rates([USD]).euros(2.0, "PLN")


@pytest.mark.parametrize(
    ("gigabytes", "cost"),
    [
        (0, 0.0), (99.5, 0.0), (100, 0.0), (101, 0.09), (10_000, 891.0), (10_001, 891.05), (30_000, 891.0 + 20_000 * 0.05),
    ],
)  # fmt: skip
def test_each_part_of_what_leaves_costs_what_its_tier_says(gigabytes, cost):
    assert egress(TIERED, gigabytes) == pytest.approx(cost, abs=1e-9)


@pytest.mark.parametrize("gigabytes", [-1, float("nan"), float("inf")])
def test_what_cannot_leave_has_no_cost(gigabytes):
    with pytest.raises(BadOffers, match="cannot leave a cloud"):
        egress(TIERED, gigabytes)
