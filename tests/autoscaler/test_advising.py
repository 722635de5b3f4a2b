"""A policy that advises: decided like any other, never written; the state follows what somebody else did."""

from __future__ import annotations

import random
from typing import Any

import pytest

from autoscaler.following import followed
from autoscaler.signals import Signals
from autoscaler.state import Raise, State
from autoscaler.targets import ScaleSight
from metrics.samples import NoData
from tests.autoscaler.test_control_rounds import Bench, Scales, policy

PLATEAU = 30  # rounds


def bench(replicas: int = 1, load: float | NoData = 48.0, **changes: Any) -> Bench:
    return Bench(Scales({"a": replicas}), {"a": load}, {("n", "a-policy"): policy("a", **changes)})


def test_advice_is_decided_and_counted_and_not_written():
    scene = bench(actuator="advise")
    controller = scene.controller()
    for _ in range(3):
        controller.round()
        scene.now += 5.0
    assert scene.scales.written == []
    assert scene.said.events == []
    (view,) = controller.views
    assert (view.decision.replicas, view.written, view.decided_at_seconds) == (3, False, scene.now - 5.0)
    assert scene.metric("slicewise_autoscaler_desired_replicas", "a") == 3
    controller.close()


@pytest.mark.parametrize("seed", range(5))
def test_an_actuator_that_follows_at_once_ends_where_writing_does(seed: int):
    """A deed is seen a round later than one of our own; what each level of load comes to is the same."""
    loads = [random.Random(seed * 1000 + n // PLATEAU).uniform(1.0, 140.0) for n in range(12 * PLATEAU)]
    counts: dict[str, list[int]] = {}
    for actuator in ("write", "advise"):
        scene = bench(actuator=actuator, coldStartSeconds=0.0, scaleDown={"stabilisationSeconds": 20.0})
        controller = scene.controller()
        counts[actuator] = []
        for load in loads:
            scene.loads["a"] = load
            controller.round()
            if actuator == "advise":
                scene.scales.replicas["a"] = controller.views[0].decision.replicas
            counts[actuator].append(scene.scales.replicas["a"])
            scene.now += 5.0
        controller.close()
    settled = {actuator: found[PLATEAU - 1 :: PLATEAU] for actuator, found in counts.items()}
    assert settled["advise"] == settled["write"]
    assert len(set(settled["write"])) > 3


def signals(current: int, in_flight: float | NoData = 40.0) -> Signals:
    return Signals(current=current, ready=current, in_flight=in_flight)


def test_a_count_that_rose_answers_the_need_of_the_last_advice():
    state = State.begun(2, 0.0)
    assert followed(state, signals(2), 4, 30.0).last_raise == Raise(30.0, 40.0)
    assert followed(state, signals(2, NoData("gone", "outage")), 4, 30.0).last_raise == Raise(30.0, 0.0)
    assert followed(state, signals(2), 2, 30.0) is state


def test_a_count_that_fell_after_a_raise_is_a_turn():
    state = followed(State.begun(2, 0.0), signals(2), 4, 30.0)
    lowered = followed(state, signals(4), 3, 60.0)
    assert (lowered.last_lower_seconds, lowered.turns_seconds) == (60.0, (60.0,))
    again = followed(lowered, signals(3), 2, 90.0)
    assert (again.last_lower_seconds, again.turns_seconds) == (90.0, (60.0,))


@pytest.mark.parametrize("dry_run", [False, True])
def test_those_that_shall_go_are_marked_whoever_lowers(dry_run: bool):
    scene = bench(replicas=6, load=8.0, actuator="advise", scaleDown={"stabilisationSeconds": 0.0})
    marked: list[tuple[str, int]] = []

    class Victims:
        def mark(self, sight: ScaleSight, going: int) -> None:
            marked.append((sight.target.name, going))

    controller = scene.controller(victims=Victims(), dry_run=dry_run)
    controller.round()
    (view,) = controller.views
    controller.close()
    assert view.decision.replicas < 6
    assert marked == ([] if dry_run else [("a", 6 - view.decision.replicas)])
    assert scene.scales.written == []
