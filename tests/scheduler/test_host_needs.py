"""CPU and memory of nodes: what pods take, with GPUs and without, and what is left for the prices to see."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import Node, Pod
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.host_needs import UNLIMITED, HostLedger, cpu_milli, host_need, memory_mib


def node(name="n", cpu="16", memory="64Gi", **more):
    labels = {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    allocatable = {"nvidia.com/gpu": "4"}
    allocatable |= {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value is not None}
    data = {"metadata": {"name": name, "labels": labels | more}, "status": {"allocatable": allocatable}}
    return msgspec.convert(data, Node)


def container(cpu=None, memory=None, gpus=0, limits=None, restart=""):
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v is not None}
    limits = {**(limits or {}), **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {"name": "c", "resources": {"requests": requests, "limits": limits}, "restartPolicy": restart}


def pod(uid, *containers, on="", init=(), phase="Running", **spec):
    data = {
        "metadata": {"name": uid, "namespace": "d", "uid": uid, "generation": 1},
        "spec": {"nodeName": on, "containers": list(containers), "initContainers": list(init), **spec},
        "status": {"phase": phase},
    }
    return msgspec.convert(data, Pod)


@pytest.mark.parametrize(
    ("quantity", "expected"), [("2", 2000), ("500m", 500), ("0.1", 100), (3, 3000), ("1e-4", 1), ("x", 0)]
)
def test_cpu_is_read_in_milli_and_rounded_up(quantity, expected):
    assert cpu_milli(quantity) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"), [("1Gi", 1024), ("1Mi", 1), (1, 1), ("1G", 954), ("2Ti", 2 << 20), ("y", 0)]
)
def test_memory_is_read_in_mebibytes_and_rounded_up(quantity, expected):
    assert memory_mib(quantity) == expected


def test_containers_and_sidecars_add_up_and_a_large_init_container_sets_the_peak():
    main = container("1", "1Gi")
    sidecar = container("500m", "256Mi", restart="Always")
    assert host_need(pod("p", main, main, init=[sidecar])) == (2500, 2304)
    peak = container("8", "512Mi")
    assert host_need(pod("p", main, init=[sidecar, peak])) == (8500, 1280)


def test_limits_stand_in_for_requests_and_overhead_and_pod_level_requests_count():
    assert host_need(pod("p", container(limits={"cpu": "2", "memory": "1Gi"}))) == (2000, 1024)
    assert host_need(pod("p", container("1"), overhead={"cpu": "250m", "memory": "64Mi"})) == (1250, 64)
    whole = {"requests": {"cpu": "6"}}
    assert host_need(pod("p", container("1", "1Gi"), container("1"), resources=whole)) == (6000, 1024)


def test_the_free_cpu_of_a_row_counts_every_bound_pod_with_a_gpu_or_without():
    fleet = Fleet()
    fleet.apply_node(node())
    row = fleet.rows["n"]
    assert (fleet.columns.cpu_free[row], fleet.columns.memory_free[row]) == (16000, 65536)
    fleet.apply_pod(pod("g", container("4", "16Gi", gpus=1), on="n"))
    fleet.apply_pod(pod("web", container("500m", "1Gi"), on="n"))
    fleet.apply_pod(pod("waiting", container("7", "1Gi")))
    assert (fleet.columns.cpu_free[row], fleet.columns.memory_free[row]) == (11500, 48128)
    fleet.apply_pod(pod("web", container("500m", "1Gi"), on="n", phase="Succeeded"))
    fleet.delete_pod("g")
    assert (fleet.columns.cpu_free[row], fleet.columns.memory_free[row]) == (16000, 65536)


def test_reservations_hold_cpu_too_and_a_pod_does_not_compete_with_itself():
    fleet = Fleet()
    fleet.apply_node(node())
    row = fleet.rows["n"]
    demand = Demand((GpuRequest("whole", None, 1),), cpu_milli=6000, memory_mib=1024)
    fleet.reserve("p", row, demand, until=10.0)
    assert fleet.columns.cpu_free[row] == 10000
    _, without = fleet.view_without("p")
    assert without.cpu_free[0] == 16000
    fleet.expire(10.0)
    assert fleet.columns.cpu_free[row] == 16000


def test_a_renewed_reservation_outlives_the_end_of_the_old_one():
    fleet = Fleet()
    fleet.apply_node(node())
    demand = Demand((GpuRequest("whole", None, 1),), cpu_milli=6000)
    fleet.reserve("p", fleet.rows["n"], demand, until=10.0)
    fleet.reserve("p", fleet.rows["n"], demand, until=20.0)
    fleet.expire(15.0)
    assert "p" in fleet.facts.reservations
    fleet.expire(20.0)
    assert not fleet.facts.reservations


def test_an_overcommitted_node_has_nothing_left_and_a_silent_one_has_no_limit():
    fleet = Fleet()
    fleet.apply_node(node(cpu="1"))
    fleet.apply_pod(pod("web", container("4"), on="n"))
    assert fleet.columns.cpu_free[fleet.rows["n"]] == 0
    fleet.apply_node(node("silent", cpu=None, memory=None))
    fleet.apply_pod(pod("other", container("4"), on="silent"))
    assert fleet.columns.cpu_free[fleet.rows["silent"]] == UNLIMITED


def test_pods_without_gpus_on_nodes_without_gpus_change_no_row():
    fleet = Fleet()
    data = {"metadata": {"name": "plain"}, "status": {"allocatable": {"cpu": "8"}}}
    fleet.apply_node(msgspec.convert(data, Node))
    before = fleet.generation
    fleet.apply_pod(pod("web", container("1"), on="plain"))
    assert fleet.generation == before


def test_a_relist_forgets_pods_without_gpus_that_are_gone():
    fleet = Fleet()
    fleet.apply_node(node())
    fleet.replace_pods([pod("a", container("1"), on="n"), pod("b", container("2"), on="n")])
    assert fleet.columns.cpu_free[fleet.rows["n"]] == 13000
    fleet.replace_pods([pod("b", container("2"), on="n")])
    assert fleet.columns.cpu_free[fleet.rows["n"]] == 14000


def test_a_pod_that_turns_out_to_want_a_gpu_is_counted_once():
    fleet = Fleet()
    fleet.apply_node(node())
    fleet.apply_pod(pod("p", container("1"), on="n"))
    fleet.apply_pod(pod("p", container("1", gpus=1), on="n"))
    assert fleet.columns.cpu_free[fleet.rows["n"]] == 15000


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["", "n1", "n2"]), st.integers(0, 9)), max_size=30
    )
)
def test_the_ledger_always_holds_the_sum_of_the_pods_it_was_told_last(steps):
    ledger, last = HostLedger(), {}
    for uid, where, cpu in steps:
        ledger.put(uid, where, (cpu, 2 * cpu))
        last[uid] = (where, cpu)
    for name in ("n1", "n2"):
        total = sum(cpu for where, cpu in last.values() if where == name)
        assert ledger.taken(name) == (total, 2 * total)
    for uid in last:
        ledger.drop(uid)
    assert not ledger.by_node()
    assert not ledger.pods()
