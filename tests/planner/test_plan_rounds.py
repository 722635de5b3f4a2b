"""Rounds of the planner: plan in order, nominate, ungate; a failing API never holds a pod."""

from __future__ import annotations

import json
import threading

from cluster.client import MERGE_PATCH, STRATEGIC_MERGE_PATCH, ApiRefused
from cluster.policy import Planner
from scheduler.planner.gates import GRACE_SECONDS, GateWatch
from scheduler.planner.loop import STALE_SECONDS, PlannerLoop
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.plan import Chosen, Nowhere
from scheduler.planner.queue import PLAN_GATE, WaitingPod
from tests.planner.test_plan_queue import pod
from tests.polling import SOON_SECONDS


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class RecordingApi:
    """Stands where the API server would: remembers patches, refuses as told."""

    def __init__(self, refuse=None):
        self.patches = []
        self.refuse = refuse or {}
        self.lock = threading.Lock()

    def patch(self, path, body, content_type):
        with self.lock:
            self.patches.append((path, json.loads(body), content_type))
        status = self.refuse.get(path)
        if status:
            raise ApiRefused(status=status, reason="Refused", message="as the test wants")


class TwoSlots:
    """A chooser with room for two pods on one node."""

    def __init__(self):
        self.left = 2

    def choose(self, pod, hold_seconds):
        if self.left == 0:
            return Nowhere("no node has a free GPU")
        self.left -= 1
        return Chosen("n1", 1.5)

    def release(self, uid):
        self.left += 1


class Seen:
    def __init__(self):
        self.rounds = []
        self.timed_out = []
        self.fates = []

    def settled(self, fate):
        self.fates.append(fate)

    def planned(self, made, outcomes, seconds):
        self.rounds.append((made, list(outcomes)))

    def gates_timed_out(self, pods):
        self.timed_out += [one.uid for one in pods]


def loop(api, *, clock=None, active=lambda: True, policy=None):
    seen = Seen()
    planner = PlannerLoop(
        asks_for_gpus=lambda pod: True,
        chooser=TwoSlots(),
        nominator=Nominator(api, 2),
        policy=lambda: policy or Planner(),
        active=active,
        observer=seen,
        ungated_grace_seconds=0.0,
        clock=clock or Clock(),
    )
    return planner, seen


def test_a_round_nominates_in_order_and_reports_whom_no_node_can_take():
    api = RecordingApi()
    planner, seen = loop(api)
    planner.replaced([pod("a", created="1"), pod("b", created="2"), pod("c", created="3")])
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.waiting.uid for one in made.nominations] == ["a", "b"]
    assert [(one.waiting.uid, one.reason) for one in made.unplaced] == [("c", "no node has a free GPU")]
    assert seen.rounds[0][1] == [Outcome.DONE, Outcome.DONE]
    path, body, content_type = sorted(api.patches, key=lambda patch: patch[0])[0]
    assert path == "/api/v1/namespaces/ns/pods/a/status"
    assert body == {"metadata": {"uid": "a"}, "status": {"nominatedNodeName": "n1"}}
    assert content_type == MERGE_PATCH


def test_a_gated_pod_is_nominated_first_and_ungated_after():
    api = RecordingApi()
    planner, _ = loop(api)
    planner.replaced([pod("a", gates=(PLAN_GATE,))])
    planner.round()
    planner.stop()
    assert [content_type for _, _, content_type in api.patches] == [MERGE_PATCH, STRATEGIC_MERGE_PATCH]
    assert api.patches[1][1]["spec"]["schedulingGates"] == [{"$patch": "delete", "name": PLAN_GATE}]


def test_a_gate_goes_even_when_the_nomination_fails():
    api = RecordingApi(refuse={"/api/v1/namespaces/ns/pods/a/status": 500})
    planner, seen = loop(api)
    planner.replaced([pod("a", gates=(PLAN_GATE,))])
    planner.round()
    planner.stop()
    assert seen.rounds[0][1] == [Outcome.FAILED]
    assert api.patches[-1][2] == STRATEGIC_MERGE_PATCH


def test_a_bound_or_vanished_pod_is_no_error():
    api = RecordingApi(
        refuse={"/api/v1/namespaces/ns/pods/a/status": 403, "/api/v1/namespaces/ns/pods/b/status": 404}
    )
    planner, seen = loop(api)
    planner.replaced([pod("a", created="1"), pod("b", created="2")])
    planner.round()
    planner.stop()
    assert seen.rounds[0][1] == [Outcome.BOUND, Outcome.GONE]


def test_a_follower_or_a_switched_off_planner_writes_nothing():
    for active, policy in ((lambda: False, Planner()), (lambda: True, Planner(enabled=False))):
        api = RecordingApi()
        planner, _ = loop(api, active=active, policy=policy)
        planner.replaced([pod("a")])
        assert planner.round() is None
        planner.stop()
        assert api.patches == []


def test_an_unplaceable_gated_pod_loses_its_gate_at_the_timeout():
    api, clock = RecordingApi(), Clock()
    planner, seen = loop(api, clock=clock, policy=Planner(gate_timeout_seconds=30.0))
    planner.replaced(
        [pod("a", created="1"), pod("b", created="2"), pod("c", created="3", gates=(PLAN_GATE,))]
    )
    planner.round()
    clock.now += 31
    planner.round()
    planner.stop()
    assert seen.timed_out == ["c"]
    assert api.patches[-1][0] == "/api/v1/namespaces/ns/pods/c"


def test_the_thread_plans_what_the_watch_brings():
    api = RecordingApi()
    done = threading.Event()
    planner, seen = loop(api, policy=Planner(batch_milliseconds=1.0))
    planned = seen.planned

    def planned_and_done(*arguments):
        planned(*arguments)
        done.set()

    seen.planned = planned_and_done
    planner.start()
    planner.changed("ADDED", pod("a"))
    assert done.wait(SOON_SECONDS)
    planner.stop()
    assert [one.waiting.uid for one in seen.rounds[0][0].nominations] == ["a"]


def test_what_became_of_each_nomination_is_told():
    planner, seen = loop(RecordingApi())
    planner.replaced([pod("a", created="1"), pod("b", created="2")])
    planner.round()
    planner.changed("MODIFIED", pod("a", nominated="n1"))
    planner.changed("MODIFIED", pod("b", nominated="n1"))
    planner.changed("MODIFIED", pod("a", node="n1"))
    planner.changed("MODIFIED", pod("b"))
    planner.stop()
    assert seen.fates == ["honoured", "refused"]


def test_a_pod_that_runs_elsewhere_or_vanishes_is_told_too():
    planner, seen = loop(RecordingApi())
    planner.replaced([pod("a", created="1"), pod("b", created="2")])
    planner.round()
    planner.changed("MODIFIED", pod("a", node="n2"))
    planner.replaced([pod("a", node="n2")])
    planner.stop()
    assert seen.fates == ["elsewhere", "expired"]


def test_the_gate_watch_frees_pods_when_no_planner_lives():
    api, clock = RecordingApi(), Clock()
    released: list[WaitingPod] = []
    watch = GateWatch(
        nominator=Nominator(api, 1), timeout_seconds=lambda: 5.0, released=released.extend, clock=clock
    )
    watch.replaced([pod("a", gates=(PLAN_GATE,)), pod("b")])
    clock.now += 5.0 + GRACE_SECONDS - 0.1
    assert watch.release_overdue() == []
    clock.now += 0.2
    assert [one.uid for one in watch.release_overdue()] == ["a"]
    watch.stop()
    assert [one.uid for one in released] == ["a"]
    assert len(api.patches) == 1


def test_the_gate_watch_forgets_pods_whose_gate_went_otherwise():
    api, clock = RecordingApi(), Clock()
    watch = GateWatch(
        nominator=Nominator(api, 1), timeout_seconds=lambda: 5.0, released=lambda pods: None, clock=clock
    )
    watch.replaced([pod("a", gates=(PLAN_GATE,))])
    watch.changed("MODIFIED", pod("a"))
    clock.now += 60
    assert watch.release_overdue() == []
    watch.stop()


def test_a_nomination_for_a_node_that_went_away_is_withdrawn_and_the_pod_planned_again():
    api, clock, gone = RecordingApi(), Clock(), set()
    planner, seen = loop(api, clock=clock)
    planner._still_holds = lambda pod, node, look_at_room: node not in gone
    planner.replaced([pod("a")])
    planner.round()
    planner.changed("MODIFIED", pod("a", nominated="n1"))
    planner.round()
    assert len(api.patches) == 1
    gone.add("n1")
    planner.nodes_changed()
    planner.round()
    assert api.patches[-1][0] == "/api/v1/namespaces/ns/pods/a/status"
    assert api.patches[-1][1]["status"] == {"nominatedNodeName": None}
    assert seen.fates == ["withdrawn"]
    planner.changed("MODIFIED", pod("a"))
    clock.now += 2
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.waiting.uid for one in made.nominations] == ["a"]


def test_an_old_nomination_without_room_is_withdrawn_a_fresh_one_is_left_to_the_scheduler():
    api, clock = RecordingApi(), Clock()
    planner, seen = loop(api, clock=clock)
    planner._still_holds = lambda pod, node, look_at_room: not look_at_room
    planner.replaced([pod("a")])
    planner.round()
    planner.changed("MODIFIED", pod("a", nominated="n1"))
    clock.now += STALE_SECONDS - 1
    planner.round()
    assert seen.fates == []
    clock.now += 2
    planner.round()
    planner.stop()
    assert seen.fates == ["withdrawn"]
