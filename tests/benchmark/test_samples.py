"""Samples as records, files and rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from earthself.benchmark.errors import BadSample
from earthself.benchmark.samples import Sample, read, write
from earthself.benchmark.tables import Samples, Wanted
from hypothesis import given, settings
from hypothesis import strategies as st

WORD = st.text(min_size=1, max_size=20).filter(lambda text: "|" not in text and ":" not in text)
# What PerfKitBenchmarker 1.16 writes for sysbench on a machine of AWS, but for the number of its labels.
THEIRS = {
    "test": "sysbench", "metric": "sysbench_throughput", "value": 1234.5, "unit": "tps", "timestamp": 1750000000.25,
    "product_name": "PerfKitBenchmarker", "official": False, "owner": "ada", "run_uri": "4f9a2c1b",
    "sample_uri": "b5b3c4d2-0000-4000-8000-000000000001",
    "labels": "|cloud:AWS|,|zone:eu-central-1a|,|machine_type:m6i.large|,|command:run --a=1,2 --b:c|",
}  # fmt: skip


def sample(number=1, **changes) -> Sample:
    said = {
        "test": "cpu_one", "metric": "events", "value": float(number), "unit": "events/s", "labels": {"cloud": "north", "offer": "s-2"},
        "timestamp": 1e9 + number, "run_uri": "r1", "sample_uri": f"s{number}",
    }  # fmt: skip
    return Sample(**(said | changes))


@settings(deadline=None)
@given(st.dictionaries(WORD, st.text(max_size=20).filter(lambda text: "|" not in text), max_size=5))
def test_a_sample_is_the_same_after_a_file(labels):
    made = sample(labels=labels)
    assert list(read(write([made]), "x")) == [made]


def test_what_perfkitbenchmarker_writes_is_read():
    (found,) = read([json.dumps(THEIRS) + "\n", "\n"], "x")
    assert (found.test, found.value, found.unit, found.timestamp) == ("sysbench", 1234.5, "tps", 1750000000.25)
    assert found.labels == {"cloud": "AWS", "zone": "eu-central-1a", "machine_type": "m6i.large", "command": "run --a=1,2 --b:c"}
    apart = {name: value for name, value in THEIRS.items() if name != "labels"} | {"metadata": {"cloud": "AWS", "vm_count": 1}}
    (found,) = read([json.dumps(apart)], "x")
    assert found.labels == {"cloud": "AWS", "vm_count": "1"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"value": None}, "value is None, which is no number"),
        ({"value": True}, "value is True"),
        ({"timestamp": "now"}, "timestamp is now"),
        ({"metric": ""}, "metric is ''"),
        ({"sample_uri": "x" * 251}, "1 to 250 characters"),
        ({"unit": 3}, "unit is '3'"),
        ({"labels": "a:b"}, r"not \|name:value\|"),
        ({"labels": "|a|"}, "label 'a' has no value"),
        ({"labels": 7}, "labels are 7"),
    ],
)
def test_a_bad_sample_is_refused_with_its_line(change, says):
    with pytest.raises(BadSample, match=rf"f\.ndjson, line 2: .*{says}"):
        list(read([json.dumps(THEIRS), json.dumps(THEIRS | change)], "f.ndjson"))


@pytest.mark.parametrize("line", ["{", "[1]", '{"value": NaN, "test": "t", "metric": "m"}', "[" * 100_000])
def test_what_is_no_record_is_refused(line):
    with pytest.raises(BadSample, match="line 1: "):
        list(read([line], "x"))


def test_samples_are_kept_once_and_found_again(url):
    (theirs,) = read([json.dumps(THEIRS)], "x")
    with Samples(url) as kept:
        assert kept.add([sample(2), sample(1), theirs]) == 3
        assert kept.add([sample(1, value=7.0), sample(3)]) == 1
        assert [found.value for found in kept.find(Wanted(test="cpu_one"))] == [1.0, 2.0, 3.0], "in order of time, the first one counts"
        assert list(kept.find(Wanted(cloud="aws", zone="eu-central-1a", offer="m6i.large"))) == [theirs]
        assert list(kept.find(Wanted(cloud="north", metric="events", since=datetime.fromtimestamp(1e9 + 3, UTC)))) == [sample(3)]
        assert not list(kept.find(Wanted(offer="m6i.xlarge")))


def test_the_newest_of_each_place_is_known(url):
    here, there = {"cloud": "North", "offer": "s-2"}, {"cloud": "north", "zone": "a", "machine_type": "s-4"}
    with Samples(url) as kept:
        assert kept.newest() == {}
        kept.add([sample(1, labels=here), sample(3, labels=here, metric="failed"), sample(2, labels=here), sample(4, labels=there)])
        assert kept.newest() == {("north", "", "", "s-2"): 1e9 + 3, ("north", "", "a", "s-4"): 1e9 + 4}


def test_many_are_kept_in_one_go_or_not_at_all(url):
    with Samples(url) as kept:
        assert kept.add(sample(number) for number in range(2500)) == 2500
        assert len(list(kept.find())) == 2500

        def broken():
            yield sample(9000)
            raise BadSample("the file ends here")

        with pytest.raises(BadSample):
            kept.add(broken())
        assert len(list(kept.find())) == 2500
