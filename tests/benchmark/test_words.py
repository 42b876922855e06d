"""The answer in sentences, word by word."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from earthself.benchmark.suggestion import words
from earthself.benchmark.suggestion.answer import Operator, Weight
from earthself.benchmark.suggestion.values import Badge, Value, unknown

from tests.benchmark.answers import NO_RANKING, answer, candidate, choice, nothing_left, without_ranking
from tests.benchmark.clouds import TODAY

PLATFORM = "Nobody has said who runs this platform (EARTHSELF_OPERATOR)"
FREE = (
    "It stays the best while the weights, one moved at a time, stay within "
    "cost 39.1 % to 80.5 % (now 50 %), time 5.56 % to 40 % (now 30 %) and carbon 0 % to 100 % (now 20 %)."
)
MISSES = (
    "The nearest misses are b3-4 of birch in north-1 (takes 131 h, more than 120); tiny of cedar in gold-a (takes 131 h, more than 120); "
    "nano of alder in island (region island is in GB, has 2 GiB of memory, less than 4)."
)


def test_a_ranking_says_where_to_run_it_and_how_sure_that_is():
    assert words.said(answer()) == [
        "Run it on b3-16 of birch in north-1: 41.2 h and 14.7 EUR a month (36.3 to 46.1 h, 13.8 to 15.7 EUR).",
        "Of what its hours rest on, 2 of 2 were measured, on 2026-11-20; its price is of 2026-11-02 (prices of November).",
        "The next best, b3-16 of birch in south-2 (spot), costs 4 % less and takes 15 % longer.",
        "Within the intervals of the figures, 2 of the 6 others ranked may turn out to be better.",
        FREE,
        "5 offers that satisfy the need are not ranked: too little is known to say whether they are better.",
        "3 more offers are left aside: nobody says what they cost.",
        "Of 1 of the 7 ranked offers nobody says what their electricity stands for; that counts as the worst.",
        "Example Ltd runs this platform and earns from cedar.",
    ]


def test_without_a_ranking_it_says_why_and_what_to_measure_first():
    assert words.said(without_ranking())[:2] == [
        f"There is no ranking: {NO_RANKING}.",
        "To get one, begin with prices of cedar: earthself-suggest offers load file FILE",
    ]


def test_where_nothing_satisfies_the_need_it_names_the_nearest_misses():
    done = nothing_left()
    assert words.said(done)[:2] == [
        "Nothing satisfies the need: 3 offers are left out.",
        MISSES,
    ]
    assert words.headline(replace(done, excluded=done.excluded[:1])) == "Nothing satisfies the need: 1 offer is left out."
    assert words.said(replace(done, excluded=[]))[0].startswith("Nothing is known of any offer with a price; bring offers in with")


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (Operator("", None), f"{PLATFORM}, nor which clouds it earns from (EARTHSELF_OPERATOR_EARNS_FROM)."),
        (Operator("", ()), f"{PLATFORM}; it earns from none of the clouds."),
        (Operator("", ("cedar",)), f"{PLATFORM}; it earns from cedar."),
        (Operator("A", None), "A runs this platform; nobody has said which clouds it earns from (EARTHSELF_OPERATOR_EARNS_FROM)."),
        (Operator("A", ()), "A runs this platform and earns from none of the clouds."),
        (Operator("A", ("birch", "cedar")), "A runs this platform and earns from birch and cedar, the suggested one among them."),
    ],
)
def test_the_operator_and_what_it_earns_from_is_said_in_each_case(operator, said):
    assert words.disclosure(answer(operator=operator)) == said


def test_a_thin_lead_and_a_sure_one_are_told_apart():
    cost = answer().weights[0]
    thin = words.freedom(answer(weights=[replace(cost, low=0.47, high=0.9), Weight(cost.criterion, 0, 1)]))
    assert thin.endswith("The lead is thin: a weight moved by 3 % makes another one win.")
    sure = answer(weights=[Weight(one.criterion, 0, 1) for one in answer().weights])
    assert words.freedom(sure) == "It stays the best whatever weight is given to cost, time and carbon."
    assert words.freedom(answer(weights=[cost])) == "Only cost counts."


def test_others_that_cannot_win_within_the_intervals_are_not_called_rivals():
    done = answer()
    sure = [
        replace(one, estimate=replace(one.estimate, hours=exact(one.estimate.hours), euros=exact(one.estimate.euros)))
        for one in done.choices
    ]
    assert "It stays the best wherever the figures lie within their intervals." in words.support(replace(done, choices=sure))


def exact(value):
    return replace(value, low=value.value, high=value.value)


def test_what_is_assumed_is_said():
    done = answer()
    need = replace(done.need, collections=(), weights_assumed=True, profile=replace(done.need.profile, measured=None))
    said = words.not_known(replace(done, need=need))
    assert "The need does not say what matters more; cost 50 %, time 30 % and carbon 20 % are our weights." in said
    assert "The need names no collections; what it reads is taken to lie beside the machines." in said
    assert "What a tile asks of a machine was given with the need; it was not measured here." in said


def test_much_more_is_said_in_times_and_nearly_the_same_as_the_same():
    one, ten, near = (choice(candidate(amount=amount), hours, storage=0.0) for hours, amount in ((10.0, 1.0), (100.0, 1.0), (10.01, 1.0)))
    assert words.comparison(one, ten) == "The next best, b3-16 of birch in north-1, costs 8.2 times as much and takes 10 times as long."
    assert words.comparison(one, near) == "The next best, b3-16 of birch in north-1, costs the same and takes as long."


def test_several_machines_are_named_with_their_number():
    one = choice(candidate(), 41.2)
    assert words.machines(replace(one, estimate=replace(one.estimate, machines=4))) == "4 x b3-16 of birch in north-1"


@pytest.mark.parametrize(
    ("number", "said"),
    [(0.0, "0"), (0.020612, "0.0206"), (9.999, "10"), (18.4, "18.4"), (999.6, "1\u202f000"), (1234567.0, "1\u202f230\u202f000")],
)
def test_numbers_have_three_digits(number, said):
    assert words.figure(number) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Value(1.0, "h/month", Badge.MEASURED, day=date(2026, 11, 20), count=5), "measured (5 times, 2026-11-20)"),
        (Value(1.0, "EUR/h", Badge.PRICE, day=date(2026, 10, 2)), "price of 2026-10-02"),
        (Value(1.0, "EUR/h", Badge.PRICE, day=date(2026, 5, 27)), "price of 2026-05-27"),
        (Value(1.0, "EUR/h", Badge.PRICE, day=date(2026, 5, 26)), "price of 2026-05-26 (old)"),
        (Value(1.0, "MB/s", Badge.DERIVED), "derived"),
        (Value(1.0, "MB/s", Badge.ASSUMED), "assumed"),
        (unknown("h/month", "nobody measured it"), "unknown"),
    ],
)
def test_badges_say_what_a_value_rests_on(value, said):
    assert words.badge(value, TODAY) == said


def test_what_a_terminal_would_obey_is_taken_out_of_names():
    said = words.headline(answer(choices=[replace(one, candidate=candidate("a\x1b[2J\u202eb")) for one in answer().choices]))
    assert said.startswith("Run it on a\ufffd[2J\ufffdb of birch")
