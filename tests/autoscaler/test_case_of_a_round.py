"""A workload decided first as if there were room, then with the room there is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.case import Case
from autoscaler.collect import Workload
from autoscaler.decide import decide
from autoscaler.selectors import parse_selector
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.targets import ScaleSight, Target
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference
from metrics.samples import NoData

TARGET = Target("apps/v1", "Deployment", "n", "llm")


def case(signals: Signals, **changes: Any) -> Case:
    policy = AutoscalingPolicy.model_validate(
        {"target": {"name": "llm"}, "maxReplicas": 20, "inFlight": {"perReplica": 10.0}, **changes}
    )
    sight = ScaleSight(TARGET, "/", signals.current, parse_selector("app=x"), ObjectReference())
    return Case.of(Workload(policy, sight), signals, None, 100.0)


situations = st.builds(
    lambda ready, starting, stuck, load: Signals(
        current=ready + starting + stuck,
        ready=ready,
        starting=starting,
        unschedulable=stuck,
        in_flight=load,
        request_rate=1.0,
    ),
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.floats(0.0, 300.0),
)


@given(situations, st.integers(0, 30) | st.just(NoData("not known")))
def test_deciding_in_two_steps_is_deciding_with_the_answer(signals: Signals, placeable: int | NoData):
    begun = case(signals)
    seen, decision = begun.decided(placeable)
    again = decide(begun.workload.policy, seen, None, 100.0)
    assert seen.placeable == placeable
    assert decision == again


@given(situations)
def test_without_a_wish_the_answer_would_change_nothing(signals: Signals):
    begun = case(signals)
    if begun.wish is None:
        assert begun.decided(None)[1] == decide(begun.workload.policy, signals, None, 100.0)


def test_a_workload_that_has_what_it_wants_asks_nothing():
    assert case(Signals(current=2, ready=2, in_flight=15.0, request_rate=1.0)).wish is None


def test_one_that_starts_tells_of_the_room_it_will_take_and_one_that_grows_asks():
    starting = case(Signals(current=2, ready=1, starting=1, in_flight=15.0, request_rate=1.0)).wish
    assert starting is not None
    assert not starting.grows
    growing = case(Signals(current=2, ready=2, in_flight=90.0, request_rate=1.0)).wish
    assert growing is not None
    assert (growing.grows, growing.wanted, growing.eventually) == (True, 6, 9)


def test_who_leaves_the_replicas_to_another_asks_nothing():
    signals = Signals(current=2, ready=2, in_flight=90.0, request_rate=1.0, other_writer="an HPA")
    assert case(signals).wish is None


def test_the_objective_missed_most_goes_first():
    slo = {"attainment": 0.99, "latencySeconds": 2.0}
    signals = Signals(current=2, ready=2, in_flight=90.0, request_rate=1.0, slo_missed=0.03)
    wish = case(signals, slo=slo).wish
    assert wish is not None
    assert abs(wish.missed - 3.0) < 1e-9
    assert case(signals).wish is not None
    assert signals.placeable == NOT_ASKED
