"""The repacker's loop: holds the new places, asks before it evicts, follows until everybody has a node, and
writes nothing in a dry run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from autoscaler.evicting import Answer, Verdict
from autoscaler.repack_loop import RepackLoop
from cluster.api_errors import ApiUnreachable
from scheduler.repack.pace import Pace
from scheduler.repack.read import SceneReader
from tests.scheduler.fleet_objects import claim
from tests.scheduler.repack_objects import NOW, PROFILES, Town, a_pod, chain_of_two


@dataclass
class FakeHands:
    """Answers as scripted and notes what it was asked to do, in order."""

    refuse: dict[str, Answer] = field(default_factory=dict)
    tied_pods: dict[str, str] = field(default_factory=dict)
    done: list[tuple[str, ...]] = field(default_factory=list)
    on_evict: object = None
    on_note: object = None
    away: bool = False

    def tied(self, namespace, name):
        if self.away:
            raise ApiUnreachable("no answer")
        return self.tied_pods.get(name)

    def evict(self, namespace, name, uid, *, dry_run):
        self.done.append(("ask" if dry_run else "evict", name))
        answer = self.refuse.get(name, Answer(Verdict.EVICTED))
        if not dry_run and answer.verdict is Verdict.EVICTED and self.on_evict:
            self.on_evict(name)
        return answer

    def nominate(self, namespace, name, uid, node):
        self.done.append(("nominate", name, node))
        return ""

    def room_on(self, namespace, name, uid, node):
        self.done.append(("room on", name, node))
        if self.on_note:
            self.on_note(name, node)
        return ""

    def evictions(self):
        return [name for act, name, *_ in self.done if act == "evict"]


@dataclass
class Notes:
    plans: list[object] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def planned(self, made, seconds, *, dry_run):
        self.plans.append((made, dry_run))

    def evicted(self, move, verdict, reason):
        self.told.append((str(verdict), move.pod.name))

    def settled(self, move, outcome):
        self.told.append((outcome, move.pod.name))

    def relieved(self, relief, outcome):
        self.told.append((outcome, relief.waiter.name))


class Scene:
    """A town, a loop over it, and a cluster that answers evictions like a ReplicaSet."""

    def __init__(self, town: Town, **settings) -> None:
        self.town, self.hands, self.notes = town, FakeHands(), Notes()
        self.now = NOW
        decider = town.setting.decider
        town.setting.now = NOW
        self.loop = RepackLoop(
            decider=decider,
            census=town.census,
            reader=SceneReader(decider, town.census, town.budgets),
            hands=cast(Any, self.hands),
            policy=lambda: town.policy,
            active=lambda: True,
            observer=self.notes,
            notice_seconds=0.0,
            clock=lambda: self.now,
            **settings,
        )
        self.hands.on_evict = self.leaves
        self.hands.on_note = self.noted

    def leaves(self, name):
        """The pod is being deleted, and its ReplicaSet makes another at once."""
        old = self.pod(name)
        meta = msgspec.structs.replace(old.metadata, deletion_timestamp="2027-01-15T08:00:00Z")
        self.town.put_pod(msgspec.structs.replace(old, metadata=meta))

    def noted(self, name, node):
        """The note stands on the pod."""
        old = self.pod(name)
        notes = {"slicewise.io/room-on": node} if node else {}
        meta = msgspec.structs.replace(old.metadata, annotations=notes)
        self.town.put_pod(msgspec.structs.replace(old, metadata=meta))

    def successor_comes(self, name, profile, on=""):
        app = self.pod(name).metadata.labels["app"]
        self.town.fleet.apply_claim(claim(f"{name}-2-gpu", profile=PROFILES[profile], owner=f"{name}-2"))
        self.town.put_pod(a_pod(f"{name}-2", app=app, claims={"gpu": f"{name}-2-gpu"}, on=on))

    def is_gone(self, name):
        uid = f"uid-{name}"
        self.town.fleet.delete_pod(uid)
        self.town.fleet.delete_claim("default", f"{name}-gpu")
        self.town.census.drop_pod(uid)

    def is_bound(self, name, on, device_profile):
        self.town.runs(name, on, device_profile, app=self.pod(name).metadata.labels["app"])

    def pod(self, name):
        return next(pod for pod in reversed(self.town.pods) if pod.metadata.name == name)


def town_with_one_move(mode="on", **settings) -> Town:
    town = Town(mode=mode, savings=False, **settings)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("x", "a", (0, "1g", 0))
    town.runs("y", "b", (0, "1g", 1), wish="never")
    town.waits("big", "4g")
    return town


def test_a_dry_run_plans_and_writes_nothing():
    scene = Scene(town_with_one_move(mode="dry-run"))
    scene.loop.turn()
    before = scene.town.fleet.generation
    scene.now += 61
    scene.loop.turn()
    assert [move.pod.name for move in scene.notes.plans[0][0].moves] == ["x"]
    assert scene.notes.plans[0][1] is True
    assert scene.hands.done == []
    assert scene.notes.told == []
    assert not scene.town.fleet.facts.reservations
    assert scene.town.fleet.generation == before


def test_off_does_not_even_look():
    scene = Scene(town_with_one_move(mode="off"))
    scene.loop.turn()
    assert scene.notes.plans == []


def test_a_controller_that_may_not_write_only_plans():
    scene = Scene(town_with_one_move(), read_only=True)
    scene.loop.turn()
    assert scene.hands.done == []
    assert scene.notes.plans[0][1] is True


def test_one_relief_from_plan_to_end():
    scene = Scene(town_with_one_move())
    facts = scene.town.fleet.facts
    scene.loop.turn()
    # Asked first; the waiting pod nominated and both rooms held before anything is evicted.
    assert scene.hands.done == [
        ("ask", "x"),
        ("room on", "big", "a"),
        ("nominate", "big", "a"),
        ("evict", "x"),
    ]
    assert {held.node for held in facts.reservations.values()} == {"a", "b"}
    scene.successor_comes("x", "1g")
    scene.loop.turn()
    assert scene.hands.done[-1] == ("nominate", "x-2", "b")
    scene.is_bound("x-2", "b", (0, "1g", 2))
    scene.is_gone("x")
    scene.loop.turn()
    assert ("settled", "x") in scene.notes.told
    # The scheduler has dropped the nomination meanwhile: written again once the room is free.
    scene.now += 6
    scene.loop.turn()
    assert scene.hands.done[-1] == ("nominate", "big", "a")
    scene.is_bound("big", "a", (0, "4g", 0))
    scene.loop.turn()
    assert scene.notes.told == [("evicted", "x"), ("settled", "x"), ("helped", "big")]
    assert not facts.reservations
    assert scene.hands.evictions() == ["x"]


def test_a_refused_eviction_leaves_the_others_alone_and_backs_off():
    town = Town(mode="on", savings=False)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("x1", "a", (0, "1g", 0))
    town.runs("x2", "a", (0, "1g", 4))
    town.runs("w", "b", (0, "1g", 0), wish="never")
    town.waits("big", "7g")
    scene = Scene(town)
    scene.hands.refuse["x2"] = Answer(Verdict.REFUSED, "needs one more")
    scene.loop.turn()
    assert scene.hands.evictions() == []
    assert ("refused", "x2") in scene.notes.told
    assert not town.fleet.facts.reservations
    scene.now += 61
    scene.hands.done.clear()
    scene.town.policy = town.policy
    scene.loop.turn()
    assert ("ask", "x2") in scene.hands.done
    # Twice as long the second time.
    scene.now += 61
    scene.hands.done.clear()
    scene.loop.turn()
    assert scene.hands.done == []


def test_the_hourly_limit_holds_over_rounds():
    town = town_with_one_move(maxEvictionsPerHour=0)
    scene = Scene(town)
    scene.loop.turn()
    assert scene.hands.done == []
    assert "limit" in scene.notes.plans[0][0].unmet[0].reason


def test_evictions_are_forgotten_after_an_hour():
    pace = Pace()
    pace.evicted(0.0)
    pace.evicted(1000.0)
    assert pace.left(2000.0, 3) == 1
    assert pace.left(3601.0, 3) == 2
    assert pace.left(9999.0, 3) == 3


def test_moves_under_way_count_against_the_limit():
    scene = Scene(town_with_one_move(maxConcurrent=1))
    scene.loop.turn()
    scene.now += 61
    scene.loop.turn()
    assert len(scene.notes.plans) == 1


def test_a_successor_that_finds_no_node_is_reported_and_its_room_given_back():
    scene = Scene(town_with_one_move())
    scene.loop.turn()
    scene.now += 181
    scene.loop.turn()
    assert ("unsettled", "x") in scene.notes.told
    assert ("timed_out", "big") in scene.notes.told
    assert scene.hands.done[-1] == ("room on", "big", None)
    assert not scene.town.fleet.facts.reservations


def test_a_workload_that_was_deleted_meanwhile_holds_nothing_up():
    scene = Scene(town_with_one_move())
    scene.loop.turn()
    scene.is_gone("x")
    scene.loop.turn()
    assert ("unsettled", "x") not in scene.notes.told
    scene.now += 11
    scene.loop.turn()
    assert ("unsettled", "x") in scene.notes.told


def test_a_pod_that_lands_in_the_way_is_noticed_and_all_planned_anew():
    scene = Scene(town_with_one_move())
    scene.loop.turn()
    scene.successor_comes("x", "1g")
    scene.is_bound("x-2", "a", (0, "1g", 1))
    scene.is_gone("x")
    scene.loop.turn()
    assert ("elsewhere", "x") in scene.notes.told
    scene.now += 6
    scene.loop.turn()
    assert ("timed_out", "big") in scene.notes.told
    assert ("room on", "big", None) in scene.hands.done
    scene.loop.turn()
    assert scene.hands.evictions() == ["x", "x-2"]


def test_a_look_leaves_alone_who_is_being_helped():
    scene = Scene(town_with_one_move())
    scene.loop.turn()
    scene.now += 61
    scene.loop.turn()
    assert len(scene.notes.plans) == 2
    assert scene.notes.plans[1][0].moves == ()
    assert scene.hands.evictions() == ["x"]


def test_a_pod_with_a_volume_is_left_and_another_found():
    town = Town(mode="on", savings=False)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("x", "a", (0, "1g", 0))
    town.runs("y", "b", (0, "1g", 1))
    town.waits("big", "4g")
    scene = Scene(town)
    first = scene.loop._plan(town.policy).moves[0].pod.name
    other = {"x": "y", "y": "x"}[first]
    scene.hands.tied_pods[first] = "has a persistent volume"
    scene.loop.turn()
    assert scene.hands.evictions() == [other]


def test_a_pod_that_could_not_be_looked_at_once_is_looked_at_again():
    scene = Scene(town_with_one_move())
    scene.hands.away = True
    scene.loop.round()
    assert scene.hands.evictions() == []
    scene.hands.away = False
    scene.loop.round()
    assert len(scene.hands.evictions()) == 1


def test_a_target_taken_meanwhile_stops_the_move():
    scene = Scene(town_with_one_move())
    made = scene.loop._plan(scene.town.policy)
    scene.town.runs("late", "b", (0, "4g", 0), wish="never")
    scene.town.runs("later", "b", (0, "3g", 4), wish="never")
    scene.loop._carry_out(made, scene.town.policy)
    assert scene.hands.done == []


def test_a_move_that_saves_money_is_followed_too():
    town = Town(mode="on", savings=True, evictionCost=0.0, horizonHours=1000.0)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("full", "a", (0, "3g", 0), wish="never")
    town.runs("lonely", "b", (0, "1g", 3))
    scene = Scene(town)
    scene.loop.turn()
    assert scene.hands.evictions() == ["lonely"]
    scene.successor_comes("lonely", "1g")
    scene.is_bound("lonely-2", "a", (0, "1g", 6))
    scene.loop.turn()
    assert scene.notes.told[-1] == ("settled", "lonely")


def test_a_chain_moves_the_first_pod_and_plans_the_rest_anew():
    town = Town(mode="on", savings=False)
    chain_of_two(town)
    scene = Scene(town)
    scene.loop.turn()
    assert scene.hands.evictions() == ["one"]
    scene.successor_comes("one", "1g")
    scene.is_bound("one-2", "c", (0, "1g", 2))
    scene.is_gone("one")
    scene.loop.turn()
    scene.loop.turn()
    assert scene.hands.evictions() == ["one", "three"]
    assert ("nominate", "big", "a") in scene.hands.done


def test_a_floor_that_breaks_between_plan_and_eviction_holds_the_pod_back():
    """The replica that made x one to spare dies while the plan is made."""
    classes = [{"name": "spot", "match": {"capacity": "spot"}, "gpuHour": 0.5, "interruptionsPerHour": 0.1}]
    town = Town(classes, mode="on", savings=False)
    for name, capacity in (("a", "bought"), ("c", "bought"), ("s", "spot")):
        town.dra_node(name, labels={"capacity": capacity})
    town.runs("x", "a", (0, "1g", 0), app="x", floor="1")
    town.runs("x-too", "c", (0, "7g", 0), app="x", floor="1", wish="never")
    town.runs("s-stays", "s", (0, "4g", 0), wish="never")
    town.waits("big", "4g")
    scene = Scene(town)
    tied = scene.hands.tied

    def dies(namespace, name):
        scene.is_gone("x-too")
        return tied(namespace, name)

    scene.hands.tied = dies
    made = scene.loop.round()
    assert [(move.pod.name, move.target) for move in made.moves] == [("x", "s")]
    assert scene.hands.evictions() == []
    assert scene.loop.latest is made
