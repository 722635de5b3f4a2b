"""GPUs that our driver offers in shares: what is free, who fits, what it costs, and why it does not fit."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.claims import claim_parts, claim_requests
from dra.driver.slice_plan import pool_name
from dra.inventory import from_slices
from dra.resource_api import ResourceClaim, ResourceClaimSpec
from dra.shared_gpus import Wish
from scheduler.demand import Demand, GpuRequest, parse_demand
from scheduler.first_fit import Room, Site, first_fit
from scheduler.fleet import Fleet
from tests.dra.driver_slices import driver_slices
from tests.dra.memory_cards import card
from tests.scheduler.fleet_objects import Setting, node, pod

SHARED = "nvidia.com/gpu.shared"
CLASS = "gpu-shared.slicewise.io"
FOUR = ({"model": "H100-80GB", "mode": "time-slicing", "shares": 4},)
STEP_MIB = 81559 // 4


def shared_slices(name, gpus=2, shared=FOUR):
    return driver_slices(name, *(card(index, mig=False) for index in range(gpus)), shared=shared)


def inventory_of(gpus=2, shared=FOUR):
    found = from_slices("n", shared_slices("n", gpus, shared))
    assert found is not None
    return found


def fleet_of(*names, gpus=2):
    fleet = Fleet()
    for name in names:
        fleet.apply_node(node(name))
        for item in shared_slices(name, gpus):
            fleet.apply_slice(item)
    return fleet


def claim(name, asked=None, *, on=None, count=1, owner=None, held=()):
    """A claim for shared GPUs; ``held``: (device, capacity) of its allocation on node ``on``."""
    exactly = {"deviceClassName": CLASS, "count": count}
    if asked:
        exactly["capacity"] = {"requests": asked}
    results = [
        {
            "request": "gpu",
            "driver": "gpu.slicewise.io",
            "pool": pool_name(on or ""),
            "device": device,
            "shareID": f"{name}-{number}",
            "consumedCapacity": consumed,
        }
        for number, (device, consumed) in enumerate(held)
    ]
    status = {"allocation": {"devices": {"results": results}}} if held else {}
    if owner:
        status["reservedFor"] = [{"resource": "pods", "name": owner, "uid": f"uid-{owner}"}]
    document = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
        "status": status,
    }
    return msgspec.convert(document, ResourceClaim)


def held(shares, device="gpu-0", memory=1):
    return device, {"share": str(shares), "memory": f"{memory * STEP_MIB}Mi"}


def shares_used(fleet, name="n"):
    row = fleet.rows[name]
    columns = fleet.columns
    return int(columns.shared_used[row]), int(columns.shared_total[row])


def test_the_inventory_tells_shared_gpus_apart_from_whole_ones():
    rule = ({"index": 1, "mode": "mps", "shares": 3},)
    found = inventory_of(2, rule)
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-0"]
    (one,) = found.shared
    assert (one.name, one.index, one.uuid, one.shares, one.mode) == ("gpu-1", 1, "GPU-1", 3, "mps")
    assert (one.model.name, one.step_mib, found.shared_replicas) == ("H100-80GB", 81559 // 3, 3)


@pytest.mark.parametrize(
    ("asked", "wish"),
    [
        ({}, Wish()),
        ({"share": "3"}, Wish(3)),
        ({"memory": "30Gi"}, Wish(None, 30 * 2**30)),
        ({"share": "2", "memory": "1Gi"}, Wish(2, 2**30)),
    ],
)
def test_capacity_requests_for_shared_gpus_are_understood(asked, wish):
    (found,) = claim_requests(claim("c", asked).spec, {})
    assert (found.understood, found.shared, found.count) == (True, wish, 1)


@pytest.mark.parametrize(
    ("class_name", "asked"), [(CLASS, {"cores": "1"}), ("gpu.slicewise.io", {"memory": "1Gi"})]
)
def test_other_capacity_requests_are_not(class_name, asked):
    exactly = {"deviceClassName": class_name, "capacity": {"requests": asked}}
    spec = msgspec.convert(
        {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}, ResourceClaimSpec
    )
    assert [found.understood for found in claim_requests(spec, {})] == [False]


def test_all_spellings_come_to_shares():
    fleet = fleet_of("n")
    facts = fleet.facts
    fleet.apply_claim(claim("c"))
    fleet.apply_claim(claim("large", {"share": "3"}))
    one = Demand((GpuRequest("shared", None, 1),))
    for spelled in (pod("a", {SHARED: 1}), pod("b", claims={"gpu": "c"})):
        demand = parse_demand(spelled, facts, facts.classes)
        assert demand is not None
        assert dataclasses.replace(demand, image=None) == one
    large = parse_demand(pod("l", claims={"gpu": "large"}), facts, facts.classes)
    assert large is not None
    assert large.requests == (GpuRequest("shared", None, 1, Wish(3)),)
    assert str(large) == "1 shared GPU (share 3)"


def test_what_a_claim_holds_is_what_its_status_says():
    found = inventory_of(2)
    assert claim_parts(claim("c", on="n", held=[held(3), held(1, "gpu-1")]), found) == ((3, 1), (1, 1))
    assert claim_parts(claim("c", on="n", held=[held(1, memory=2)]), found) == ((1, 2), (0, 0))
    assert claim_parts(claim("c", on="n", held=[("gpu-1", {})]), found) == ((0, 0), (1, 1))
    assert claim_parts(claim("c", on="other", held=[held(3)]), found) == ((0, 0), (0, 0))


def test_allocated_claims_fill_a_node_and_give_it_back():
    fleet = fleet_of("n")
    assert shares_used(fleet) == (0, 8)
    fleet.apply_claim(claim("c", on="n", owner="p", held=[held(3)]))
    fleet.apply_claim(claim("d", on="n", owner="q", held=[held(1, "gpu-1")]))
    assert shares_used(fleet) == (4, 8)
    fleet.delete_claim("default", "c")
    assert shares_used(fleet) == (1, 8)


def test_a_bound_pod_counts_before_its_claim_is_seen_and_only_once_after():
    fleet = fleet_of("n")
    fleet.apply_pod(pod("p", {SHARED: 2}, on="n"))
    assert shares_used(fleet) == (2, 8)
    fleet.apply_claim(claim("c", on="n", owner="p", held=[held(1), held(1)]))
    fleet.apply_pod(pod("p", {SHARED: 2}, on="n", extended_claim="c"))
    assert shares_used(fleet) == (2, 8)


def test_who_asks_for_more_than_any_gpu_has_left_is_refused_with_numbers():
    fleet = fleet_of("n")
    fleet.apply_claim(claim("a", on="n", held=[held(2)]))
    fleet.apply_claim(claim("b", on="n", held=[held(3, "gpu-1")]))
    decider = Setting(fleet).decider
    for name, asked, fits in (
        ("two", {"share": "2"}, True),
        ("three", {"share": "3"}, False),
        ("memory", {"memory": f"{3 * STEP_MIB}Mi"}, True),  # of memory, three steps are left on each
        ("five", {"share": "5"}, False),
    ):
        fleet.apply_claim(claim(name, asked))
        outcome = decider.filter(pod(name, claims={"gpu": name}), ["n"])
        assert outcome.passed == ([0] if fits else []), name
    assert decider.filter(pod("three", claims={"gpu": "three"}), ["n"]).failed == {
        "n": "needs 1 shared GPU (share 3), 3 shares of one GPU; a GPU of the node has at most 2 of 4 shares "
        "free"
    }
    assert "4 shares at most" in decider.filter(pod("five", claims={"gpu": "five"}), ["n"]).unresolvable["n"]


def test_a_full_node_is_refused_and_whole_gpus_are_not_to_be_had():
    fleet = fleet_of("n", gpus=1)
    fleet.apply_claim(claim("a", on="n", held=[held(4)]))
    decider = Setting(fleet).decider
    assert decider.filter(pod("p", {SHARED: 1}), ["n"]).failed == {"n": "needs 1 shared GPU; 0 of 4 are free"}
    assert list(decider.filter(pod("w", {"nvidia.com/gpu": 1}), ["n"]).unresolvable) == ["n"]


def test_a_share_is_priced_as_its_part_of_a_gpu():
    fleet = fleet_of("a", "b")
    fleet.apply_claim(claim("c", on="b", held=[held(2)]))
    bills = {bill.node: bill for bill in Setting(fleet).decider.bills(pod("p", {SHARED: 1}))}
    assert all(bill.feasible for bill in bills.values())
    assert bills["a"].terms["money"] == pytest.approx(bills["b"].terms["money"])
    fleet.apply_claim(claim("large", {"share": "3"}))
    large = {bill.node: bill for bill in Setting(fleet).decider.bills(pod("l", claims={"gpu": "large"}))}
    assert large["a"].terms["money"] == pytest.approx(3 * bills["a"].terms["money"])


def test_another_model_is_no_use():
    fleet = fleet_of("n")
    wanted = pod("p", {SHARED: 1}, annotations={"slicewise.io/gpu-model": "A100-80GB"})
    assert Setting(fleet).decider.filter(wanted, ["n"]).passed == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2)), max_size=8),
    st.integers(1, 3),
)
def test_first_fit_takes_the_first_gpu_with_enough_left_and_never_too_much(wishes, gpus):
    shared = inventory_of(gpus).shared
    site = Site((), (), (), {}, 4 * gpus, shared=shared)
    room = Room((), parts=((0, 0),) * gpus)
    for share, steps, count in wishes:
        wish = Wish(share, steps * STEP_MIB * 2**20)
        after = first_fit(site, room, (GpuRequest("shared", None, count, wish),))
        free = [
            (4 - shares) // share if 4 - shares >= share and 4 - memory >= steps else 0
            for shares, memory in room.parts
        ]
        if not isinstance(after, Room):
            assert (
                sum(min(one, (4 - part[1]) // steps) for one, part in zip(free, room.parts, strict=True))
                < count
            )
            continue
        assert all(max(part) <= 4 for part in after.parts)
        first = next(i for i, one in enumerate(free) if one)
        assert after.parts[first] != room.parts[first]
        assert after.shared == sum(max(part) for part in after.parts)
        room = after
