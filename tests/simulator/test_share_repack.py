"""Moves of placed pods: they fit when carried out, keep every pod, stay within the budget and free space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import solve_share_prices
from scheduler.packing.share_repack import Kind, Move, PlacedPods, Pricing, Repacker
from scheduler.packing.shares import MILLI, ShareClass, ShareOffers
from simulator.cluster_state import ClusterState
from simulator.openb import NodeShape, PodShape, arrivals, demand, trace_of
from simulator.packing_run import run
from simulator.policies.slicewise_repack import SlicewiseRepack
from tests.simulator import small_cluster

MODELS = ("G2", "P100", "T4")
TARGET = tuple(small_cluster.trace().target)
CLASSES = demand(small_cluster.trace())


def _pricing(nodes: FreeNodes) -> Pricing:
    offers = ShareOffers(CLASSES, MODELS)
    return Pricing(solve_share_prices(offers, nodes), ShareGradient(TARGET, MODELS))


def _placed(pods: list[tuple[int, int, tuple[int, ...]]], width: int) -> PlacedPods:
    gpus = np.zeros((len(pods), width), dtype=np.bool_)
    for number, (_, _, taken) in enumerate(pods):
        gpus[number, list(taken)] = True
    return PlacedPods(
        np.arange(len(pods)),
        np.array([kind for kind, _, _ in pods], dtype=np.int64),
        np.array([row for _, row, _ in pods], dtype=np.int64),
        gpus,
    )


SHARE = Kind(ShareClass(1, 470, 4_000))
WHOLE = Kind(ShareClass(1, MILLI, 4_000))


def _two_half_used_gpus() -> Repacker:
    nodes = FreeNodes(np.array([0, 0]), np.array([20_000, 20_000]), np.array([[530, 0], [530, 0]]))
    placed = _placed([(0, 0, (0,)), (0, 1, (0,))], 2)
    return Repacker(_pricing(nodes), (SHARE, WHOLE), nodes, np.array([10**6, 10**6]), placed)


def test_room_for_a_whole_gpu_is_made_by_moving_one_share_next_to_another():
    moves = _two_half_used_gpus().room_for(1, 3)
    assert len(moves) == 1
    assert {moves[0].from_row, moves[0].to_row} == {0, 1}
    assert moves[0].to_gpus == (0,)


def test_a_move_that_frees_a_gpu_gains():
    moves = _two_half_used_gpus().improving_moves(5, 100.0)
    assert len(moves) == 1
    assert moves[0].gain_milli > 100.0


def test_no_moves_without_a_budget_or_where_nothing_gains():
    assert _two_half_used_gpus().room_for(1, 0) == []
    assert _two_half_used_gpus().improving_moves(0, 0.0) == []
    assert _two_half_used_gpus().improving_moves(5, 1e9) == []


def test_memory_is_respected_at_the_new_place():
    nodes = FreeNodes(np.array([0, 0]), np.array([20_000, 20_000]), np.array([[530, 0], [530, 0]]))
    kinds = (Kind(SHARE.need, 500), WHOLE)
    placed = _placed([(0, 0, (0,)), (0, 1, (0,))], 2)
    repacker = Repacker(_pricing(nodes), kinds, nodes, np.array([499, 499]), placed)
    assert repacker.room_for(1, 3) == []


def test_room_on_one_gpu_may_take_two_moves():
    free = np.array([[60, 0], [530, 530]])
    nodes = FreeNodes(np.array([0, 0]), np.array([40_000, 40_000]), free)
    placed = _placed([(0, 0, (0,)), (0, 0, (0,))], 2)
    repacker = Repacker(_pricing(nodes), (SHARE, WHOLE), nodes, np.array([10**6, 10**6]), placed)
    # Both shares would need the same node, which one search touches once: no half-made room.
    assert repacker.room_for(1, 3) == []
    nodes = FreeNodes(np.array([0, 0, 0]), np.array([40_000] * 3), np.array([[60, 0], [530, 0], [530, 0]]))
    repacker = Repacker(_pricing(nodes), (SHARE, WHOLE), nodes, np.array([10**6] * 3), placed)
    moves = repacker.room_for(1, 3)
    assert sorted(move.to_row for move in moves) == [1, 2]
    assert repacker.room_for(1, 1) == []


_pods = st.builds(
    lambda cpu, memory, kind, models: PodShape(cpu, memory, kind[0], kind[1], models if kind[0] else ()),
    st.integers(0, 40_000),
    st.integers(0, 200_000),
    st.sampled_from([(0, 0), (1, 190), (1, 320), (1, 470), (1, 810), (1, 1000), (2, 1000), (8, 1000)]),
    st.sampled_from([(), ("G2",), ("T4",), ("G2", "P100")]),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(_pods, min_size=10, max_size=60), st.integers(0, 3), st.sampled_from([0.0, 0.03, 0.3]))
def test_moves_lose_no_pod_stay_within_the_budget_and_never_go_over_capacity(pods, seed, part):
    trace, nodes = trace_of("drawn", [*pods, PodShape(1000, 1, 1, 500)]), small_cluster.nodes(2)
    state = ClusterState(nodes)
    policy = SlicewiseRepack(
        state, trace.target, demand(trace), moved_part=part, every=1, usable_part=1.0, least_gain_milli=1.0
    )
    order = arrivals(trace, state.capacity_milli, seed)
    # The run itself raises where a pod is placed over capacity, before its old place is given up.
    result = run(state, policy, trace.shapes, order, until_percent=10_000.0)
    assert result.moves <= part * len(result.placed)
    assert len(result.placed) + result.failed == len(order)
    again = ClusterState(nodes)
    for placed in result.placed:
        again.place(trace.shapes[placed.shape], placed.row, np.array(placed.gpus, dtype=np.int64))
    assert (again.gpu_free == state.gpu_free).all()
    assert (again.cpu == state.cpu).all()
    assert (again.memory == state.memory).all()


def test_a_move_of_a_pod_that_is_elsewhere_is_refused():
    class Wrong(SlicewiseRepack):
        def moves(self, state, shapes, placed, wanted):
            return [Move(0, placed[0].row + 1, placed[0].gpus, 0, placed[0].gpus, 0.0)] if placed else []

    trace, state = small_cluster.trace(), ClusterState([NodeShape("a", 96_000, 393_216, 8, "G2")])
    policy = Wrong(state, trace.target, demand(trace))
    with pytest.raises(ValueError, match="pod 0 is at"):
        run(state, policy, trace.shapes, arrivals(trace, state.capacity_milli, 1))
