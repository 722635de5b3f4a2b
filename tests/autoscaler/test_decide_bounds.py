"""Bounds, steps, a pause by hand and panic: what holds beside the rules of ``test_rules``."""

from __future__ import annotations

from autoscaler import reasons
from autoscaler.decide import decide
from autoscaler.state import State
from tests.autoscaler.decisions import NOW, OUTAGE, policy, serving, settled, watched


def test_a_target_set_to_zero_by_hand_is_left_alone():
    decision = decide(policy(), serving(0, OUTAGE), None, NOW)
    assert (decision.replicas, decision.reasons[0].code) == (0, reasons.PAUSED)


def test_bounds_go_before_everything_and_are_named():
    above = settled(policy(maxReplicas=6), serving(6, 1600.0))
    assert above.replicas == 6
    assert above.reasons[0].code == reasons.AT_MAXIMUM
    assert settled(policy(maxReplicas=3), serving(6, 1600.0)).replicas == 3
    below = settled(policy(minReplicas=4), serving(4, 0.0, request_rate=0.0))
    assert below.replicas == 4
    assert below.reasons[0].code == reasons.AT_MINIMUM


def test_lowering_goes_in_steps_with_a_pause_to_see_the_survivors():
    first = decide(policy(), serving(40, 16.0), watched(40), NOW)
    assert first.replicas == 20
    assert {r.code for r in first.reasons} >= {reasons.IN_FLIGHT_NEEDS_FEWER, reasons.STEP_LIMITED}
    paused = decide(policy(), serving(20, 16.0), first.state, NOW + 30.0)
    assert paused.replicas == 20
    assert paused.reasons[0].code == reasons.STEP_WAIT
    assert decide(policy(), serving(20, 16.0), first.state, NOW + 61.0).replicas == 10


def test_panic_raises_at_once_and_forbids_lowering_for_a_window():
    calm = policy(scaleUp={"stabilisationSeconds": 60.0})
    ready = policy(scaleUp={"stabilisationSeconds": 60.0}, panic={"threshold": 2.0})
    low = State.begun(4, NOW)
    burst = serving(4, 16.0 * 8)
    assert decide(calm, burst, low, NOW + 1.0).replicas == 4
    first = decide(ready, burst, low, NOW + 1.0)
    assert first.replicas == 8
    again = decide(ready, serving(8, 0.0), first.state, NOW + 290.0)
    assert (again.replicas, again.reasons[0].code) == (8, reasons.PANIC)
    assert decide(ready, serving(8, 0.0), again.state, NOW + 600.0).replicas == 4
