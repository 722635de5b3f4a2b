"""The rules that other autoscalers' open bugs taught; each test bears the number of its rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoscaler import reasons
from autoscaler.decide import decide
from autoscaler.state import Raise, State
from autoscaler.victims import Candidate, deletion_costs, order_of_going
from tests.autoscaler.decisions import NOT_A_NUMBER, NOW, OUTAGE, policy, serving, settled, watched


def test_rule_1_in_flight_is_a_sum_divided_by_the_share_of_one_replica():
    assert settled(policy(), serving(4, 160.0)).replicas == 8  # 10 are needed, one step doubles
    assert settled(policy(scaleUp={"maxStepReplicas": 20}), serving(4, 160.0)).replicas == 10
    assert settled(policy(scaleUp={"maxStepReplicas": 20}), serving(4, 161.0)).replicas == 11


def test_rule_1_the_reason_names_load_share_and_need():
    first = settled(policy(), serving(4, 112.0)).reasons[0]
    assert first.code == reasons.IN_FLIGHT_NEEDS_MORE
    assert first.sentence == (
        "112 requests in flight at 16 a replica need 7; 4 are there (4 ready, 0 starting)"
    )


def test_rule_2_replicas_that_start_are_supply():
    starting = serving(6, 96.0, ready=2, starting=4)
    assert settled(policy(), starting).replicas == 6
    assert settled(policy(), replace(starting, in_flight=112.0)).replicas == 7


def test_rule_2_looking_again_while_replicas_start_asks_for_no_more():
    state: State | None = watched(2)
    now, current, ready = NOW, 2, 2
    for _ in range(11):
        signals = serving(current, 64.0, ready=ready, starting=current - ready)
        decision = decide(policy(), signals, state, now)
        current, state, now = decision.replicas, decision.state, now + 5.0
    assert current == 4


def test_rule_3_lowers_only_if_the_survivors_hold_the_load_with_margin():
    tight = settled(policy(), serving(5, 16.0 * 4))
    assert tight.replicas == 5
    assert tight.reasons[0].code == reasons.SURVIVORS_TOO_FEW
    assert settled(policy(), serving(5, 16.0 * 3.6)).replicas == 4


def test_rule_3_two_replicas_at_half_load_do_not_bounce_to_one_and_back():
    half = serving(2, 15.5)
    assert settled(policy(), half).replicas == 2


def test_rule_4_latency_raises_by_one_replica():
    slow = policy(latency={"p95Seconds": 0.8})
    decision = settled(slow, serving(4, 60.0, p95_seconds=2.0))
    assert decision.replicas == 5
    assert decision.reasons[0].code == reasons.LATENCY_NEEDS_MORE


def test_rule_4_latency_forbids_lowering_near_its_target():
    near = policy(latency={"p95Seconds": 0.8})
    decision = settled(near, serving(4, 16.0, p95_seconds=0.78))
    assert decision.replicas == 4
    assert decision.reasons[0].code == reasons.LATENCY_FORBIDS_FEWER
    assert settled(near, serving(4, 16.0, p95_seconds=0.3)).replicas == 2


def test_rule_4_latency_alone_never_lowers():
    fast = policy(latency={"p95Seconds": 0.8})
    assert settled(fast, serving(4, 64.0, p95_seconds=0.001)).replicas == 4
    latency_only = policy(inFlight=None, latency={"p95Seconds": 0.8})
    assert settled(latency_only, serving(4, OUTAGE, p95_seconds=0.001)).replicas == 4


def test_rule_4_latency_waits_until_it_shows_the_last_raise():
    slow = policy(latency={"p95Seconds": 0.8, "windowSeconds": 60.0}, coldStartSeconds=60.0)
    for ago, expected in ((30.0, 4), (119.0, 4), (121.0, 5)):
        state = replace(watched(4), last_raise=Raise(NOW - ago, 60.0))
        assert decide(slow, serving(4, 60.0, p95_seconds=2.0), state, NOW).replicas == expected


def test_rule_4_latency_stops_asking_where_replicas_cannot_help():
    slow = policy(latency={"p95Seconds": 0.8})
    decision = settled(slow, serving(8, 8.0, p95_seconds=9.0))
    assert decision.replicas == 8
    assert reasons.LATENCY_BEYOND_REPLICAS in {r.code for r in decision.reasons}


def test_rule_5_not_a_number_with_nothing_happening_is_idle():
    idle = serving(4, 0.0, request_rate=0.0, p95_seconds=NOT_A_NUMBER)
    assert settled(policy(latency={"p95Seconds": 0.8}), idle).replicas < 4


@pytest.mark.parametrize(
    "traffic",
    [
        {"in_flight": 3.0, "request_rate": 0.0},
        {"in_flight": 0.0, "request_rate": 0.5},
        {"in_flight": 0.0, "request_rate": OUTAGE},
    ],
)
def test_rule_5_not_a_number_with_traffic_is_unknown(traffic: dict[str, Any]):
    signals = replace(serving(4, 0.0, p95_seconds=NOT_A_NUMBER), **traffic)
    decision = settled(policy(latency={"p95Seconds": 0.8}), signals)
    assert decision.replicas == 4
    assert decision.reasons[0].code == reasons.LATENCY_UNKNOWN


def test_rule_5_idle_ends_at_one_replica_since_nothing_could_ask_for_it_back():
    idle = serving(1, 0.0, request_rate=0.0)
    decision = settled(policy(minReplicas=0), idle)
    assert decision.replicas == 1
    assert reasons.ZERO_NEEDS_QUEUE in {r.code for r in decision.reasons}


def test_rule_6_an_outage_holds_what_runs():
    decision = settled(policy(), serving(7, OUTAGE))
    assert decision.replicas == 7
    assert decision.reasons[0].code == reasons.METRICS_MISSING
    assert "connection refused" in decision.reasons[0].sentence


def test_rule_6_an_outage_never_leaves_less_than_the_minimum():
    assert settled(policy(minReplicas=9), serving(7, OUTAGE)).replicas == 9


def test_rule_6_after_a_set_time_an_outage_goes_to_the_larger_of_current_and_fallback():
    careful = policy(outage={"fallbackAfterSeconds": 600.0, "fallbackReplicas": 9})
    state = decide(careful, serving(7, OUTAGE), watched(7), NOW).state
    assert decide(careful, serving(7, OUTAGE), state, NOW + 599.0).replicas == 7
    late = decide(careful, serving(7, OUTAGE), state, NOW + 600.0)
    assert late.replicas == 9
    assert late.reasons[0].code == reasons.FALLBACK
    assert decide(careful, serving(12, OUTAGE), state, NOW + 600.0).replicas == 12


def test_rule_6_an_answer_in_between_starts_the_outage_clock_again():
    careful = policy(outage={"fallbackAfterSeconds": 600.0, "fallbackReplicas": 9})
    state = decide(careful, serving(7, OUTAGE), watched(7), NOW).state
    state = decide(careful, serving(7, 7 * 16.0), state, NOW + 300.0).state
    state = decide(careful, serving(7, OUTAGE), state, NOW + 310.0).state
    assert decide(careful, serving(7, OUTAGE), state, NOW + 700.0).replicas == 7


def test_rule_6_the_first_number_after_an_outage_does_not_lower():
    state = decide(policy(), serving(7, OUTAGE), watched(7), NOW).state
    decision = decide(policy(), serving(7, 0.0, request_rate=0.0), state, NOW + 5.0)
    assert decision.replicas == 7
    assert decision.reasons[0].code == reasons.STABILISING


def test_rule_6_no_ready_replica_is_waiting_and_not_an_outage():
    careful = policy(outage={"fallbackAfterSeconds": 1.0, "fallbackReplicas": 9})
    state: State | None = watched(2)
    for step in range(5):
        decision = decide(careful, serving(2, OUTAGE, ready=0, starting=2), state, NOW + 60.0 * step)
        state = decision.state
        assert decision.replicas == 2
        assert decision.reasons[0].code == reasons.NO_READY_REPLICA


def test_rule_6_ready_pods_that_report_nothing_count_as_full_when_lowering_and_empty_when_raising():
    assert settled(policy(), serving(10, 40.0, silent=3)).replicas == 7  # 88 in flight at worst
    assert settled(policy(), serving(10, 40.0, silent=8)).replicas == 10
    assert settled(policy(), serving(4, 63.0, silent=2)).replicas == 4


def test_rule_7_a_raise_answers_the_shortfall_once_a_start_up_time():
    limits = policy(scaleUp={"maxStepPercent": 50.0, "maxStepReplicas": 2}, coldStartSeconds=120.0)
    first = decide(limits, serving(4, 160.0), watched(4), NOW)
    assert first.replicas == 6
    starting = serving(6, 160.0, ready=4, starting=2)
    again = decide(limits, starting, first.state, NOW + 5.0)
    assert again.replicas == 6
    assert again.reasons[0].code == reasons.COLD_START_WAIT
    assert decide(limits, starting, first.state, NOW + 119.0).replicas == 6
    assert decide(limits, starting, first.state, NOW + 121.0).replicas == 9


def test_rule_7_the_wait_ends_when_the_replicas_serve():
    limits = policy(scaleUp={"maxStepPercent": 50.0, "maxStepReplicas": 2}, coldStartSeconds=120.0)
    first = decide(limits, serving(4, 160.0), watched(4), NOW)
    assert decide(limits, serving(6, 160.0), first.state, NOW + 20.0).replicas == 9


def test_rule_7_growth_of_in_flight_is_answered_by_what_it_is_worth():
    first = decide(policy(), serving(4, 128.0), watched(4), NOW)
    assert first.replicas == 8
    grown = serving(8, 192.0, ready=4, starting=4)
    second = decide(policy(), grown, first.state, NOW + 5.0)
    assert second.replicas == 12  # 64 more in flight are worth 4, though 100 % would allow 16


def test_rule_7_the_measured_start_goes_before_the_stated_one():
    limits = policy(scaleUp={"maxStepPercent": 50.0, "maxStepReplicas": 2}, coldStartSeconds=600.0)
    first = decide(limits, serving(4, 160.0), watched(4), NOW)
    starting = serving(6, 160.0, ready=4, starting=2, cold_start_seconds=20.0)
    assert decide(limits, starting, first.state, NOW + 21.0).replicas == 9


def test_rule_8_each_direction_has_its_own_tolerance():
    wide = policy(scaleUp={"tolerance": 0.5}, scaleDown={"tolerance": 0.5, "margin": 0.0})
    assert settled(wide, serving(10, 16.0 * 14.9)).replicas == 10
    assert settled(wide, serving(10, 16.0 * 15.1)).replicas == 16
    assert settled(wide, serving(10, 16.0 * 5.1)).replicas == 10
    assert settled(wide, serving(10, 16.0 * 4.9)).replicas == 5


def test_rule_8_a_dip_shorter_than_the_window_changes_nothing():
    state: State | None = None
    for step in range(200):
        load = 16.0 * 10 if step % 40 else 0.0
        decision = decide(policy(), serving(10, load), state, NOW + 5.0 * step)
        state = decision.state
        assert decision.replicas == 10


def test_rule_8_a_peak_shorter_than_the_raise_window_changes_nothing():
    slow = policy(scaleUp={"stabilisationSeconds": 30.0})
    state: State | None = None
    for step in range(60):
        load = 16.0 * 20 if step % 5 == 4 else 16.0 * 10
        decision = decide(slow, serving(10, load), state, NOW + 5.0 * step)
        state = decision.state
        assert decision.replicas == 10


def test_rule_8_windows_are_time_and_not_counted_periods():
    quick = decide(policy(), serving(10, 160.0), None, NOW).state
    slow = quick
    for step in range(1, 60):
        quick = decide(policy(), serving(10, 16.0), quick, NOW + 5.0 * step).state
    assert decide(policy(), serving(10, 16.0), quick, NOW + 299.0).replicas == 10
    assert decide(policy(), serving(10, 16.0), quick, NOW + 301.0).replicas == 5
    slow = decide(policy(), serving(10, 16.0), slow, NOW + 150.0).state
    assert decide(policy(), serving(10, 16.0), slow, NOW + 301.0).replicas == 5


def test_rule_9_unschedulable_replicas_are_not_asked_for_again():
    stuck = serving(10, 16.0 * 20, ready=6, unschedulable=4)
    decision = settled(policy(), stuck)
    assert decision.replicas == 10
    assert decision.reasons[0].code == reasons.UNSCHEDULABLE
    assert "4 of 10 cannot be placed" in decision.reasons[0].sentence
    assert settled(policy(), replace(stuck, ready=10, unschedulable=0)).replicas == 20


def test_rule_10_busy_gpus_forbid_lowering():
    guard = policy(gpuUtilisation={"scaleDownBelow": 0.5})
    assert settled(guard, serving(4, 16.0, gpu_utilisation=0.6)).replicas == 4
    assert settled(guard, serving(4, 16.0, gpu_utilisation=0.4)).replicas == 2
    blind = settled(guard, serving(4, 16.0, gpu_utilisation=OUTAGE))
    assert blind.replicas == 4
    assert blind.reasons[0].code == reasons.GPU_UNKNOWN


def test_rule_10_gpu_utilisation_adds_one_replica_only_where_the_policy_says_so():
    silent = policy(gpuUtilisation={"scaleDownBelow": 0.5})
    asking = policy(gpuUtilisation={"scaleDownBelow": 0.5, "scaleUpAbove": 0.9})
    assert settled(silent, serving(4, 60.0, gpu_utilisation=0.99)).replicas == 4
    assert settled(asking, serving(4, 60.0, gpu_utilisation=0.99)).replicas == 5


def test_rule_11_a_restart_lowers_nothing_until_one_full_window_was_seen():
    state: State | None = None
    for step in range(60):
        decision = decide(policy(), serving(10, 16.0), state, NOW + 5.0 * step)
        state = decision.state
        assert decision.replicas == 10
    assert decide(policy(), serving(10, 16.0), state, NOW + 300.0).replicas == 5


def test_rule_11_a_restart_may_raise_at_once():
    assert decide(policy(), serving(4, 16.0 * 8), None, NOW).replicas == 8


def test_rule_9_no_more_than_can_be_placed_is_asked_for_and_the_rest_is_reported():
    decision = settled(policy(), serving(10, 16.0 * 20, placeable=13))
    assert decision.replicas == 13
    assert reasons.NOT_PLACEABLE in {r.code for r in decision.reasons}
    full = settled(policy(), serving(10, 16.0 * 20, placeable=10))
    assert (full.replicas, full.reasons[0].code) == (10, reasons.NOT_PLACEABLE)
    assert "20 replicas are wanted, 10 can be placed" in full.reasons[0].sentence


def test_rule_9_refused_replicas_are_taken_back_and_asked_for_again_when_room_frees():
    stuck = serving(10, 16.0 * 20, ready=6, unschedulable=4, placeable=6)
    taken_back = settled(policy(), stuck)
    assert (taken_back.replicas, taken_back.reasons[0].code) == (6, reasons.NOT_PLACEABLE)
    later = serving(6, 16.0 * 20, placeable=11)
    assert settled(policy(), later).replicas == 11


def test_rule_9_a_small_room_takes_no_replica_away_that_serves_or_starts():
    shrunk = serving(10, 16.0 * 10, ready=8, starting=2, placeable=4)
    assert settled(policy(), shrunk).replicas == 10


def test_rule_11_what_was_learned_survives_a_restart_and_windows_do_not():
    objective = policy(slo={"latencySeconds": 2.0})
    state: State | None = None
    for minute in range(30):
        late = serving(10, 150.0, waiting=0.0, slo_missed=0.5, cold_start_seconds=30.0)
        state = decide(objective, late, state, NOW + 60.0 * minute).state
    assert state is not None
    assert state.learned is not None
    learned = state.learned.headroom.deviations
    recalled = State.recalled(state.remembered(), 40, 5.0)
    quiet = serving(40, 16.0, waiting=0.0, slo_missed=0.0, cold_start_seconds=30.0)
    after = decide(objective, quiet, recalled, 5.0)
    assert after.replicas == 40
    assert after.state.learned is not None
    assert after.state.learned.headroom.deviations == pytest.approx(learned, abs=1e-4)
    found = state.learned.forecast.persistence
    assert after.state.learned.forecast.persistence == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"format": 1, "deviations": 1.0}', '{"format": 2, "deviations": "much"}']
)
def test_rule_11_an_unreadable_memory_is_as_good_as_none(text: str):
    assert State.recalled(text, 7, NOW) == State.begun(7, NOW)


def test_rule_12_zero_wakes_on_a_queue_outside_the_pods_sized_by_it():
    sleeping = policy(minReplicas=0)
    asleep = serving(0, OUTAGE, request_rate=OUTAGE)
    one = decide(sleeping, replace(asleep, waiting_outside=1.0), None, NOW)
    assert (one.replicas, one.reasons[0].code) == (1, reasons.QUEUE_OUTSIDE)
    assert decide(sleeping, replace(asleep, waiting_outside=40.0), None, NOW).replicas == 3
    assert decide(sleeping, replace(asleep, waiting_outside=4000.0), None, NOW).replicas == 50
    assert decide(sleeping, replace(asleep, waiting_outside=40.0, placeable=2), None, NOW).replicas == 2


def test_rule_12_nothing_inside_the_pods_wakes_a_workload():
    sleeping = policy(minReplicas=0)
    dark = serving(0, 400.0, request_rate=90.0, waiting_outside=OUTAGE)
    assert decide(sleeping, dark, None, NOW).replicas == 0
    assert decide(sleeping, replace(dark, waiting_outside=0.0), None, NOW).replicas == 0


def test_rule_12_the_last_replica_goes_only_where_a_queue_outside_could_ask_for_it_back():
    idle = serving(1, 0.0, request_rate=0.0)
    sleeping = policy(minReplicas=0)
    assert settled(sleeping, replace(idle, waiting_outside=0.0)).replicas == 0
    assert settled(sleeping, replace(idle, waiting_outside=OUTAGE)).replicas == 1
    assert settled(sleeping, replace(idle, waiting_outside=3.0)).replicas == 1


def test_rule_13_a_second_writer_stops_the_decisions_and_is_named():
    for load in (16.0 * 40, 0.0, OUTAGE):
        decision = settled(policy(), serving(10, load, other_writer="HorizontalPodAutoscaler n/llm"))
        assert decision.replicas == 10
        assert decision.reasons[0].code == reasons.OTHER_WRITER
        assert "HorizontalPodAutoscaler n/llm" in decision.reasons[0].sentence
    assert decide(policy(), serving(0, OUTAGE, other_writer="KEDA"), None, NOW).replicas == 0


def test_rule_13_lowering_waits_a_whole_window_after_the_second_writer_has_gone():
    state = settled(policy(), serving(10, 16.0, other_writer="KEDA")).state
    assert decide(policy(), serving(10, 16.0), state, NOW + 5.0).replicas == 10
    assert decide(policy(), serving(10, 16.0), state, NOW + 301.0).replicas == 5


def test_rule_14_the_starting_go_first_then_the_idlest_then_who_heals_most():
    pods = (
        Candidate("busy", ready=True, in_flight=9.0),
        Candidate("silent", ready=True, in_flight=OUTAGE),
        Candidate("idle", ready=True, in_flight=0.0, healing=0.1),
        Candidate("idle-and-healing", ready=True, in_flight=0.0, healing=0.4),
        Candidate("starting", ready=False, in_flight=OUTAGE),
        Candidate("starting-and-healing", ready=False, healing=0.3),
    )
    order = ("starting-and-healing", "starting", "idle-and-healing", "idle", "busy", "silent")
    assert order_of_going(pods) == order
    costs = deletion_costs(pods)
    assert sorted(costs, key=costs.__getitem__) == list(order)
    assert len(set(costs.values())) == len(pods)
