"""What a run of `benchmark_clouds` measures, of what the operator's Variable names."""

from __future__ import annotations

import json

import pytest
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.planning import Budget, Target
from earthself.operators.benchmark_order import named, ordered
from earthself.operators.errors import BadRequest

SMALL = {"connection": "ovh_gra", "cloud": "OVH", "region": "GRA", "offer": "b3-8", "node_selector": {"pool": "small"}, "cpu": 1.5}
LARGE = {"connection": "ovh_gra", "cloud": "ovh", "region": "GRA", "offer": "b3-64", "euros_per_hour": 1.2, "settings": {"megabytes": 64}}
OWN = {"image": "registry.example.org/earthself-probes:1", "targets": [SMALL, LARGE], "budget_minutes": 30, "budget_euros": 1}


def order(own=OWN, **conf):
    return ordered(conf, json.dumps(own))


def test_a_schedule_measures_all_that_the_variable_names():
    found = order()
    assert [one.target for one in found.spots] == [
        Target("ovh_gra", "ovh", "GRA", "", "b3-8"),
        Target("ovh_gra", "ovh", "GRA", "", "b3-64"),
    ]
    small, large = found.spots
    assert small.template == {"spec": {"nodeSelector": {"pool": "small"}}}
    assert small.resources == {"cpu": 1.5}
    assert (small.image, large.euros_per_hour, large.settings) == (OWN["image"], 1.2, {"megabytes": 64})
    assert (found.repeats, found.seconds, found.budget) == (5, 5.0, Budget(30, 1))


def test_a_node_selector_joins_what_the_pod_template_says():
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"tolerations": [{"key": "gpu"}]}}
    (spot,) = order({"targets": [{**SMALL, "pod_template": template}]}).spots
    assert spot.template["spec"] == {"tolerations": [{"key": "gpu"}], "nodeSelector": {"pool": "small"}}
    assert spot.template["metadata"] == template["metadata"]


def test_a_run_chooses_among_them_and_may_use_less():
    assert [one.target.offer for one in order(offers=["b3-64"]).spots] == ["b3-64"]
    assert [one.target for one in order(clouds=["elsewhere"]).spots] == [Target("elsewhere")]
    assert order(budget_minutes=5, budget_euros=0.5, repeats=2, probes=["numpy_one"]).budget == Budget(5, 0.5)


def test_nothing_said_measures_this_machine():
    assert [one.target for one in ordered({"clouds": None}, "").spots] == [Target()]


def test_labels_that_a_target_does_not_bear_come_from_its_connection():
    (spot,) = order(clouds=["waw"]).spots
    assert named(spot, "CloudFerro", "WAW3-1").target == Target("waw", "cloudferro", "WAW3-1")
    assert named(order().spots[0], "other", "x").target.cloud == "ovh"
    assert named(spot, "", "x") == spot


@pytest.mark.parametrize(
    ("own", "conf", "said"),
    [
        ({"budget_minutes": 30}, {"budget_minutes": 90}, "budget_minutes=90 is more than the 30"),
        ({"budget_euros": 1}, {"budget_euros": 2}, "budget_euros=2 is more than the 1"),
        ({"budget_euros": 1}, {"unpriced": True}, "unpriced=true goes round the budget_euros"),
        ({}, {"offers": ["x"]}, "no target has the offer 'x'"),
        ({}, {"probes": ["cpu"]}, "there is no probe 'cpu'"),
        ({}, {"repeats": 0}, "the run's conf cannot be used: repeats"),
        ({}, {"image": "mine"}, "the run's conf cannot be used: the document"),
        ({"image": 7}, {}, "the Variable earthself_benchmark cannot be used: image"),
        ({"targets": [{"settings": {"scratch": "/"}}]}, {}, "a setting 'scratch' that no probe knows"),
        ({"targets": [{"cloud": "a|b"}]}, {}, "cannot be a label"),
        ({"targets": [{}, {}]}, {}, "lists on this machine twice"),
    ],
)
def test_what_cannot_be_met_is_named(own, conf, said):
    with pytest.raises((BadRequest, BadSetting), match=said):
        order(own, **conf)


def test_a_variable_that_is_no_json_is_named():
    with pytest.raises(BadRequest, match="the Variable earthself_benchmark is not JSON"):
        ordered({}, "{")
