"""Which offer is preferred: by hand, against another implementation, and unchanged by what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from earthself.benchmark.suggestion.ranking import Criterion, distances, freedom, front, scores
from pymcdm.methods import PROMETHEE_II, SPOTIS, TOPSIS

COST = Criterion("cost", "EUR/month", 0.6, 0.0, 100.0, "the budget")
TIME = Criterion("time", "h/month", 0.4, 0.0, 50.0, "the deadline")


def test_the_front_is_what_no_other_beats():
    euros = np.array([10.0, 20.0, 30.0, 20.0, 40.0, 10.0])
    hours = np.array([9.0, 5.0, 5.0, 8.0, 1.0, 9.0])
    assert front(euros, hours).tolist() == [True, True, False, False, True, True]


def test_a_score_is_the_weighted_way_to_the_best():
    values = np.array([[50.0, 10.0], [20.0, 40.0]])
    away = distances(values, [COST, TIME])
    assert away.tolist() == [[0.5, 0.2], [0.2, 0.8]]
    assert scores(away, np.array([0.6, 0.4])) == pytest.approx([0.38, 0.44])


def test_what_is_unknown_or_out_of_bounds_is_as_bad_as_the_bound():
    away = distances(np.array([[np.nan, 60.0], [120.0, -5.0]]), [COST, TIME])
    assert away.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    data = Criterion("data", "", 1.0, 1.0, 0.0, "all of it")
    assert distances(np.array([[1.0], [0.25], [np.nan]]), [data]).ravel().tolist() == [0.0, 0.75, 1.0]


def test_a_weight_may_move_until_another_one_wins():
    away, weights = np.array([[0.5, 0.2], [0.2, 0.8]]), np.array([0.6, 0.4])
    # 0.5 t + 0.2 (1 - t) = 0.2 t + 0.8 (1 - t) where t = 2/3: up to that weight of cost the first one wins.
    (cost_low, cost_high), (time_low, time_high) = freedom(away, weights, 0)
    assert (cost_low, cost_high) == pytest.approx((0.0, 2 / 3))
    assert (time_low, time_high) == pytest.approx((1 / 3, 1.0))


@pytest.mark.parametrize("seed", range(20))
def test_within_its_freedom_the_winner_wins_and_beyond_it_loses(seed):
    draw = np.random.default_rng(seed)
    away, weights = draw.random((6, 3)), draw.dirichlet(np.ones(3))
    winner = int(np.argmin(scores(away, weights)))
    for j, (low, high) in enumerate(freedom(away, weights, winner)):
        assert 0 <= low <= weights[j] <= high <= 1

        def wins(t, j=j):
            moved = weights * (1 - t) / (1 - weights[j])
            moved[j] = t
            found = scores(away, moved)
            return found[winner] <= found.min() + 1e-12

        inside = np.linspace(low + 1e-9, high - 1e-9, 7)
        assert all(wins(t) for t in inside)
        assert low < 1e-6 or not wins(low - 1e-6)
        assert high > 1 - 1e-6 or not wins(high + 1e-6)


def test_another_offer_does_not_reorder_the_rest():
    draw = np.random.default_rng(1)
    values = draw.random((8, 2)) * [100, 50]
    weights = np.array([0.6, 0.4])
    alone = np.argsort(scores(distances(values, [COST, TIME]), weights))
    for extra in ([0.0, 0.0], [1e6, 1e6], [50.0, 0.0]):
        more = np.argsort(scores(distances(np.vstack([values, extra]), [COST, TIME]), weights))
        assert [one for one in more if one < len(values)] == alone.tolist()


# Another implementation: pymcdm, which takes a matrix (offers, criteria), weights, and for each criterion 1 (more is better) or -1.
LESS, MORE = -1, 1
BOUNDS = {"cost": (0.0, 100.0), "time": (0.0, 50.0), "carbon": (0.0, 1000.0), "data": (1.0, 0.0)}
COUNT = [Criterion(name, "", 0.25, *ends, "fixed") for name, ends in BOUNDS.items()]
TYPES = np.array([MORE if one.best > one.worst else LESS for one in COUNT])


def offers(seed, number=12):
    """Values as they come: some cheap ones are slow, some are far from their data."""
    draw = np.random.default_rng(seed)
    quick = draw.uniform(0.1, 0.95, number)
    values = np.column_stack([
        100 * quick * draw.uniform(0.7, 1.0, number), 50 * (1 - quick), 1000 * draw.random(number), draw.integers(0, 2, number),
    ])  # fmt: skip
    return values, draw.dirichlet(np.full(4, 3.0))


@pytest.mark.parametrize("seed", range(50))
def test_scores_are_those_of_pymcdm(seed):
    values, weights = offers(seed)
    theirs = SPOTIS(bounds=np.array([sorted(ends) for ends in BOUNDS.values()]))(values, weights, TYPES)
    assert scores(distances(values, COUNT), weights) == pytest.approx(theirs)


def by_topsis(values, weights):
    """The most preferred first, as TOPSIS sees it within the same bounds."""
    return np.argsort(-TOPSIS(normalization_function=lambda column, cost: column)(1 - distances(values, COUNT), weights, np.full(4, MORE)))


def by_promethee(values, weights):
    """The same for PROMETHEE II with a preference that grows with the distance, up to half of that of the bounds."""
    outranking = PROMETHEE_II("vshape", p=np.full(4, 0.5))
    return np.argsort(-outranking(1 - distances(values, COUNT), weights, np.full(4, MORE)))


@pytest.mark.parametrize("by", [by_topsis, by_promethee])
def test_other_ways_of_ranking_prefer_nearly_the_same(by):
    agree, alike = [], []
    for seed in range(200):
        values, weights = offers(seed)
        ours, theirs = np.argsort(scores(distances(values, COUNT), weights)), by(values, weights)
        places = np.argsort(ours), np.argsort(theirs)
        alike.append(np.corrcoef(*places)[0, 1])
        agree.append(theirs[0] in ours[:3] and ours[0] in theirs[:3])
    assert np.median(alike) >= 0.9
    assert np.mean(agree) >= 0.95


@pytest.mark.filterwarnings("ignore:Alternatives with indices")  # pymcdm says itself that the matter is clear
@pytest.mark.parametrize("by", [by_topsis, by_promethee])
@pytest.mark.parametrize("seed", range(10))
def test_all_prefer_an_offer_that_is_better_in_everything(by, seed):
    values, weights = offers(seed)
    values[5] = [1.0, 0.5, 5.0, 1.0]
    assert np.argmin(scores(distances(values, COUNT), weights)) == by(values, weights)[0] == 5
