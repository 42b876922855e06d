"""What a service needs, as people write it: read whole, or refused with the place and the reason."""

from __future__ import annotations

import json

import pytest
from earthself.benchmark.errors import BadNeed
from earthself.benchmark.suggestion.need import Need, read_need

FIGURES = {"cpu_seconds": 150, "memory_gib": 3, "read_gb": 1.2, "speed": 100}
NEED = {"work": {"tiles": 40}, "profile": FIGURES}


def test_what_is_left_open_is_filled_in_and_said():
    need = Need.from_document(NEED)
    assert (need.tiles, need.machines, need.hours_per_month, need.allocations) == (40, 1, None, ("ondemand",))
    assert (need.weights, need.weights_assumed) == ({"cost": 0.6, "time": 0.4}, True)
    assert need.profile.name == "given"


def test_a_need_that_names_no_profile_is_that_of_the_land_cover_map():
    assert Need.from_document({"work": {"tiles": 1}}).profile.name == "land_cover_map"


def test_weights_are_shares():
    need = Need.from_document(NEED | {"weights": {"cost": 3, "time": 1, "carbon": 0}})
    assert (need.weights, need.weights_assumed) == ({"cost": 0.75, "time": 0.25}, False)


def test_an_area_is_counted_in_tiles():
    # 1 degree by 1 degree at the equator: 110.574 km x 111.320 km; a tile has 10,980 x 10,980 pixels of 100 m2.
    need = Need.from_document(NEED | {"work": {"area": [0, -0.5, 1, 0.5], "times": 6}})
    assert need.tiles == pytest.approx(6 * 110.574 * 111.320 / 109.8**2, rel=1e-3)


def test_environments_are_paid_for_while_they_stand():
    assert Need.from_document(NEED | {"level": "kaas"}).hours_per_month == 720
    assert Need.from_document(NEED | {"level": "iaas", "hours_per_month": 100}).hours_per_month == 100


def test_the_european_union_is_its_members():
    found = Need.from_document(NEED | {"countries": ["EU", "CH"]}).countries
    assert len(found) == 28
    assert {"CH", "IE", "PL"} <= set(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"work": {}}, "work: "),
        ({"work": {"tiles": 0}}, "work"),
        ({"work": {"tiles": 1, "times": 2}}, "work"),
        ({"work": {"area": [0, 0, 1, 95], "times": 1}}, "work.area: "),
        ({"profile": "unheard_of"}, "profile: nobody has measured 'unheard_of'"),
        ({"profile": {"cpu_seconds": 1}}, "profile"),
        ({"profile": {**FIGURES, "cpu_seconds": 10**400}}, "profile"),
        ({"profile": {**FIGURES, "memory_gib": 5e-324}}, "profile"),
        ({"profile": {**FIGURES, "measured": "2026-13-45"}}, "profile"),
        ({"deadline_hours": 5e-324}, "deadline_hours: "),
        ({"machine": {"vcpus": -1}}, "machine.vcpus: "),
        ({"countries": ["Austria"]}, "countries.0: "),
        ({"weights": {"price": 1}}, "weights: "),
        ({"coulds": ["ovh"]}, "'coulds' was unexpected"),
        ({"clouds": ["ovh", "aws"], "not_clouds": ["OVH"]}, "contradicts itself: clouds and not_clouds both name ovh"),
        ({"weights": {"cost": 0}}, "contradicts itself: weights are all 0"),
        ({"hours_per_month": 10}, "contradicts itself: hours_per_month is for kaas and iaas"),
        ({"level": "kaas", "hours_per_month": 10, "deadline_hours": 20}, "contradicts itself: deadline_hours is 20"),
        ({"weights": {"data": 1}}, "contradicts itself: weights.data counts the nearness of data"),
        ({"machine": {"gpus": 0, "gpu_memory_gib": 8}}, "contradicts itself: machine.gpu_memory_gib"),
    ],
)
def test_a_bad_need_is_refused_with_its_place(change, said):
    with pytest.raises(BadNeed) as error:
        Need.from_document(NEED | change)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["work: {tiles: .inf}", "work: {tiles: .nan}", '{"work": {"tiles": NaN}}'])
def test_what_is_no_finite_number_is_refused(text):
    with pytest.raises(BadNeed):
        read_need(text + "\n", "need.yaml")


def test_files_are_yaml_or_json_and_named_in_errors():
    assert read_need(json.dumps(NEED), "need.json") == read_need("work: {tiles: 40}\nprofile: " + json.dumps(FIGURES), "need.yaml")
    for text in ("{", "a: [", "- 1", "just words", "!!python/object:os.system {}", ""):
        with pytest.raises(BadNeed, match=r"^bad\.yaml"):
            read_need(text, "bad.yaml")
