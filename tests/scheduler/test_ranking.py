"""Prices to scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scheduler.ranking import distinct, rank, rank_of

prices = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.just(float("inf")), st.sampled_from([0.0, 1.0, 2.0])),
    min_size=1,
    max_size=60,
)


@given(prices)
def test_cheaper_never_scores_less_and_equal_prices_score_the_same(values: list[float]):
    array = np.array(values)
    scores = rank(array)
    rounded = np.round(array, 9)
    for i in range(len(values)):
        for j in range(len(values)):
            if rounded[i] == rounded[j]:
                assert scores[i] == scores[j]
            elif rounded[i] < rounded[j]:
                assert scores[i] >= scores[j]


@given(prices)
def test_only_the_best_price_scores_ten(values: list[float]):
    array = np.round(np.array(values), 9)
    scores = rank(array)
    finite = array[np.isfinite(array)]
    best = (array == finite.min()) if finite.size else np.zeros(len(array), dtype=bool)
    assert (scores == 10).tolist() == best.tolist()
    assert (scores[~np.isfinite(array)] == 0).all()


@given(prices, st.data())
def test_ranking_some_nodes_from_codes_is_ranking_them_alone(values: list[float], data: st.DataObject):
    array = np.array(values)
    some = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1)), dtype=np.int64)
    codes, count = distinct(array)
    assert rank_of(codes[some], count).tolist() == rank(array[some]).tolist()


def test_up_to_eleven_prices_are_one_step_apart():
    assert rank(np.arange(11.0)).tolist() == list(range(10, -1, -1))
    assert rank(np.array([5.0, 5.0, 7.0])).tolist() == [10, 10, 9]


def test_many_prices_are_spread_over_the_scale():
    scores = rank(np.arange(101.0))
    assert scores[0] == 10
    assert scores[-1] == 0
    assert scores[1] == 9


def test_nodes_that_do_not_fit_score_zero():
    assert rank(np.array([np.inf, 3.0, np.nan])).tolist() == [0, 10, 0]
    assert rank(np.array([np.inf])).tolist() == [0]
