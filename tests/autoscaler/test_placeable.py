"""How room is handed out: counted once, to those that wait before those that grow, by turn."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.placeable import Ask, ReplicaShape, hand_out, in_turn
from autoscaler.targets import Target
from metrics.samples import NoData
from scheduler.demand import Demand, GpuRequest
from scheduler.planner.admission import Constraints

ANYWHERE = Constraints((), None, (), False)


def shape(gpus: int = 1, priority: int = 0) -> ReplicaShape:
    return ReplicaShape(Demand((GpuRequest("whole", None, gpus),)), ANYWHERE, priority)


def ask(name: str, *, placed: int = 0, waiting: int = 0, wanted: int = 0, **more: Any) -> Ask:
    more.setdefault("shape", shape())
    target = Target("apps/v1", "Deployment", "n", name)
    return Ask(target, placed=placed, waiting=waiting, wanted=wanted, **more)


class Pile:
    """Room that is so many GPUs and nothing else."""

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def take(self, shape: ReplicaShape, most: int) -> int:
        fits = min(most, self.gpus // shape.demand.whole_gpus)
        self.gpus -= fits * shape.demand.whole_gpus
        return fits


def answers(gpus: int, *asks: Ask) -> dict[str, int | NoData]:
    return {target.name: answer for target, answer in hand_out(asks, Pile(gpus)).answers.items()}


def test_a_workload_is_told_what_runs_and_what_still_fits():
    assert answers(2, ask("a", placed=2, wanted=6)) == {"a": 4}
    assert answers(9, ask("a", placed=2, wanted=6)) == {"a": 6}
    assert answers(0, ask("a", placed=2, wanted=6)) == {"a": 2}


def test_two_workloads_do_not_count_the_same_room():
    assert answers(3, ask("a", placed=1, wanted=3), ask("b", placed=1, wanted=4)) == {"a": 1, "b": 4}


def test_replicas_that_wait_already_go_before_those_that_are_only_wanted():
    urgent = shape(priority=100)
    found = answers(2, ask("a", placed=1, wanted=3, shape=urgent), ask("b", placed=1, waiting=2, wanted=3))
    assert found == {"a": 1, "b": 3}


def test_the_turn_is_by_priority_then_by_the_objective_missed_then_by_what_lacks():
    asks = [
        ask("lacks-little", placed=9, wanted=10),
        ask("lacks-much", placed=1, wanted=10),
        ask("misses", placed=9, wanted=10, missed=3.0),
        ask("first", placed=9, wanted=10, shape=shape(priority=7)),
    ]
    assert [one.target.name for one in in_turn(asks)] == ["first", "misses", "lacks-much", "lacks-little"]


def test_what_the_scheduler_refuses_despite_room_is_left_to_it():
    answer = answers(5, ask("a", placed=4, waiting=2, wanted=8, refused=2))["a"]
    assert isinstance(answer, NoData)
    assert answer.reason.startswith("the scheduler refuses 2 replicas, though 2 of them")


def test_refused_replicas_without_room_are_not_placeable():
    assert answers(0, ask("a", placed=4, waiting=2, wanted=6, refused=2)) == {"a": 4}


def test_a_replica_just_made_takes_the_room_before_a_refused_one_contradicts_us():
    assert answers(1, ask("a", placed=3, waiting=2, wanted=5, refused=1)) == {"a": 4}


def test_more_is_not_counted_beyond_replicas_that_find_no_room():
    assert answers(1, ask("a", placed=2, waiting=2, wanted=9)) == {"a": 3}


def test_an_unknown_shape_is_an_unknown_answer():
    gone = NoData("its pods ask for no GPU")
    assert answers(5, ask("a", placed=1, wanted=3, shape=gone), ask("b", wanted=2)) == {"a": gone, "b": 2}


def test_what_has_no_room_becomes_a_node_request():
    asks = [ask("a", placed=1, wanted=3), ask("b", wanted=2, shape=shape(8)), ask("c", placed=1, wanted=2)]
    requests = hand_out(asks, Pile(1)).requests
    # In turn: b lacks all it wants, a two thirds, c half; b's 8 GPUs are nowhere, a gets the one there is.
    assert [(one.target.name, one.replicas, one.demand.whole_gpus) for one in requests] == [
        ("b", 2, 8),
        ("a", 1, 1),
        ("c", 1, 1),
    ]


def test_what_only_later_steps_ask_for_takes_no_room_and_is_requested_too():
    asks = [ask("a", placed=1, wanted=5, eventually=9), ask("b", placed=1, wanted=2)]
    found = hand_out(asks, Pile(6))
    assert sorted(answer for answer in found.answers.values() if isinstance(answer, int)) == [2, 5]
    # One GPU is left for the later steps of a; the other three have to come.
    assert [(one.target.name, one.replicas) for one in found.requests] == [("a", 3)]


@given(
    st.integers(0, 30),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.integers(1, 4)), max_size=6
    ),
)
def test_room_is_never_given_twice_and_never_beyond_what_is_wanted(gpus: int, sizes: list[Any]):
    asks = [
        ask(f"w{index}", placed=placed, waiting=waiting, wanted=placed + waiting + more, shape=shape(each))
        for index, (placed, waiting, more, each) in enumerate(sizes)
    ]
    found = hand_out(asks, Pile(gpus)).answers
    used = 0
    for one in asks:
        answer = found[one.target]
        assert isinstance(answer, int)
        assert one.placed <= answer <= one.wanted
        assert isinstance(one.shape, ReplicaShape)
        used += (answer - one.placed) * one.shape.demand.whole_gpus
    assert used <= gpus
