"""Medians, and how far they are to be trusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from earthself.benchmark.statistics import summary


def test_the_median_lies_in_its_interval_and_order_does_not_matter():
    values = [10.0, 11.0, 9.5, 10.2, 10.4, 9.9]
    found = summary(values)
    assert found.median == pytest.approx(10.1)
    assert 9.5 <= found.low < found.median < found.high <= 11.0
    assert found == summary(values[::-1])
    assert found.trusted


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    draws = np.random.default_rng(7)
    held = [found.low <= 100 <= found.high for found in (summary(draws.normal(100, 10, 15)) for _ in range(300))]
    assert 0.90 <= np.mean(held) <= 1.0


def test_few_values_are_not_trusted_however_near_they_are():
    found = summary([5.0, 5.0, 5.0, 5.0])
    assert (found.median, found.low, found.high) == (5.0, -math.inf, math.inf)
    assert not found.trusted


def test_values_that_vary_are_not_trusted():
    assert not summary([1.0, 2.0, 3.0, 4.0, 5.0]).trusted
    assert summary([0.0] * 5).trusted
    assert not summary([0.0, 0.0, 0.0, 5.0, 5.0]).trusted


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf] * 5])
def test_what_has_no_median_is_refused(values):
    with pytest.raises(ValueError, match="have no median"):
        summary(values)
