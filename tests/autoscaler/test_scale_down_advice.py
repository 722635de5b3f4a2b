"""Which nodes may go: never the last one that can take an expected demand; drains by the repacker's rules."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.nodes.scale_down import NodeAdvice, advise, demands_of
from autoscaler.nodes.scale_down_loop import CLUSTER_AUTOSCALER, KARPENTER, NOTE, OURS, ScaleDownLoop
from cluster.policy import ClusterPolicy
from cluster.wire import Node, ObjectMeta
from scheduler.repack.overlay import Overlay
from scheduler.repack.resources import NOTHING
from tests.scheduler.repack_objects import Town

LARGE = demands_of(["mig:7g.80gb"])
SMALL = demands_of(["mig:1g.10gb"])


def town(*names: str) -> Town:
    made = Town()
    for name in names:
        made.dra_node(name)
    return made


def advice(made: Town, expected: Any = (), usable: set[str] | None = None) -> dict[str, NodeAdvice]:
    names = set(made.fleet.rows) if usable is None else usable
    found = advise(made.scene(), expected, dict.fromkeys(made.fleet.rows, 2.5), frozenset(names))
    return {one.node: one for one in found}


def verdicts(made: Town, expected: Any = (), **more: Any) -> dict[str, str]:
    return {name: one.verdict for name, one in advice(made, expected, **more).items()}


def test_an_empty_node_may_go_and_of_two_that_could_only_one_where_room_is_expected():
    made = town("a", "b")
    assert verdicts(made) == {"a": "may_go", "b": "may_go"}
    assert verdicts(made, LARGE) == {"a": "may_go", "b": "keep"}
    assert advice(made, LARGE)["b"].why == "no other node has room for 1 × 7g.80gb"


def test_the_only_node_that_still_takes_a_large_profile_is_kept_though_it_is_empty():
    made = town("full", "empty")
    made.runs("p", "full", (0, "1g", 0), kind="StatefulSet")
    found = advice(made, [*LARGE, *SMALL])
    assert found["empty"].verdict == "keep"
    assert found["empty"].saves_per_hour == 2.5
    # Nor is the other one emptied into it.
    assert found["full"].verdict == "in_use"
    assert found["full"].why == "moving its pods would take the last room for 1 × 7g.80gb"


def test_a_node_whose_pods_have_room_elsewhere_may_go_says_where_and_its_taker_stays():
    made = town("a", "b", "c")
    made.runs("p", "a", (0, "2g", 0))
    made.runs("q", "b", (0, "3g", 0))
    found = advice(made, LARGE)
    assert found["c"].verdict == "keep"
    assert found["a"].verdict == "may_go"
    assert found["a"].why == "its 1 GPU pods have room elsewhere"
    assert found["a"].moves == (("default/p", "b"),)
    assert found["b"].why == "takes the pods of nodes that may go"


def test_pods_that_may_not_be_moved_hold_their_node():
    made = town("a", "b")
    made.runs("p", "a", (0, "1g", 0), kind="")
    made.runs("q", "b", (0, "1g", 0), wish="never")
    found = advice(made)
    assert found["a"].why == "default/p has no controller that would make it anew"
    assert found["b"].verdict == "in_use"


def test_a_budget_that_spares_none_holds_the_node():
    made = town("a", "b")
    made.runs("p", "a", (0, "1g", 0), app="x")
    made.runs("q", "b", (0, "7g", 0), kind="")
    made.budget("x", 0)
    assert advice(made)["a"].why == "default/p is under a budget that spares none now"


def test_room_on_a_cordoned_node_is_no_room():
    made = town("a", "b")
    assert verdicts(made, LARGE, usable={"a"})["a"] == "keep"


def test_unreadable_classes_are_left_out():
    assert demands_of(["nonsense", "shared", "whole:0"]) == []
    assert str(demands_of(["whole:4@H100-80GB"])[0]) == "4 whole GPUs"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "1g", "3g", "7g"]), min_size=1, max_size=5))
def test_every_expected_demand_that_had_room_has_room_when_all_that_may_go_has_gone(held: list[str]):
    made = Town()
    for number, kind in enumerate(held):
        made.dra_node(f"n{number}")
        if kind:
            made.runs(f"p{number}", f"n{number}", (0, kind, 0))
    found = advice(made, [*LARGE, *SMALL])
    gone = {name for name, one in found.items() if one.verdict == "may_go"}
    moves = [move for name in gone for move in found[name].moves]
    assert not {target for _, target in moves} & gone
    scene = made.scene()
    after = Overlay(scene, 1000)
    for pod, target in moves:
        mover = next(one for one in scene.movers.values() if one.full_name == pod)
        room = after.place_now(target, mover.demand, mover.resources, linked=False)
        assert room is not None
        after.take(target, room, mover.resources)
    for demand in (*LARGE, *SMALL):
        had = [n for n in scene.holdings if after_room(Overlay(scene, 0), n, demand)]
        assert not had or any(after_room(after, n, demand) for n in scene.holdings if n not in gone)


def after_room(overlay: Overlay, node: str, demand: Any) -> bool:
    return overlay.place_now(node, demand, NOTHING, linked=False) is not None


def test_who_no_longer_leads_takes_its_advice_back_once():
    class Told:
        def __init__(self) -> None:
            self.advice: list[tuple[NodeAdvice, ...]] = []

        def advised(self, advice: tuple[NodeAdvice, ...]) -> None:
            self.advice.append(advice)

        def marked(self, node: str, why: str) -> None:
            raise AssertionError("marks are left to the next leader")

    told, unused = Told(), cast(Any, None)
    loop = ScaleDownLoop(
        unused, unused, unused, unused, unused, ClusterPolicy, told, active=lambda: False, clock=lambda: 0.0
    )
    loop.latest = (NodeAdvice("a", "may_go", "holds no GPU pod"),)
    loop.turn()
    loop.turn()
    assert told.advice == [()]
    assert loop.latest == ()


class Patched:
    """An API that applies merge patches of annotations to the nodes that the loop sees."""

    def __init__(self, **annotations: str) -> None:
        self.annotations = dict(annotations)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        assert path == "/api/v1/nodes/a"
        for key, value in body["metadata"]["annotations"].items():
            if value is None:
                self.annotations.pop(key, None)
            else:
                self.annotations[key] = value

    def nodes(self) -> dict[str, Node]:
        return {"a": Node(metadata=ObjectMeta(name="a", annotations=dict(self.annotations)))}

    def mark(self, keep: dict[str, str]) -> list[tuple[str, str]]:
        """Bring the marks in line with what is to be kept; what was told."""
        told: list[tuple[str, str]] = []
        observer, unused = cast(Any, self), cast(Any, None)
        self.marked = lambda node, why: told.append((node, why))
        loop = ScaleDownLoop(
            cast(Any, self), unused, unused, unused, unused, ClusterPolicy, observer, active=lambda: True
        )
        loop._mark(keep, self.nodes())
        return told


def test_marks_come_with_their_reason_and_go_with_it():
    api = Patched(other="x")
    assert api.mark({"a": "the last room"}) == [("a", "the last room")]
    assert api.annotations == {
        "other": "x",
        CLUSTER_AUTOSCALER: "true",
        KARPENTER: "true",
        NOTE: "the last room",
        OURS: f"{CLUSTER_AUTOSCALER},{KARPENTER}",
    }
    assert api.mark({"a": "another reason"}) == []
    assert api.annotations[NOTE] == "another reason"
    assert api.mark({}) == [("a", "")]
    assert api.annotations == {"other": "x"}


@pytest.mark.parametrize(
    ("theirs", "ours"), [(KARPENTER, CLUSTER_AUTOSCALER), (CLUSTER_AUTOSCALER, KARPENTER)]
)
def test_a_mark_that_somebody_else_set_stays_when_ours_goes(theirs: str, ours: str):
    api = Patched(**{theirs: "false"})
    api.mark({"a": "the last room"})
    assert api.annotations[ours] == "true"
    assert api.annotations[theirs] == "false"
    api.mark({})
    assert api.annotations == {theirs: "false"}


def test_a_node_that_somebody_else_keeps_from_all_is_left_alone():
    api = Patched(**{CLUSTER_AUTOSCALER: "true", KARPENTER: "true"})
    assert api.mark({"a": "the last room"}) == []
    assert api.mark({}) == []
    assert api.annotations == {CLUSTER_AUTOSCALER: "true", KARPENTER: "true"}


def test_marks_of_a_note_that_does_not_say_whose_they_are_are_ours():
    api = Patched(**{CLUSTER_AUTOSCALER: "true", KARPENTER: "true", NOTE: "of an older version"})
    api.mark({})
    assert api.annotations == {}
