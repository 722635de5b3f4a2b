"""The openb protocol: reading, target workload, inflation and deletion, ties, what is recorded."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from simulator import openb
from simulator.cluster_state import ClusterState
from simulator.openb import PodShape, TraceRefused, arrivals, read_nodes, read_pods, target_workload
from simulator.packing_run import run
from simulator.policies.bestfit import BestFit
from tests.simulator import small_cluster

DATA = Path(openb.__file__).parent / "data" / "openb"


def test_the_trace_has_the_published_size():
    nodes = read_nodes(DATA / "openb_node_list_gpu_node.csv.gz")
    assert len(nodes) == 1213
    assert sum(node.gpus for node in nodes) == 6212
    assert sum(node.cpu_milli for node in nodes) == 107_018_000


@pytest.mark.parametrize("name", ["default", "multigpu50", "gpuspec33"])
def test_all_lists_are_read_with_and_without_the_later_columns(name):
    trace = read_pods(DATA / f"openb_pod_list_{name}.csv.gz")
    assert trace.name == name
    assert sum(item.count for item in trace.target) == pytest.approx(1.0)
    assert any(shape.models for shape in trace.shapes) == (name == "gpuspec33")


def test_target_workload_keeps_the_most_frequent_shapes_that_cover_95_percent():
    common, rare, tied = PodShape(1000, 1, 1, 500), PodShape(2000, 1, 1, 1000), PodShape(0, 1, 0, 0)
    target = target_workload([common] * 90 + [rare] * 5 + [tied] * 5)
    # Ties in frequency go to the larger shape; a pod without CPU counts as 100 milli.
    assert [(item.cpu_milli, item.gpu_milli) for item in target] == [(1000, 500), (2000, 1000)]
    assert target[0].count == pytest.approx(90 / 95)


def test_memory_does_not_tell_target_shapes_apart():
    assert len(target_workload([PodShape(1000, 1, 1, 500), PodShape(1000, 2, 1, 500)])) == 1


def test_arrivals_are_the_shuffled_list_followed_by_copies_up_to_130_percent():
    trace = small_cluster.trace()
    weight = np.array([shape.total_gpu_milli for shape in trace.shapes])
    capacity = 60_000
    order = arrivals(trace, capacity, seed=1)
    original = order[: len(trace.pods)]
    assert sorted(original) == sorted(trace.pods)
    assert not np.array_equal(original, trace.pods)
    # The test before the last copy counts one GPU of it, so at most three GPUs of a four-GPU pod go over.
    assert 1.3 * capacity - 4000 < weight[order].sum() <= 1.3 * capacity + 3000
    assert np.array_equal(order, arrivals(trace, capacity, seed=1))
    assert not np.array_equal(order, arrivals(trace, capacity, seed=2))


def test_a_list_above_130_percent_loses_random_pods():
    trace = small_cluster.trace()
    weight = np.array([shape.total_gpu_milli for shape in trace.shapes])
    order = arrivals(trace, 20_000, seed=1)
    assert len(order) < len(trace.pods)
    assert 1.3 * 20_000 - 4000 < weight[order].sum() <= 1.3 * 20_000


def test_a_pod_that_fits_nowhere_counts_as_arrived_and_later_ones_still_run():
    shapes = (PodShape(1000, 1, 8, 1000), PodShape(1000, 1, 1, 500))
    nodes = [openb.NodeShape("a", 8000, 100, 2, "T4")]
    result = run(ClusterState(nodes), BestFit(), shapes, np.array([0, 1, 1]), until_percent=1000)
    assert result.failed == 1
    assert [placed.shape for placed in result.placed] == [1, 1]
    # 8 of 2 GPUs arrived, then 8.5 and 9: all beyond 201 % fall in the last bucket.
    assert result.allocated_percent[201] == pytest.approx((0 + 25 + 50) / 3)


def test_allocation_is_the_mean_over_arrivals_that_round_to_the_same_percent():
    shapes = (PodShape(0, 0, 1, 10), PodShape(0, 0, 1, 1000))
    nodes = [openb.NodeShape("a", 8000, 100, 2, "T4")]
    result = run(ClusterState(nodes), BestFit(), shapes, np.array([1, 0, 0, 1]))
    assert result.allocated_percent[50] == pytest.approx((50.0 + 50.5) / 2)
    assert result.allocated_percent[51] == pytest.approx(51.0)
    assert np.isnan(result.allocated_percent[60])


def test_equal_nodes_are_taken_in_the_given_order():
    nodes = small_cluster.nodes()
    order = openb.in_run_order(nodes)
    assert sorted(node.name for node in order) == sorted(node.name for node in nodes)
    assert openb.in_run_order(nodes) == order


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,cpu_milli\n", "no column memory_mib, num_gpu, gpu_milli"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,many,1,1,500\n", ":2: column cpu_milli: got 'many'"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,2,500\n", "exactly 1000 on several"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,-1,500\n", "expected 0 or more"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,0,\n", "no pod of the list asks for a GPU"),
    ],
)
def test_a_bad_pod_list_is_refused_with_file_line_and_expectation(tmp_path, text, complaint):
    path = tmp_path / "pods.csv"
    path.write_text(text)
    with pytest.raises(TraceRefused, match=r"pods\.csv") as refused:
        read_pods(path)
    assert complaint in str(refused.value)


def test_a_missing_or_broken_file_is_refused_without_a_traceback(tmp_path):
    with pytest.raises(TraceRefused, match="cannot be read"):
        read_nodes(tmp_path / "none.csv")
    broken = tmp_path / "nodes.csv.gz"
    broken.write_bytes(gzip.compress(b"sn,cpu_milli\n")[:-6])
    with pytest.raises(TraceRefused, match=r"nodes\.csv\.gz"):
        read_nodes(broken)
