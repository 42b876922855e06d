"""The answer as JSON: what its schema says stands in it, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import earthself.benchmark
import pytest
from earthself.benchmark.suggestion.answer import Operator
from earthself.benchmark.suggestion.document import SCHEMA, document, text
from earthself.benchmark.suggestion.need import Need
from jsonschema import Draft202012Validator

from tests.benchmark.answers import SERVICE, answer, candidate, choice, nothing_left, without_ranking

RULES = json.loads((Path(earthself.benchmark.__file__).parent / "schemas" / "answer.schema.json").read_text(encoding="utf-8"))


def wrong(what):
    return [error.message for error in Draft202012Validator(RULES).iter_errors(what)]


def test_the_schema_is_one_and_is_the_one_that_answers_name():
    Draft202012Validator.check_schema(RULES)
    assert RULES["$id"] == SCHEMA


@pytest.mark.parametrize("made", [answer, without_ranking, nothing_left])
def test_each_kind_of_answer_is_valid(made):
    assert wrong(json.loads(text(made()))) == []


def test_a_need_with_all_that_can_be_asked_for_is_valid():
    machine = {"vcpus": 2, "memory_gib": 4, "gpus": 1, "gpu_memory_gib": 8, "disk_gb": 10, "architecture": "x86_64"}
    places = {
        "clouds": ["birch"],
        "not_clouds": ["alder"],
        "regions": ["north-1"],
        "certificates": ["c5"],
        "allocations": ["spot", "reserved"],
    }
    need = Need.from_document(SERVICE | {"level": "kaas", "hours_per_month": 500, "machine": machine} | places)
    assert wrong(document(answer(need=need))) == []


def test_the_schema_is_strict():
    said = document(answer())
    for change in ({"more": 1}, {"state": ""}, {"day": "today"}, {"counts": {}}):
        assert wrong(said | change), change
    first = said["choices"][0]
    for change in ({"more": 1}, {"hours": {"unit": "h/month", "badge": "measured"}}, {"hours": first["hours"] | {"badge": "sure"}}):
        assert wrong(said | {"choices": [first | change]}), change
    assert wrong(said | {"choices": [{name: value for name, value in first.items() if name != "score"}]})


def test_the_same_answer_has_the_same_bytes():
    assert text(answer()) == text(answer())


def test_what_is_unknown_is_left_out_and_never_null_or_0():
    said = text(answer())
    assert "null" not in said
    x9 = next(one for one in json.loads(said)["choices"] if one["offer"] == "x9")
    assert x9["hours"] == {"unit": "h/month", "badge": "unknown", "note": "its processor was not measured (numpy_one, numpy_all)"}
    assert "rank" not in x9
    assert document(without_ranking())["operator"] == {}
    assert document(answer(operator=Operator("A", ())))["operator"] == {"name": "A", "earns_from": []}


def test_an_interval_without_an_end_is_left_out():
    one = choice(candidate(), 10.0)
    endless = replace(one, estimate=replace(one.estimate, hours=replace(one.estimate.hours, high=float("inf"))))
    (said,) = json.loads(text(answer(choices=[endless])))["choices"]
    assert said["hours"]["low"] == pytest.approx(8.8)
    assert "high" not in said["hours"]


def test_only_the_first_choices_are_listed_and_all_are_counted():
    said = document(answer(), most=3)
    assert [one["rank"] for one in said["choices"]] == [1, 2, 3]
    assert said["counts"] == {"choices": 12, "ranked": 7, "excluded": 3, "unpriced": 3}
    assert said["excluded"]["by_constraint"] == {"deadline_hours": 2, "countries": 1, "machine.memory_gib": 1}
