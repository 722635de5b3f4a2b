"""Every policy on small clusters: never over capacity, never below the bound, repeatable."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.packing.shares import MILLI
from simulator import openb
from simulator.bound import bound
from simulator.cluster_state import ClusterState
from simulator.openb import (
    NodeShape,
    PodShape,
    arrivals,
    demand,
    in_run_order,
    read_nodes,
    read_pods,
    trace_of,
)
from simulator.packing_run import run
from simulator.packing_study import one_run, study
from simulator.policies.bestfit import BestFit
from simulator.policies.gpuclustering import GpuClustering
from simulator.policies.gpupacking import GpuPacking
from simulator.policies.slicewise import Slicewise
from simulator.registry import POLICIES
from tests.simulator import small_cluster

DATA = Path(openb.__file__).parent / "data" / "openb"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_no_policy_beats_the_bound_and_runs_repeat(policy):
    trace, nodes = small_cluster.trace(), in_run_order(small_cluster.nodes())
    first = one_run(nodes, trace, policy, 1, 131.0)
    again = one_run(nodes, trace, policy, 1, 131.0)
    assert first.placed == again.placed
    order = arrivals(trace, ClusterState(nodes).capacity_milli, 1)
    for percent in (60, 100, 120):
        least = bound(nodes, trace.shapes, order, percent=percent)
        assert least.converged
        assert first.unallocated_at(percent) >= least.unallocated_percent - 1e-6


_pods = st.builds(
    lambda cpu, memory, kind, models: PodShape(cpu, memory, kind[0], kind[1], models if kind[0] else ()),
    st.integers(0, 40_000),
    st.integers(0, 200_000),
    st.sampled_from([(0, 0), (1, 190), (1, 470), (1, 810), (1, 1000), (2, 1000), (4, 1000), (8, 1000)]),
    st.sampled_from([(), ("G2",), ("T4",), ("G2", "P100")]),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(_pods, min_size=5, max_size=60), st.sampled_from(sorted(POLICIES)), st.integers(0, 3))
def test_no_policy_ever_goes_over_capacity(pods, policy, seed):
    trace, nodes = trace_of("drawn", [*pods, PodShape(1000, 1, 1, 500)]), small_cluster.nodes(2)
    state = ClusterState(nodes)
    chosen = POLICIES[policy](state, trace, seed)
    result = run(state, chosen, trace.shapes, arrivals(trace, state.capacity_milli, seed))
    again = ClusterState(nodes)
    for placed in result.placed:
        shape = trace.shapes[placed.shape]
        assert not shape.models or nodes[placed.row].model in shape.models
        again.place(shape, placed.row, np.array(placed.gpus, dtype=np.int64))  # raises over capacity
    assert again.allocated_milli == state.allocated_milli
    assert (again.gpu_free >= 0).all()
    assert (again.gpu_free <= MILLI).all()


def test_placing_over_capacity_is_refused():
    state = ClusterState([NodeShape("a", 8_000, 100, 2, "T4")])
    state.place(PodShape(1000, 1, 1, 600), 0, np.array([0]))
    with pytest.raises(ValueError, match="does not fit"):
        state.place(PodShape(1000, 1, 1, 600), 0, np.array([0]))
    with pytest.raises(ValueError, match="expected 2 distinct"):
        state.place(PodShape(1000, 1, 2, 1000), 0, np.array([1, 1]))
    state.remove(PodShape(1000, 1, 1, 600), 0, np.array([0]))
    assert state.allocated_milli == 0


def test_gpu_packing_prefers_shared_gpus_then_used_nodes_then_free_ones():
    state = ClusterState([NodeShape(name, 90_000, 100, 4, "G2") for name in "abc"])
    state.place(PodShape(0, 0, 1, 500), 0, np.array([0]))
    state.place(PodShape(0, 0, 1, 1000), 1, np.array([0]))
    scores, gpus = GpuPacking().scores(state, PodShape(0, 0, 1, 300), np.arange(3))
    assert scores[:, 0].tolist() == [95.0, 49.0, 29.0]
    assert gpus[0] == 0


def test_gpu_clustering_prefers_its_own_kind():
    state = ClusterState([NodeShape(name, 90_000, 100, 8, "G2") for name in "abcd"])
    state.place(PodShape(0, 0, 1, 500), 0, np.array([0]))
    state.place(PodShape(0, 0, 1, 500), 1, np.array([0]))
    state.place(PodShape(0, 0, 2, 1000), 1, np.array([1, 2]))
    state.place(PodShape(0, 0, 2, 1000), 2, np.array([1, 2]))
    scores, _ = GpuClustering().scores(state, PodShape(0, 0, 1, 300), np.arange(4))
    assert scores[:, 0].tolist() == [76.0, 57.0, 6.0, 25.0]


def test_best_fit_scores_what_is_left():
    state = ClusterState([NodeShape("a", 128_000, 100, 8, "G2"), NodeShape("b", 64_000, 100, 4, "G2")])
    scores, _ = BestFit().scores(state, PodShape(64_000, 1, 4, 1000), np.arange(2))
    assert scores[:, 0].tolist() == [50.0, 100.0]


def test_a_study_runs_the_same_in_one_process_and_in_two():
    trace, nodes = small_cluster.trace(), small_cluster.nodes(1)
    alone = study(nodes, trace, ("bestfit", "random"), (1, 2))
    spread = study(nodes, trace, ("bestfit", "random"), (1, 2), processes=2)
    for policy in ("bestfit", "random"):
        for left, right in zip(alone.runs[policy], spread.runs[policy], strict=True):
            assert left.placed == right.placed


@pytest.mark.parametrize("policy", ["fgd", "bestfit", "dotprod", "random"])
def test_a_baseline_is_within_half_a_point_of_its_published_mean_on_default(policy):
    """One seed here; means over ten seeds, all lists and policies: benchmarks/packing.py."""
    nodes = in_run_order(read_nodes(DATA / "openb_node_list_gpu_node.csv.gz"))
    trace = read_pods(DATA / "openb_pod_list_default.csv.gz")
    with (DATA / "fgd_expected_alloc.csv").open() as stream:
        expected = {
            row["policy"].lower(): 100.0 - float(row["alloc_gpu_percent_mean"])
            for row in csv.DictReader(stream)
            if row["workload"] == "default" and row["arrived_gpu_percent"] == "100"
        }
    found = one_run(nodes, trace, policy, 42, 100.5)
    assert found.unallocated_at(100) == pytest.approx(expected[policy], abs=0.5)


@pytest.mark.parametrize(("watched", "solved"), [(True, 1), (False, 0)])
def test_prices_are_solved_earlier_when_whole_nodes_are_broken(watched, solved):
    """One GPU taken on each of ten of thirty nodes: 4 % of the GPUs, a third of the rooms for eight."""
    state = ClusterState([NodeShape(f"n{row:02}", 96_000, 393_216, 8, "G2") for row in range(30)])
    single, eight = PodShape(4_000, 8_192, 1, 1000), PodShape(64_000, 131_072, 8, 1000)
    trace = trace_of("whole", [single] * 20 + [eight] * 2)
    policy = Slicewise(state, trace.target, demand(trace), watch_rooms=watched)
    for row in range(10):
        state.place(single, row, np.array([0]))
    for _ in range(25):
        policy.observe(state, single)
    assert policy.epoch == solved
