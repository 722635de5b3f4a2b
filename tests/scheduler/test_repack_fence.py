"""While pods leave a node for one that waits, the node is priced full for everybody else."""

from __future__ import annotations

import msgspec
import numpy as np

from scheduler.fences import SECONDS
from tests.scheduler.repack_objects import Town, a_pod


def leaving(town: Town, name: str) -> None:
    old = next(pod for pod in reversed(town.pods) if pod.metadata.name == name)
    meta = msgspec.structs.replace(old.metadata, deletion_timestamp="2027-01-15T08:00:00Z")
    town.put_pod(msgspec.structs.replace(old, metadata=meta))


def noted(town: Town, name: str, node: str) -> None:
    old = next(pod for pod in reversed(town.pods) if pod.metadata.name == name)
    notes = {**old.metadata.annotations, "slicewise.io/room-on": node}
    meta = msgspec.structs.replace(old.metadata, annotations=notes)
    town.put_pod(msgspec.structs.replace(old, metadata=meta))


def feasible(town: Town, name: str) -> dict[str, bool]:
    decider = town.setting.decider
    pod = next(pod for pod in reversed(town.pods) if pod.metadata.name == name)
    demand = decider.demand(pod)
    assert demand is not None
    prices = decider.prices(demand)
    return {node: bool(np.isfinite(prices[row])) for node, row in town.fleet.rows.items()}


def town() -> Town:
    made = Town()
    made.dra_node("a")
    made.dra_node("b")
    made.runs("x", "a", (0, "1g", 0))
    made.waits("big", "4g")
    made.waits("small", "1g")
    return made


def test_a_node_that_pods_leave_for_a_waiting_one_takes_nobody_else():
    made = town()
    assert feasible(made, "small") == {"a": True, "b": True}
    # From the note on: the evictions follow.
    noted(made, "big", "a")
    assert feasible(made, "small") == {"a": False, "b": True}
    leaving(made, "x")
    assert feasible(made, "small") == {"a": False, "b": True}
    # The room is free, but the allocator knows of no hold: a 1g would be given unit 0, in big's way.
    made.fleet.delete_pod("uid-x")
    made.fleet.delete_claim("default", "x-gpu")
    assert feasible(made, "small") == {"a": False, "b": True}
    assert feasible(made, "big") == {"a": False, "b": True}


def test_room_that_was_made_is_not_fenced_where_first_fit_leaves_it_alone():
    made = Town()
    made.dra_node("a")
    made.runs("x", "a", (0, "1g", 4))
    made.runs("low", "a", (0, "1g", 0))
    made.waits("big", "3g")
    made.waits("small", "1g")
    noted(made, "big", "a")
    assert feasible(made, "small") == {"a": False}
    made.fleet.delete_pod("uid-x")
    made.fleet.delete_claim("default", "x-gpu")
    # Free are 1 to 7. A 3g starts at 4; 1g are given 1, 2 and 3, and no more of them fit beside it.
    assert feasible(made, "small") == {"a": True}


def came(town: Town, name: str, node: str) -> None:
    """A waiting pod is bound, its note still on it."""
    old = next(pod for pod in reversed(town.pods) if pod.metadata.name == name)
    town.put_pod(msgspec.structs.replace(old, spec=msgspec.structs.replace(old.spec, node_name=node)))


def test_the_node_stays_closed_for_a_moment_after_the_waiting_pod_has_come():
    made = town()
    noted(made, "big", "a")
    made.fleet.delete_pod("uid-x")
    made.fleet.delete_claim("default", "x-gpu")
    came(made, "big", "a")
    # The successor of x comes now: its place is held on b.
    assert feasible(made, "small") == {"a": False, "b": True}
    made.fleet.expire(1000.0)
    assert feasible(made, "small") == {"a": False, "b": True}
    made.fleet.expire(1000.0 + SECONDS)
    assert feasible(made, "small") == {"a": True, "b": True}


def test_a_pod_that_came_to_its_room_before_we_looked_closes_nothing():
    made = town()
    noted(made, "big", "a")
    made.fleet.delete_pod("uid-big")
    made.fleet.delete_pod("uid-x")
    made.fleet.delete_claim("default", "x-gpu")
    came(made, "big", "a")
    assert feasible(made, "small") == {"a": True, "b": True}


def test_the_waiting_pod_itself_is_not_fenced_off():
    made = town()
    noted(made, "big", "a")
    leaving(made, "x")
    pod = next(pod for pod in reversed(made.pods) if pod.metadata.name == "big")
    made.fleet.delete_pod("uid-x")
    made.fleet.delete_claim("default", "x-gpu")
    scores = made.setting.decider.prioritize(pod, ["a", "b"])
    assert scores is not None
    assert (scores > 0).all()


def test_pods_that_leave_for_nobody_fence_nothing():
    made = town()
    leaving(made, "x")
    assert feasible(made, "small") == {"a": True, "b": True}


def nominated(town: Town, name: str, node: str) -> None:
    old = next(pod for pod in reversed(town.pods) if pod.metadata.name == name)
    town.put_pod(
        msgspec.structs.replace(old, status=msgspec.structs.replace(old.status, nominated_node_name=node))
    )


def test_kube_scheduler_s_own_preemption_fences_while_its_victims_leave():
    made = town()
    nominated(made, "big", "a")
    assert feasible(made, "small") == {"a": True, "b": True}
    leaving(made, "x")
    assert feasible(made, "small") == {"a": False, "b": True}


def test_a_nomination_that_leaving_pods_do_not_serve_fences_nothing():
    made = town()
    made.runs("stays", "a", (0, "1g", 1))
    nominated(made, "big", "a")
    leaving(made, "x")
    assert feasible(made, "small") == {"a": True, "b": True}


def test_under_the_device_plugin_counts_are_fenced_too():
    made = Town()
    made.plugin_node("a", gpus=2)
    made.plugin_node("b", gpus=2)
    made.put_pod(a_pod("x", on="a", limits={"nvidia.com/gpu": "1"}))
    made.put_pod(a_pod("big", limits={"nvidia.com/gpu": "2"}))
    made.put_pod(a_pod("small", limits={"nvidia.com/gpu": "1"}))
    noted(made, "big", "a")
    leaving(made, "x")
    assert feasible(made, "small") == {"a": False, "b": True}


def test_the_fence_stands_while_the_claim_is_there_though_the_pod_is_gone():
    made = town()
    noted(made, "big", "a")
    made.fleet.delete_pod("uid-x")
    assert feasible(made, "small") == {"a": False, "b": True}
