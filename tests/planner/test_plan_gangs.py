"""Gangs: who belongs, when one may be planned, and that it is released whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from benchmarks.gang_model import run_set
from cluster.policy import Planner, PlanSolver
from cluster.wire import ObjectMeta, Pod, PodSpec, PodStatus, SchedulingGate
from cluster.workload_api import PodGroup
from scheduler.planner.gangs import (
    CONFIRM_SECONDS,
    COSCHEDULING_NAME,
    COSCHEDULING_SIZE,
    GANG_LABEL,
    GANG_SIZE,
    GangBook,
    GangKey,
    gang_of,
    is_kept_whole,
)
from scheduler.planner.gates import GateWatch
from scheduler.planner.loop import STUCK_SECONDS, PlannerLoop
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.plan import Chosen, Nowhere
from scheduler.planner.pod_groups import PodGroups
from scheduler.planner.queue import PLAN_GATE
from tests.planner.test_plan_rounds import Clock, RecordingApi, Seen


def member(
    uid,
    gang="g",
    size="2",
    *,
    node="",
    nominated="",
    gated=True,
    priority=0,
    phase="Pending",
    group="",
    labels=None,
    notes=None,
):
    if labels is None:
        labels = {GANG_LABEL: gang, GANG_SIZE: size} if gang else {}
    return Pod(
        metadata=ObjectMeta(
            name=uid,
            namespace="ns",
            uid=uid,
            creation_timestamp=uid,
            labels=labels,
            annotations=notes or {},
            resource_version="7",
        ),
        spec=PodSpec(
            node_name=node,
            scheduler_name="default-scheduler",
            priority=priority,
            scheduling_gates=(SchedulingGate(name=PLAN_GATE),) if gated else (),
            scheduling_group={"podGroupName": group} if group else None,
        ),
        status=PodStatus(phase=phase, nominated_node_name=nominated),
    )


@dataclass
class Slots:
    """A chooser with so many places on one node."""

    left: int
    held: dict[str, str] = field(default_factory=dict)
    fits: bool = True

    def choose(self, pod, hold_seconds):
        return self.hold(pod, "n1", hold_seconds)

    def hold(self, pod, node, hold_seconds):
        if len(self.held) >= self.left:
            return Nowhere("full")
        self.held[pod.metadata.uid] = node
        return Chosen(node, 1.0)

    def release(self, uid):
        self.held.pop(uid, None)

    def still_holds(self, pod, node, look_at_room):
        return self.fits


def planner_of(api, slots, clock=None, **options):
    seen = Seen()
    loop = PlannerLoop(
        asks_for_gpus=lambda pod: True,
        chooser=slots,
        nominator=Nominator(api, 2),
        policy=lambda: Planner(gate_timeout_seconds=30.0, solver=PlanSolver(enabled=False)),
        active=lambda: True,
        observer=seen,
        ungated_grace_seconds=0.0,
        clock=clock or Clock(),
        still_holds=slots.still_holds,
        **options,
    )
    return loop, seen


def gates_opened(api):
    return [
        path.rpartition("/")[2] for path, _, kind in api.patches if kind.startswith("application/strategic")
    ]


# --- who belongs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (member("a", "g", "3"), (GangKey("ns", "g", "label"), 3)),
        (member("a", labels={GANG_LABEL: "g"}, notes={GANG_SIZE: "4"}), (GangKey("ns", "g", "label"), 4)),
        (member("a", "g", "many"), (GangKey("ns", "g", "label"), None)),
        (member("a", "g", "0"), (GangKey("ns", "g", "label"), None)),
        (
            member("a", labels={COSCHEDULING_NAME: "c", COSCHEDULING_SIZE: "2"}),
            (GangKey("ns", "c", "label"), 2),
        ),
        (member("a", labels={COSCHEDULING_NAME: "c"}), None),
        (member("a", "", group="pg"), (GangKey("ns", "pg", "workload"), None)),
        (member("a", ""), None),
    ],
)
def test_a_pod_names_its_gang(pod, expected):
    ref = gang_of(pod)
    assert (None if ref is None else (ref.key, ref.size)) == expected


def test_only_gangs_that_nothing_else_keeps_whole_keep_their_gates():
    assert is_kept_whole(member("a"))
    assert not is_kept_whole(member("a", "g", "many"))
    assert not is_kept_whole(member("a", "", group="pg"))
    assert not is_kept_whole(member("a", ""))


def test_sizes_of_pod_groups_come_from_the_workload_api():
    told = []
    groups = PodGroups(None, lambda: told.append(1))
    gang = {
        "metadata": {"name": "g", "namespace": "ns"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 3}}},
    }
    basic = {"metadata": {"name": "b", "namespace": "ns"}, "spec": {"schedulingPolicy": {"basic": {}}}}
    groups.replaced([msgspec.convert(gang, PodGroup)])
    groups.changed("ADDED", msgspec.convert(basic, PodGroup))
    assert (groups.size("ns", "g"), groups.size("ns", "b"), groups.size("ns", "x")) == (3, 0, None)
    groups.changed("DELETED", msgspec.convert(gang, PodGroup))
    assert groups.size("ns", "g") is None
    assert len(told) == 3


def test_a_workload_gang_waits_until_its_group_is_known():
    sizes = {}
    book = GangBook(lambda pod: True, lambda namespace, name: sizes.get(name))
    book.observe(member("a", "", group="pg"), 0.0)
    key = book.key_of("a")
    assert key is not None
    assert "not known" in book.unit(key, {})
    sizes["pg"] = 0
    assert book.key_of("a") is None


# --- when it is planned -----------------------------------------------------------------------------------


def test_an_incomplete_gang_holds_nothing_and_says_what_is_missing():
    api, slots = RecordingApi(), Slots(9)
    planner, _ = planner_of(api, slots)
    planner.replaced([member("a", size="3"), member("b", size="3")])
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.reason for one in made.unplaced] == ["gang ns/g has 2 of 3 pods"] * 2
    assert api.patches == []
    assert slots.held == {}


def test_a_gang_that_does_not_fit_holds_nothing_and_leaves_the_room_to_others():
    api, slots = RecordingApi(), Slots(2)
    planner, _ = planner_of(api, slots)
    planner.replaced([member(uid, size="3") for uid in "abc"] + [member("z", "")])
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.waiting.uid for one in made.nominations] == ["z"]
    assert {one.waiting.uid for one in made.unplaced} == {"a", "b", "c"}
    assert "2 of 3 pods fit" in made.unplaced[0].reason
    assert list(slots.held) == ["z"]


def test_all_members_are_nominated_before_the_first_gate_goes():
    api, clock = RecordingApi(), Clock()
    planner, _ = planner_of(api, Slots(9), clock)
    planner.replaced([member("a"), member("b")])
    planner.round()
    assert [kind for _, _, kind in api.patches] == ["application/merge-patch+json"] * 2
    for uid in "ab":
        planner.changed("MODIFIED", member(uid, nominated="n1"))
    clock.now += CONFIRM_SECONDS / 2
    planner.round()
    assert gates_opened(api) == []
    clock.now += CONFIRM_SECONDS
    planner.round()
    planner.stop()
    assert sorted(gates_opened(api)) == ["a", "b"]


def test_a_gang_whose_room_went_before_it_was_released_gives_everything_back():
    api, clock, slots = RecordingApi(), Clock(), Slots(9)
    planner, seen = planner_of(api, slots, clock)
    planner.replaced([member("a"), member("b")])
    planner.round()
    for uid in "ab":
        planner.changed("MODIFIED", member(uid, nominated="n1"))
    slots.fits = False
    clock.now += 2 * CONFIRM_SECONDS
    planner.round()
    planner.stop()
    assert gates_opened(api) == []
    taken_back = [body for _, body, _ in api.patches[2:]]
    assert [body["status"] for body in taken_back] == [{"nominatedNodeName": None}] * 2
    assert all(body["metadata"]["resourceVersion"] == "7" for body in taken_back)
    assert seen.fates == ["withdrawn"] * 2
    assert slots.held == {}


def test_one_nomination_that_fails_takes_the_others_back():
    api, slots = RecordingApi(refuse={"/api/v1/namespaces/ns/pods/b/status": 500}), Slots(9)
    planner, seen = planner_of(api, slots)
    planner.replaced([member("a"), member("b")])
    planner.round()
    planner.stop()
    assert seen.rounds[0][1] == [Outcome.WITHDRAWN, Outcome.FAILED]
    assert api.patches[-1][1]["status"] == {"nominatedNodeName": None}
    assert gates_opened(api) == []


def test_a_released_gang_is_finished_by_whoever_leads_next():
    api, clock, slots = RecordingApi(), Clock(), Slots(9)
    slots.fits = False
    planner, _ = planner_of(api, slots, clock)
    planner.replaced([member("a", node="n1", gated=False), member("b", nominated="n1")])
    planner.round()
    planner.stop()
    assert gates_opened(api) == ["b"]


def test_a_gang_left_half_nominated_is_taken_back_after_a_while():
    api, clock = RecordingApi(), Clock()
    planner, _ = planner_of(api, Slots(0), clock)
    planner.replaced([member("a", nominated="n1"), member("b")])
    clock.now += STUCK_SECONDS + 1
    planner.round()
    planner.stop()
    assert gates_opened(api) == []
    assert api.patches[0][0].endswith("/a/status")
    assert api.patches[0][1]["status"] == {"nominatedNodeName": None}


def test_a_single_pod_left_nominated_behind_its_gate_is_let_go():
    api, clock = RecordingApi(), Clock()
    planner, _ = planner_of(api, Slots(0), clock)
    planner.replaced([member("a", "", nominated="n1")])
    planner.round()
    assert api.patches == []
    clock.now += STUCK_SECONDS + 1
    planner.round()
    planner.stop()
    assert gates_opened(api) == ["a"]


def test_a_member_that_takes_the_place_of_a_lost_one_is_planned_alone():
    api, slots = RecordingApi(), Slots(9)
    planner, _ = planner_of(api, slots)
    planner.replaced([member("a", node="n1", gated=False), member("b", size="2")])
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.waiting.uid for one in made.nominations] == ["b"]


def test_members_beyond_the_size_are_planned_like_any_pod():
    book = GangBook(lambda pod: True)
    for uid in "ab":
        book.observe(member(uid, node="n1", gated=False), 0.0)
    book.observe(member("c"), 0.0)
    assert book.key_of("c") is None


def test_members_that_did_their_work_still_count():
    book = GangBook(lambda pod: True)
    book.observe(member("a", node="n1", gated=False), 0.0)
    book.observe(member("b"), 0.0)
    book.forget("a", succeeded=True)
    assert book.key_of("b") is not None
    book.observe(member("c"), 0.0)
    key = book.key_of("b")
    assert key is not None
    planner, _ = planner_of(RecordingApi(), Slots(9))
    planner.replaced([member("b"), member("c")])
    planner.stop()


# --- gates ------------------------------------------------------------------------------------------------


def test_the_gates_of_a_gang_do_not_lapse_those_of_others_do():
    api, clock = RecordingApi(), Clock()
    planner, seen = planner_of(api, Slots(0), clock)
    planner.replaced([member("a"), member("b"), member("z", "")])
    planner.round()
    clock.now += 31
    planner.round()
    planner.stop()
    assert seen.timed_out == ["z"]
    assert gates_opened(api) == ["z"]


def test_without_a_planner_a_gang_waits_whole_and_others_go():
    api, clock = RecordingApi(), Clock()
    watch = GateWatch(
        nominator=Nominator(api, 1), timeout_seconds=lambda: 5.0, released=lambda pods: None, clock=clock
    )
    watch.replaced(
        [
            member("a"),
            member("b", nominated="n1"),
            member("w", "", group="pg"),
            member("y", "", nominated="n1"),
            member("z", ""),
        ]
    )
    clock.now += 60
    assert sorted(one.uid for one in watch.release_overdue()) == ["w", "y", "z"]
    watch.stop()


# --- random sets ------------------------------------------------------------------------------------------


def test_random_sets_with_contention_failing_patches_and_dying_planners_leave_no_gang_in_part():
    broken = [seed for seed in range(120) if not run_set(seed).sound]
    assert broken == []
