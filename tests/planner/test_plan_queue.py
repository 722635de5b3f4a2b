"""The plan queue: who waits, in which order, how often a refused pod comes back."""

from __future__ import annotations

import pytest

from cluster.wire import ObjectMeta, Pod, PodCondition, PodSpec, PodStatus, SchedulingGate
from scheduler.planner.queue import (
    IDLE_SCHEDULER_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PLAN_GATE,
    UNGATED_GRACE_SECONDS,
    PlanQueue,
    waits,
)

TRIED = PodCondition(type="PodScheduled", status="False", reason="Unschedulable")


def pod(
    uid="u1",
    *,
    node="",
    nominated="",
    gates=(),
    priority=0,
    created="2026-01-01T00:00:00Z",
    phase="Pending",
    refused=False,
):
    return Pod(
        metadata=ObjectMeta(name=uid, namespace="ns", uid=uid, creation_timestamp=created),
        spec=PodSpec(
            node_name=node,
            scheduler_name="default-scheduler",
            priority=priority,
            scheduling_gates=tuple(SchedulingGate(name=gate) for gate in gates),
        ),
        status=PodStatus(phase=phase, nominated_node_name=nominated, conditions=(TRIED,) if refused else ()),
    )


def queue(asks=lambda pod: True):
    return PlanQueue(asks_for_gpus=asks, ungated_grace_seconds=0.0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, True),
        ({"gates": (PLAN_GATE,)}, True),
        ({"gates": (PLAN_GATE, "quota.example/hold")}, False),
        ({"node": "n1"}, False),
        ({"nominated": "n1"}, False),
        ({"phase": "Failed"}, False),
    ],
)
def test_only_unbound_unnominated_pods_without_foreign_gates_wait(state, expected):
    assert waits(pod(**state)) is expected


def test_higher_priority_goes_first_then_the_older():
    waiting = queue()
    waiting.observe(pod("young", created="2026-01-01T00:00:05Z"), 0.0)
    waiting.observe(pod("old", created="2026-01-01T00:00:01Z"), 0.0)
    waiting.observe(pod("urgent", created="2026-01-01T00:00:09Z", priority=10), 0.0)
    assert [one.uid for one in waiting.due(0.0, 10)] == ["urgent", "old", "young"]


def test_pods_without_gpus_are_left_to_the_scheduler():
    waiting = queue(asks=lambda pod: False)
    assert not waiting.observe(pod(), 0.0)
    assert len(waiting) == 0


def test_pods_of_another_scheduler_are_not_ours():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True, scheduler_names=frozenset({"other"}))
    waiting.observe(pod(), 0.0)
    assert len(waiting) == 0


def test_a_fresh_ungated_pod_is_left_to_the_scheduler_for_a_moment_a_gated_one_is_planned_at_once():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True)
    waiting.observe(pod("free"), 10.0)
    waiting.observe(pod("gated", gates=(PLAN_GATE,)), 10.0)
    assert [one.uid for one in waiting.due(10.0, 10)] == ["gated"]
    late = 10.0 + UNGATED_GRACE_SECONDS
    assert {one.uid for one in waiting.due(late, 10)} == {"free", "gated"}


def test_pods_that_stand_in_a_queue_that_moves_are_left_to_the_scheduler():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True)
    for number in range(40):  # one pod a tenth of a second comes, each is bound 3 s later
        waiting.observe(pod(f"u{number}"), number / 10)
        if number >= 30:
            waiting.observe(pod(f"u{number - 30}", node="n1"), number / 10)
    assert waiting.due(3.9, 100) == []


def test_a_pod_that_the_scheduler_passes_over_again_and_again_is_planned():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True)
    waiting.observe(pod("left-out"), 0.0)
    for number in range(60):  # others come and are bound half a second later
        waiting.observe(pod(f"u{number}"), number / 10)
        if number >= 5:
            waiting.observe(pod(f"u{number - 5}", node="n1"), number / 10)
    assert [one.uid for one in waiting.due(5.9, 100)] == ["left-out"]


def test_when_the_scheduler_binds_nobody_any_more_who_waits_is_planned():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True)
    for uid in ("a", "b"):
        waiting.observe(pod(uid), 0.0)
    waiting.observe(pod("a", node="n1"), 1.0)
    assert waiting.due(1.0 + IDLE_SCHEDULER_SECONDS - 0.1, 10) == []
    assert [one.uid for one in waiting.due(1.0 + IDLE_SCHEDULER_SECONDS, 10)] == ["b"]


def test_a_pod_that_the_scheduler_tried_in_vain_is_planned_at_once():
    waiting = PlanQueue(asks_for_gpus=lambda pod: True)
    waiting.observe(pod("other"), 0.0)
    waiting.observe(pod("other", node="n1"), 0.1)
    assert not waiting.observe(pod("tried"), 0.2)
    assert waiting.observe(pod("tried", refused=True), 0.3)
    assert [one.uid for one in waiting.due(0.3, 10)] == ["tried"]


def test_a_refused_pod_comes_back_after_a_pause_that_doubles_up_to_a_limit():
    waiting = queue()
    waiting.observe(pod("u1"), 0.0)
    now = 0.0
    pauses = []
    for _ in range(8):
        waiting.tried("u1", now)
        assert waiting.due(now, 10) == []
        due = waiting.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
        assert [one.uid for one in waiting.due(now, 10)] == ["u1"]
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_the_pause_survives_a_nomination_that_the_scheduler_cleared():
    waiting = queue()
    waiting.observe(pod("u1"), 0.0)
    waiting.tried("u1", 0.0)
    waiting.observe(pod("u1", nominated="n1"), 0.1)
    assert len(waiting) == 0
    waiting.observe(pod("u1"), 0.2)
    assert waiting.due(0.3, 10) == []
    assert [one.uid for one in waiting.due(1.0, 10)] == ["u1"]


def test_freed_capacity_ends_every_pause():
    waiting = queue()
    waiting.observe(pod("u1"), 0.0)
    waiting.tried("u1", 0.0)
    waiting.capacity_freed()
    assert [one.uid for one in waiting.due(0.0, 10)] == ["u1"]


def test_a_fresh_list_drops_pods_it_lacks():
    waiting = queue()
    waiting.observe(pod("gone"), 0.0)
    waiting.replace_all([pod("here")], 1.0)
    assert [one.uid for one in waiting.due(1.0, 10)] == ["here"]


def test_a_gate_is_overdue_from_when_the_pod_was_first_seen():
    waiting = queue()
    waiting.observe(pod("u1", gates=(PLAN_GATE,)), 10.0)
    waiting.observe(pod("u1", gates=(PLAN_GATE,), priority=1), 25.0)
    assert waiting.overdue_gates(39.9, 30.0) == []
    assert [one.uid for one in waiting.overdue_gates(40.0, 30.0)] == ["u1"]
