"""The repacker takes no workload below its on-demand floor, and makes room where a successor may go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.nodes.scale_down import advise
from scheduler.on_demand import Kept, floor_of
from scheduler.repack.plan import plan
from scheduler.repack.read import SceneReader
from scheduler.repack.scene import Limits, RepackPlan
from tests.scheduler.repack_objects import Town

CLASSES = (
    {"name": "spot", "match": {"capacity": "spot"}, "gpuHour": 0.5, "interruptionsPerHour": 0.05},
    {"name": "bought", "match": {"capacity": "bought"}, "gpuHour": 4.0},
)
LIMITS = Limits(evictions=10, concurrent=4, horizon_hours=4.0)
SPOT, BOUGHT = {"capacity": "spot"}, {"capacity": "bought"}


def town(*, savings: bool = False, **nodes: dict[str, str]) -> Town:
    made = Town(CLASSES, savings=savings)
    for name, labels in nodes.items():
        made.dra_node(name, labels=labels)
    return made


def moves(made: Town, limits: Limits = LIMITS) -> list[tuple[str, str, str]]:
    return [(move.pod.name, move.source, move.target) for move in plan(made.scene(), limits).moves]


def unmet(made: Town) -> list[str]:
    return [one.reason for one in plan(made.scene(), LIMITS).unmet]


def one_in_the_way(floor: str, **nodes: Any) -> Town:
    """Replica x stands in the way of a 4g on node a; the other of its two replicas stands on spot."""
    made = town(a=BOUGHT, s=SPOT, **nodes)
    made.runs("x", "a", (0, "1g", 0), app="x", floor=floor)
    made.runs("x-too", "s", (0, "1g", 0), app="x", floor=floor, wish="never")
    made.runs("s-stays", "s", (0, "3g", 4), wish="never")
    made.waits("big", "4g")
    return made


def test_without_a_floor_the_cheaper_spot_node_is_taken():
    assert moves(one_in_the_way("")) == [("x", "a", "s")]
    assert moves(one_in_the_way("0")) == [("x", "a", "s")]


@pytest.mark.parametrize("floor", ["1", "50%", "2"])
def test_a_replica_that_the_floor_needs_is_not_moved_to_an_interruptible_node(floor: str):
    made = one_in_the_way(floor)
    assert moves(made) == []
    assert "no other node has room for them" in unmet(made)[0]


@pytest.mark.parametrize("floor", ["1", "50%", "2"])
def test_it_is_moved_to_a_lasting_node_though_that_is_dearer(floor: str):
    made = one_in_the_way(floor, b=BOUGHT)
    made.runs("b-stays", "b", (0, "4g", 0), wish="never")
    assert moves(made) == [("x", "a", "b")]


def test_a_replica_beyond_the_floor_goes_where_it_is_cheapest():
    made = one_in_the_way("1", c=BOUGHT)
    made.runs("x-three", "c", (0, "7g", 0), app="x", floor="1", wish="never")
    assert moves(made) == [("x", "a", "s")]


def test_a_floor_that_is_not_met_binds_those_on_spot_as_well():
    """The scheduler would refuse the successor every interruptible node."""

    def below(floor: str, **nodes: Any) -> list[tuple[str, str, str]]:
        made = town(a=SPOT, s=SPOT, **nodes)
        made.runs("x", "a", (0, "1g", 0), floor=floor)
        for name in ("s", *nodes):
            made.runs(f"{name}-stays", name, (0, "4g", 0), wish="never")
        made.waits("big", "4g")
        return moves(made)

    assert below("") == [("x", "a", "s")]
    assert below("1") == []
    assert below("1", b=BOUGHT) == [("x", "a", "b")]


def test_two_moves_of_one_plan_do_not_spend_the_same_spare_replica():
    def three(floor: str) -> Town:
        made = town(a=BOUGHT, c=BOUGHT, s=SPOT, t=SPOT)
        made.runs("x1", "a", (0, "1g", 0), app="x", floor=floor)
        made.runs("x2", "a", (0, "1g", 4), app="x", floor=floor)
        made.runs("x3", "c", (0, "1g", 0), app="x", floor=floor, wish="never")
        made.runs("x4", "c", (0, "1g", 1), app="x", floor=floor, wish="never")
        made.runs("c-stays", "c", (0, "3g", 4), wish="never")
        made.runs("c-too", "c", (0, "2g", 2), wish="never")
        for name in ("s", "t"):
            made.runs(f"{name}-stays", name, (0, "3g", 4), wish="never")
            made.runs(f"{name}-too", name, (0, "2g", 0), wish="never")
        made.waits("big", "7g")
        return made

    assert len(moves(three("2"))) == 2
    assert moves(three("3")) == []


def test_a_replica_on_its_way_out_holds_no_floor():
    made = one_in_the_way("1", c=BOUGHT)
    made.runs("x-three", "c", (0, "7g", 0), app="x", floor="1", wish="never")
    leaving = made.pods[-1]
    gone = msgspec.structs.replace(leaving.metadata, deletion_timestamp="2027-01-01T00:00:00Z")
    made.put_pod(msgspec.structs.replace(leaving, metadata=gone))
    assert moves(made) == []


def test_a_replica_that_was_evicted_holds_no_floor_before_the_watch_shows_it():
    made = one_in_the_way("1", c=BOUGHT)
    uid = made.runs("x-three", "c", (0, "7g", 0), app="x", floor="1", wish="never")
    reader = SceneReader(made.setting.decider, made.census, made.budgets)
    now = 1_800_000_000.0
    scene = reader.scene(made.policy, now, leaving=frozenset({uid}))
    assert scene.kept == {"uid-of-x": Kept(1, 1)}
    assert plan(scene, LIMITS).moves == ()
    assert plan(reader.scene(made.policy, now), LIMITS).moves != ()


def test_what_held_when_it_was_planned_is_asked_again_before_the_eviction():
    made = one_in_the_way("1", c=BOUGHT)
    spare = made.runs("x-three", "c", (0, "7g", 0), app="x", floor="1", wish="never")
    reader = SceneReader(made.setting.decider, made.census, made.budgets)
    [x] = [one for one in made.census.residents() if one.name == "x"]
    assert all(reader.keeps_floor(x, target) for target in ("s", "c", ""))
    assert not reader.keeps_floor(x, "s", leaving=frozenset({spare}))
    made.census.drop_pod(spare)
    assert [reader.keeps_floor(x, target) for target in ("s", "c", "")] == [False, True, False]
    [other] = [one for one in made.census.residents() if one.name == "x-too"]
    assert [reader.keeps_floor(other, target) for target in ("s", "")] == [True, True]
    made.census.drop_pod(x.uid)
    assert [reader.keeps_floor(other, target) for target in ("s", "c", "")] == [False, True, True]


def test_savings_leave_the_floor_alone():
    def dear(floor: str) -> Town:
        made = town(savings=True, a=BOUGHT, s=SPOT)
        made.runs("x", "a", (0, "3g", 0), floor=floor)
        return made

    assert moves(dear("")) == [("x", "a", "s")]
    assert moves(dear("1")) == []


def test_preemption_leaves_the_floor_alone():
    limits = Limits(evictions=10, concurrent=4, horizon_hours=4.0, preempt=True)

    def full(floor: str, on: dict[str, str]) -> Town:
        made = town(a=on)
        made.runs("x", "a", (0, "7g", 0), floor=floor)
        made.waits("urgent", "7g", priority=100)
        return made

    assert moves(full("", BOUGHT), limits) == [("x", "a", "")]
    assert moves(full("1", BOUGHT), limits) == []
    # On spot it holds no floor up.
    assert moves(full("1", SPOT), limits) == [("x", "a", "")]


def test_room_is_made_for_a_waiting_replica_where_it_may_go():
    def waiting(floor: str) -> RepackPlan:
        made = town(a=SPOT, b=BOUGHT, c=BOUGHT)
        made.runs("small", "a", (0, "1g", 0))
        made.runs("middle", "b", (0, "2g", 0))
        made.runs("c-stays", "c", (0, "4g", 0), wish="never")
        made.waits("big", "7g", floor=floor)
        return plan(made.scene(), LIMITS)

    assert [relief.node for relief in waiting("").reliefs] == ["a"]
    assert [relief.node for relief in waiting("1").reliefs] == ["b"]


def test_a_chain_ends_where_the_successor_may_go():
    def chain(floor: str) -> list[tuple[str, str, str]]:
        made = town(a=BOUGHT, b=SPOT, c=SPOT)
        made.runs("three", "a", (0, "3g", 0), floor=floor)
        made.runs("one", "b", (0, "1g", 0))
        made.runs("b-stays", "b", (0, "3g", 4), wish="never")
        made.runs("c-stays", "c", (0, "3g", 4), wish="never")
        made.runs("c-too", "c", (0, "2g", 0), wish="never")
        made.waits("big", "7g", selector=BOUGHT)
        return moves(made)

    assert chain("") == [("one", "b", "c"), ("three", "a", "b")]
    assert chain("1") == []


def test_a_node_is_not_advised_to_go_when_a_floor_would_go_with_it():
    def verdict(floor: str) -> dict[str, str]:
        made = town(savings=True, a=BOUGHT, s=SPOT)
        made.runs("x", "a", (0, "1g", 0), floor=floor)
        made.runs("s-stays", "s", (0, "1g", 0), wish="never")
        found = advise(made.scene(), (), {"a": 4.0, "s": 0.5}, frozenset({"a", "s"}))
        return {one.node: one.verdict for one in found}

    assert verdict("")["a"] == "may_go"
    assert verdict("1")["a"] == "in_use"


def test_a_node_that_took_part_in_a_move_is_no_place_for_a_pod_that_may_not_use_it():
    """The second of two equal waiters once had room made for it where its node selector forbids."""
    made = Town(savings=False)
    for name, labels in (("a", {"pool": "p"}), ("c", {}), ("d", {})):
        made.dra_node(name, labels=labels)
    made.runs("x", "a", (0, "1g", 0))
    made.runs("y", "c", (0, "3g", 0))
    made.runs("d-stays", "d", (0, "7g", 0), wish="never")
    for name in ("one", "two"):
        made.waits(name, "4g", selector={"pool": "p"})
    found = plan(made.scene(), LIMITS)
    assert [(relief.waiter.name, relief.node) for relief in found.reliefs] == [("one", "a")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abst"), st.booleans()), min_size=1, max_size=6),
    st.sampled_from(["1", "2", "3", "34%", "50%", "100%"]),
    st.sampled_from(["4g", "7g", "3g"]),
    st.booleans(),
)
def test_whatever_is_planned_the_floor_that_held_still_holds(
    standing: list[tuple[str, bool]], floor: str, asked: str, savings: bool
):
    made = town(savings=savings, a=BOUGHT, b=BOUGHT, s=SPOT, t=SPOT)
    used: dict[str, int] = {}
    where: dict[str, str] = {}
    for number, (on, movable) in enumerate(standing):
        start = used.setdefault(on, 0)
        used[on] += 1
        wish = "" if movable else "never"
        made.runs(f"x{number}", on, (0, "1g", start), app="x", floor=floor, wish=wish)
        where[f"x{number}"] = on
    for number in range(2):
        made.waits(f"big{number}", asked, priority=10)
    limits = Limits(evictions=10, concurrent=4, horizon_hours=4.0, preempt=True)
    least = _least(floor, len(where))
    before = sum(node in "ab" for node in where.values())
    for move in plan(made.scene(), limits).moves:
        where[move.pod.name] = move.target
    after = sum(node in ("a", "b") for node in where.values())
    assert after >= min(before, least)


def _least(floor: str, replicas: int) -> int:
    found: Any = floor_of(floor)
    return int(found.of(replicas))
