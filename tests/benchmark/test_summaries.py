"""What samples say together, kept in both databases: the newest of them, of one way of measuring."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from earthself.benchmark.samples import FAILED
from earthself.benchmark.summaries import NEWEST
from earthself.benchmark.tables import Samples

from tests.benchmark.clouds import samples

ONE = {("numpy_one", "pixels"): 100.0}


@pytest.fixture
def kept(url):
    with Samples(url) as opened:
        yield opened


def test_each_metric_of_a_place_has_its_median(kept):
    kept.add([replace(sample, value=value) for sample, value in zip(samples(rates=ONE), (90, 100, 110, 95, 300), strict=True)])
    kept.add(samples(of="other", rates=ONE, times=2))
    here, other = kept.measured()
    assert (here.offer, here.median, here.count, here.unit, here.cpu_model) == ("m4", 100, 5, "Mpixel/s", "CPU")
    assert here.low < 100 < here.high
    assert here.day == date(2026, 11, 20)
    assert (other.offer, other.count, other.low, other.high) == ("other", 2, None, None)


def test_only_the_newest_count(kept):
    kept.add([replace(sample, value=1.0) for sample in samples(rates=ONE, times=NEWEST, day=date(2026, 1, 1))])
    kept.add(samples(rates=ONE, times=NEWEST))
    (found,) = kept.measured()
    assert (found.median, found.count) == (100.0, NEWEST)


def test_values_of_another_way_of_measuring_are_left_out_and_addresses_are_no_way(kept):
    old, new = samples(rates=ONE, times=3, day=date(2026, 1, 1)), samples(rates=ONE, times=2)
    kept.add([replace(sample, value=7.0, labels={**sample.labels, "threads": "1"}) for sample in old])
    kept.add(
        [replace(sample, labels={**sample.labels, "threads": "2", "storage": f"s3://p@{number}/x"}) for number, sample in enumerate(new)]
    )
    (found,) = kept.measured()
    assert (found.median, found.count, found.parameters["threads"]) == (100.0, 2, "2")


def test_failures_are_no_values(kept):
    kept.add([replace(samples(rates=ONE, times=1)[0], metric=FAILED)])
    assert kept.measured() == []


def test_the_revision_changes_with_the_samples_and_only_then(kept):
    first = kept.revision()
    some = samples(rates=ONE)
    kept.add(some)
    second = kept.revision()
    kept.add(some)
    assert first < second == kept.revision()
    kept.add(samples(rates=ONE, times=1))
    assert kept.revision() > second


def test_samples_of_before_are_summed_up_too(url):
    """A database that was made before there were summaries."""
    from earthself.benchmark.tables import STALE, SUMMARY

    with Samples(url) as kept:
        kept.add(samples(rates=ONE))
        with kept._database.writing() as connection:
            connection.execute(STALE.delete())
            for table in (SUMMARY, STALE):
                table.drop(connection)
            connection.exec_driver_sql("DROP TABLE benchmark_revision")
            connection.exec_driver_sql("UPDATE benchmark_version SET version_num = '0002'")
            connection.exec_driver_sql("DROP INDEX benchmark_sample_place")
    with Samples(url) as kept:
        assert [one.median for one in kept.measured()] == [100.0]
