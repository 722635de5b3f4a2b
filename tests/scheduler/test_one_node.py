"""Filter that answers with the one best node: for whom, which one, and what it holds."""

from __future__ import annotations

import msgspec
import pytest

from dra.resource_api import OwnerReference
from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import Setting, node, pod, policy

GPU = "nvidia.com/gpu"
NAMES = [f"n{number:02d}" for number in range(40)]


def setting(one_node: str = "unspread", **extender: object) -> Setting:
    fleet = Fleet()
    for name in NAMES:
        fleet.apply_node(node(name, allocatable={GPU: "8"}))
    fleet.apply_pod(pod("old", {GPU: 7}, on="n30"))
    return Setting(fleet, policy(extender={"oneNode": one_node, **extender}))


def owned(name: str, kind: str):
    made = pod(name, {GPU: 1})
    owner = OwnerReference(api_version="x/v1", kind=kind, name="owner", uid="o", controller=True)
    return msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, owner_references=(owner,))
    )


@pytest.mark.parametrize(
    ("one_node", "kind", "alone"),
    [
        ("unspread", "Job", True),
        ("unspread", "ReplicaSet", False),
        ("unspread", "RayCluster", False),
        ("always", "ReplicaSet", True),
        ("never", "Job", False),
    ],
)
def test_only_pods_that_nothing_spreads_get_one_node(one_node, kind, alone):
    outcome = setting(one_node).decider.filter(owned("p", kind), NAMES)
    assert (outcome.decided, len(outcome.passed) == 1) == (alone, alone)


def test_the_node_is_the_cheapest_and_of_equals_the_first():
    decider = setting().decider
    for wanted in (1, 8):
        asked = pod(f"p{wanted}", {GPU: wanted})
        prices = decider.prices(decider.demand(asked)).round(9)
        assert decider.filter(asked, NAMES).passed == [int(prices.argmin())]


def test_the_room_is_held_so_that_the_next_pod_of_a_burst_goes_elsewhere_when_it_is_full():
    decider = setting().decider
    for number in range(41):
        assert decider.filter(pod(f"p{number}", {GPU: 8}), NAMES).decided is (number < 39)
    # 39 nodes were empty: each was given once, then nothing is expected to be free any more.
    assert len(decider.fleet.facts.reservations) == 39


def test_a_pod_that_comes_again_gives_back_what_was_held_for_it():
    decider = setting().decider
    for _ in range(3):
        assert decider.filter(pod("p", {GPU: 1}), NAMES).decided
    assert len(decider.fleet.facts.reservations) == 1


def test_the_node_of_the_pods_plan_is_the_one():
    outcome = setting().decider.filter(pod("p", {GPU: 1}, nominated="n07"), NAMES)
    assert outcome.passed == [7]


def test_looking_without_choosing_holds_nothing():
    decider = setting().decider
    assert not decider.filter(pod("p", {GPU: 1}), NAMES, choose=False).decided
    assert not decider.fleet.facts.reservations


def test_without_reservations_the_best_node_still_passes_alone():
    decider = setting(reservationSeconds=0).decider
    assert decider.filter(pod("p", {GPU: 1}), NAMES).decided
    assert not decider.fleet.facts.reservations


def test_a_single_candidate_is_answered_as_it_was_asked():
    decider = setting().decider
    assert decider.filter(pod("p", {GPU: 1}), ["n05"]).untouched
    assert not decider.fleet.facts.reservations
