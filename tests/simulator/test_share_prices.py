"""The knapsacks, the LP over nodes with shared GPUs and the values and costs made of its duals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.packing.node_columns import FreeNodes, NodeMaster, demand_of, group_nodes
from scheduler.packing.share_cost import level, placing_cost
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import solve_share_prices
from scheduler.packing.shares import MILLI, ShareClass, ShareOffers, share_table, unit_of, whole_table

CLASSES = (
    ShareClass(1, 810, 3_152, (), 13.0),
    ShareClass(1, 1000, 11_300, (), 20.0),
    ShareClass(1, 470, 8_000, (), 10.0),
    ShareClass(1, 160, 4_000, (), 3.0),
    ShareClass(1, 320, 4_000, ("T4",), 4.0),
    ShareClass(4, 1000, 32_000, (), 2.0),
    ShareClass(0, 0, 12_500, (), 8.0),
)
MODELS = ("G2", "T4")


def _nodes(count: int = 6) -> FreeNodes:
    free = np.zeros((2 * count, 8), dtype=np.int64)
    free[:count] = MILLI
    free[count:, :2] = MILLI
    model = np.repeat([0, 1], count)
    return FreeNodes(model, np.repeat([96_000, 104_000], count), free)


def test_the_step_of_the_tables_divides_all_shares_but_is_at_least_one_percent():
    assert unit_of([ShareClass(1, 500, 0), ShareClass(1, 250, 0)]) == 250
    assert unit_of([ShareClass(1, 333, 0)]) == 10


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1, 5), min_size=3, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True),
    st.integers(0, 12),
)
def test_the_share_knapsack_is_the_best_of_all_fillings(worth, weights, free):
    table = share_table(np.array([worth]), np.array(weights), 12)
    best = max(
        sum(n * w for n, w in zip(taken, worth, strict=True))
        for taken in itertools.product(range(13), repeat=3)
        if sum(n * s for n, s in zip(taken, weights, strict=True)) <= free
    )
    assert table.values[0, free] == pytest.approx(best, abs=1e-9)
    filling = table.filling(0, free, np.array([[0, 1, 2]]), np.array(weights))
    assert sum(n * worth[i] for i, n in filling) == pytest.approx(best, abs=1e-9)
    assert sum(n * weights[i] for i, n in filling) <= free


def test_free_gpus_of_a_node_are_filled_by_the_best_multiset():
    values, _ = whole_table(np.array([[1.0, 5.0]]), np.array([1.5]), np.array([1, 3]), 7)
    assert values[0].tolist() == [0.0, 1.5, 3.0, 5.0, 6.5, 8.0, 10.0, 11.5]


def test_the_lp_bound_holds_and_is_tight():
    offers = ShareOffers(CLASSES, MODELS)
    nodes = _nodes()
    demand = demand_of(CLASSES, float(nodes.gpu_free.sum()), 1.0)
    master = NodeMaster(offers, group_nodes(nodes, offers))
    assert master.solve(demand)
    assert master.upper_bound_milli <= nodes.gpu_free.sum()
    net = master.net_prices()
    assert (net >= 0).all()
    assert (net <= offers.size_milli).all()


def test_time_limit_still_gives_usable_prices():
    prices = solve_share_prices(ShareOffers(CLASSES, MODELS), _nodes(), time_limit_seconds=0.0)
    assert not prices.converged
    assert np.isfinite(prices.node_value(_nodes())).all()


def test_pods_that_only_one_scarce_model_can_take_make_it_dear_to_others():
    classes = (ShareClass(1, 1000, 4_000, (), 40.0), ShareClass(1, 1000, 4_000, ("T4",), 40.0))
    nodes = _nodes()
    prices = solve_share_prices(ShareOffers(classes, MODELS), nodes)
    value = prices.node_value(nodes)
    assert value[6] / 2 > value[0] / 8


_free = st.lists(st.sampled_from([0, 190, 320, 530, 1000]), min_size=8, max_size=8)


@settings(max_examples=40, deadline=None)
@given(_free, st.integers(0, 96_000), st.integers(0, 30_000), st.sampled_from([160, 320, 470, 810]))
def test_less_free_space_is_never_worth_more(free, cpu, spent, share):
    prices = _PRICES
    before = FreeNodes(np.array([0]), np.array([cpu]), np.array([free]))
    after = FreeNodes(np.array([0]), np.array([max(0, cpu - spent)]), np.array([free]))
    value = prices.node_value(before)[0]
    assert value >= prices.node_value(after)[0] - 1e-3
    changed = prices.after_share(after, share)
    for gpu, room in enumerate(free):
        if room >= share:
            smaller = np.array([[*free[:gpu], room - share, *free[gpu + 1 :]]])
            direct = prices.node_value(FreeNodes(after.model, after.cpu, smaller))[0]
            assert changed[0, gpu] == pytest.approx(direct, abs=0.05)
            assert direct <= value + 1e-3


def test_a_node_without_cpu_is_worth_nothing():
    nodes = FreeNodes(np.array([0, 0]), np.array([0, 96_000]), np.full((2, 8), MILLI))
    empty, full = _PRICES.node_value(nodes)
    assert full > 0
    assert empty < 0.5 * full


def test_cost_sends_a_share_to_the_gap_it_fills():
    nodes = FreeNodes(np.array([0]), np.array([60_000]), np.array([[1000, 470, 1000, 810, 0, 0, 0, 0]]))
    target = [replace(item, count=item.count / 60) for item in CLASSES]
    gradient = ShareGradient(target, MODELS)
    cost, gpus = placing_cost(_PRICES, gradient, nodes, CLASSES[0])
    assert gpus[0] == 3
    assert np.isfinite(cost[0])


def test_levels_are_coarse_and_ordered():
    assert level(np.array([0.0]))[0] == 50
    found = level(np.array([-1e6, -500.0, 0.0, 40.0, 1e6]))
    assert (np.diff(found) <= 0).all()
    assert found[0] == 100
    assert found[-1] == 0


_PRICES = solve_share_prices(ShareOffers(CLASSES, MODELS), _nodes())


def test_a_pod_of_several_gpus_adds_no_value_to_a_node_that_lacks_its_cpu():
    enough, short = _PRICES.node_value(
        FreeNodes(np.array([0, 0]), np.array([32_000, 31_999]), np.full((2, 8), MILLI))
    )
    assert enough > short
    # Of three free GPUs no pod of four can make use, with its CPU or without.
    three = np.array([[MILLI] * 3 + [0] * 5] * 2)
    above, below = _PRICES.node_value(FreeNodes(np.array([0, 0]), np.array([32_000, 31_999]), three))
    assert above == pytest.approx(below, abs=1.0)


def test_a_warm_start_finds_the_same_bound_in_fewer_rounds():
    offers, nodes = ShareOffers(CLASSES, MODELS), _nodes()
    cold = solve_share_prices(offers, nodes)
    warm = solve_share_prices(offers, nodes, known=cold.fillings)
    assert warm.converged
    assert warm.rounds <= cold.rounds
    assert cold.fillings
