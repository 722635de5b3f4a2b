from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.arrivals import SHORTEST_SECONDS, peak_units, read_rows, schedule
from deploy.demo.fleet import capacity, demo_fleet
from deploy.demo.mapping import POOLS
from deploy.demo.plan import DATA, make_plan
from deploy.demo.workload import namespaces, pod_manifest, road_of

TEXT = (DATA / "openb_cut.csv").read_text()
HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,qos,creation_time,deletion_time\n"


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(1) == make_plan(1)
    assert make_plan(1).arrivals != make_plan(2).arrivals


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), share=st.floats(0.4, 1.0))
def test_what_is_asked_for_never_exceeds_the_wanted_share_of_a_pool(seed: int, share: float) -> None:
    units = capacity(demo_fleet())
    arrivals = schedule(read_rows(TEXT), seed=seed, window_seconds=60.0, capacity=units, peak_share=share)
    for pool in POOLS:
        assert peak_units(arrivals, pool) <= share * units[pool] or all(
            arrival.leaves_seconds - arrival.at_seconds <= SHORTEST_SECONDS + 0.01
            for arrival in arrivals
            if arrival.request.pool == pool
        )


def test_at_the_peak_most_of_every_pool_is_asked_for() -> None:
    units = capacity(demo_fleet())
    arrivals = schedule(read_rows(TEXT), seed=1, window_seconds=75.0, capacity=units, peak_share=0.93)
    for pool in POOLS:
        assert peak_units(arrivals, pool) > 0.85 * units[pool]


def test_the_order_of_creation_is_the_traces() -> None:
    rows = read_rows(TEXT)
    arrivals = schedule(rows, seed=4, window_seconds=60.0, capacity=capacity(demo_fleet()))
    numbers = [int(arrival.name.rsplit("-", 1)[1]) for arrival in arrivals]
    assert numbers == sorted(numbers)
    assert [row.created_seconds for row in rows] == sorted(row.created_seconds for row in rows)


def test_a_longer_life_in_the_trace_is_a_longer_life_in_the_demo() -> None:
    rows = read_rows(TEXT)
    arrivals = schedule(rows, seed=4, window_seconds=60.0, capacity=capacity(demo_fleet()))
    for pool in POOLS:
        members = [
            (row.deleted_seconds - row.created_seconds, arrival.leaves_seconds - arrival.at_seconds)
            for row, arrival in zip(rows, arrivals, strict=True)
            if arrival.request.pool == pool
        ]
        members.sort()
        lives = [life for _, life in members]
        assert all(later >= earlier - 0.01 for earlier, later in pairwise(lives))


def test_pods_come_and_go_while_the_run_lasts() -> None:
    plan = make_plan(1)
    leaving = sum(1 for arrival in plan.arrivals if arrival.leaves_seconds < plan.end_seconds)
    assert leaving > len(plan.arrivals) / 3


def test_a_line_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match="line 3"):
        read_rows(HEADER + "a,1,1,1,100,BE,0,1\nb,x,1,1,100,BE,0,1\n")


def test_pod_manifests_have_unique_names_in_namespaces_that_exist() -> None:
    plan = make_plan(1)
    known = {item["metadata"]["name"] for item in namespaces()}
    manifests = [pod_manifest(arrival) for arrival in plan.arrivals]
    assert len({(m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests}) == len(manifests)
    assert {m["metadata"]["namespace"] for m in manifests} <= known
    roads = {road_of(arrival) for arrival in plan.arrivals}
    assert roads == {"planned", "webhook"}


def test_only_tensor_parallel_pods_say_that_they_want_nvlink() -> None:
    for arrival in make_plan(1).arrivals:
        notes = pod_manifest(arrival)["metadata"]["annotations"]
        assert ("slicewise.io/nvlink" in notes) == (
            arrival.request.profile is None and arrival.request.count > 1
        )
