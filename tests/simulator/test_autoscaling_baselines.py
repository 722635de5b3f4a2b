"""Each rival decides step by step as its own source and documentation say."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.autoscaling_policies.fixed import Clairvoyant, Static, highest_ahead
from simulator.autoscaling_policies.hpa import HpaGpu, HpaInFlight, by_mean, by_total
from simulator.autoscaling_policies.hpa_behaviour import AsShipped, Rate, WithBehaviour
from simulator.autoscaling_policies.keda import KedaQueue
from simulator.autoscaling_policies.kpa import Kpa
from simulator.autoscaling_policies.ray_serve import RayServe
from simulator.autoscaling_policies.wva import Wva
from simulator.autoscaling_policy import Bounds
from tests.simulator.autoscaling_cases import fluid, seen

BOUNDS = Bounds(1, 100, 16)


def _one(value):
    return np.array([value])


@pytest.mark.parametrize(
    ("total", "current", "expected"),
    [
        (100.0, 10, 10),  # ratio 1.0
        (109.0, 10, 10),  # within the tolerance of 10 %
        (111.0, 10, 12),  # ceil(111/10)
        (110.0, 10, 10),  # on the edge of it
        (91.0, 10, 10),
        (89.0, 10, 9),
        (0.0, 3, 0),
    ],
)
def test_hpa_average_value_divides_the_total_whatever_is_ready(total, current, expected):
    assert by_total(_one(total), _one(10.0), _one(current))[0] == expected


@pytest.mark.parametrize(
    ("value", "ready", "starting", "expected"),
    [
        (0.8, 4, 0, 4),
        (0.96, 4, 0, 5),  # ratio 1.2: ceil(4.8)
        (0.4, 4, 0, 2),
        (0.96, 4, 2, 6),  # diluted to 0.8 by two starting pods: turned round, keep
        (1.6, 4, 1, 8),  # diluted to 1.6 over 5: ceil(8.0)
        (0.4, 4, 2, 2),  # on the way down starting pods do not count
    ],
)
def test_hpa_pods_metric_counts_starting_pods_as_zero_on_the_way_up(value, ready, starting, expected):
    current = ready + starting
    found = by_mean(_one(value), _one(0.8), _one(ready), _one(starting), _one(current))
    assert found[0] == expected


@pytest.mark.parametrize(
    ("value", "ready", "starting", "silent", "expected"),
    [
        (1.6, 4, 0, 1, 6),  # 2.0 over 3; the silent one counts as 0: 1.5 over 4
        (1.0, 4, 0, 1, 4),  # 1.25 over 3, 0.94 over 4: turned round, keep
        (0.2, 4, 0, 1, 2),  # 0.25 over 3; the silent one counts as at the target: 0.4375 over 4
        (0.7, 4, 0, 2, 4),  # 0.875 over 2, 0.94 over 4: within the tolerance
        (1.6, 4, 2, 1, 6),  # pending and silent both count as 0: 6/6, within the tolerance
        (0.2, 4, 2, 1, 2),  # pending ones do not count on the way down
    ],
)
def test_hpa_pods_metric_counts_silent_pods_against_a_change(value, ready, starting, silent, expected):
    counts = (_one(ready), _one(starting), _one(ready + starting), _one(silent))
    assert by_mean(_one(value), _one(0.8), *counts)[0] == expected


def _replay(shape, replicas, wishes, seconds=15.0):
    current, counts = _one(replicas), []
    for tick, wish in enumerate(wishes):
        known = np.array([wish is not None])
        current = shape.shaped(_one(0 if wish is None else wish), known, current, seconds * tick)
        counts.append(int(current[0]))
    return counts


def test_hpa_without_a_behaviour_doubles_at_the_most_and_reaches_four_at_once():
    assert _replay(AsShipped(BOUNDS), 1, [90] * 6) == [4, 8, 16, 32, 64, 90]


def test_hpa_without_a_behaviour_follows_a_wish_of_the_past_five_minutes_up():
    assert _replay(AsShipped(BOUNDS), 5, [30, 8, 8, 8]) == [10, 20, 30, 30]


def test_hpa_with_the_defaults_spelled_out_doubles_or_adds_four_and_follows_the_present_wish():
    assert _replay(WithBehaviour(BOUNDS), 1, [90] * 6) == [5, 10, 20, 40, 80, 90]
    assert _replay(WithBehaviour(BOUNDS), 5, [30, 8, 8, 8]) == [10, 10, 10, 10]


@pytest.mark.parametrize("shape", [AsShipped(BOUNDS), WithBehaviour(BOUNDS)])
def test_hpa_lowers_to_the_highest_wish_of_five_minutes(shape):
    counts = _replay(shape, 10, [10, 4, 6, *[2] * 40])
    # The wish of 10 at 0 s holds until 300 s, the 6 of 30 s until 330 s.
    assert counts[19:23] == [10, 6, 6, 2]


@pytest.mark.parametrize("shape", [AsShipped(BOUNDS), WithBehaviour(BOUNDS)])
def test_hpa_learns_no_wish_from_a_failed_metric(shape):
    counts = _replay(shape, 10, [10, *[None] * 20, 2])
    assert counts == [*[10] * 21, 2]


def test_hpa_limits_what_is_added_and_removed_in_a_period():
    shape = WithBehaviour(BOUNDS, Rate(0.0, 50.0, 2, 30.0), Rate(0.0, 25.0, None, 30.0))
    # +50 % of the 8 there were 30 s ago; then -25 % of what was there 30 s ago.
    assert _replay(shape, 8, [90, 90, 90, 90, 4, 4, 4, 4]) == [12, 12, 18, 18, 13, 13, 9, 9]


def test_hpa_waits_for_the_lowest_wish_of_an_up_window():
    shape = WithBehaviour(BOUNDS, Rate(30.0, pods=4), Rate(0.0))
    assert _replay(shape, 4, [4, 8, 8, 8]) == [4, 4, 8, 8]


def test_hpa_holds_without_metrics_and_keeps_what_it_finds_after_a_restart_for_a_window():
    policy = HpaInFlight(BOUNDS, _one(0.5))
    assert policy.decide(seen(5), 15.0)[0] == 5
    assert policy.decide(seen(5, in_flight=80.0), 30.0)[0] == 10
    assert policy.decide(seen(10, in_flight=8.0), 45.0)[0] == 10
    policy.restarted()
    held = [int(policy.decide(seen(10, in_flight=8.0), 60.0 + 15.0 * tick)[0]) for tick in range(21)]
    assert held == [*[10] * 20, 1]


def test_hpa_on_gpu_utilisation_saturates():
    policy = HpaGpu(BOUNDS, _one(0.95))
    assert policy.decide(seen(4, gpu_utilisation=1.0), 15.0)[0] == 4


def test_keda_asks_for_the_queue_over_its_threshold_and_keeps_one():
    policy = KedaQueue(BOUNDS, _one(5.0))
    assert policy.decide(seen(2, waiting=19.0), 15.0)[0] == 4
    for tick in range(2, 40):
        last = policy.decide(seen(4, waiting=0.0), 15.0 * tick)[0]
    assert last == 1


def test_kpa_follows_the_stable_minute_and_halves_at_the_most():
    policy = Kpa(BOUNDS, _one(0.5))
    for tick in range(1, 31):
        last = policy.decide(seen(10, in_flight=80.0), 2.0 * tick)[0]
    assert last == 10
    for tick in range(31, 61):
        last = policy.decide(seen(10, in_flight=8.0), 2.0 * tick)[0]
    assert last == 5


def test_kpa_panics_at_twice_what_is_ready_and_does_not_go_down_in_it():
    policy = Kpa(BOUNDS, _one(0.5))
    for tick in range(1, 31):
        policy.decide(seen(2, in_flight=16.0), 2.0 * tick)
    asked = [policy.decide(seen(2, in_flight=160.0), 60.0 + 2.0 * tick)[0] for tick in (1, 2, 3)]
    # Means of 6 s: 64, 112, 160 over a target of 8.
    assert asked == [8, 14, 20]
    calm = [policy.decide(seen(20, in_flight=16.0), 66.0 + 2.0 * tick)[0] for tick in range(1, 40)]
    # Over the threshold for the last time at 66 s; 60 s later panic is over and half the rest may go at once.
    assert calm[28] == 20
    assert calm[-1] == 10


def test_kpa_begins_in_panic_after_a_restart():
    policy = Kpa(BOUNDS, _one(0.5))
    policy.decide(seen(10, in_flight=80.0), 2.0)
    policy.restarted()
    held = [policy.decide(seen(10, in_flight=8.0), 4.0 + 2.0 * tick)[0] for tick in range(30)]
    assert set(held) == {10}
    assert policy.decide(seen(10, in_flight=8.0), 70.0)[0] == 5


def _wva(now=30.0, current=4, starting=0, **metrics):
    policy = Wva(BOUNDS, _one(1.0))
    return policy.decide(seen(current, current - starting, **metrics), now)[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kv_usage": 0.5, "waiting": 0.0}, 3),  # 0.5·4/3 = 0.67: 0.13 spare after one fewer
        ({"kv_usage": 0.6, "waiting": 0.0}, 4),  # 0.6·4/3 = 0.8: no spare after one fewer
        ({"kv_usage": 0.71, "waiting": 0.0}, 5),
        ({"kv_usage": 0.1, "waiting": 12.0}, 5),  # 3 a replica: 2 spare, below 3
        ({"kv_usage": 0.71, "waiting": 0.0, "starting": 1}, 4),
        ({"kv_usage": 0.1, "waiting": 0.0, "current": 1}, 1),
        ({"kv_usage": 0.71, "waiting": 0.0, "now": 45.0}, 4),  # between two intervals
        ({}, 4),
    ],
)
def test_wva_moves_by_one_on_spare_capacity(change, expected):
    assert _wva(**change) == expected


def test_wva_takes_the_peak_of_a_minute():
    policy = Wva(BOUNDS, _one(1.0))
    for tick, usage in enumerate((0.75, 0.1, 0.1, 0.1), start=1):
        last = policy.decide(seen(4, kv_usage=usage, waiting=0.0), 15.0 * tick)[0]
    assert last == 5
    assert policy.decide(seen(4, kv_usage=0.1, waiting=0.0), 75.0)[0] == 4
    assert policy.decide(seen(4, kv_usage=0.1, waiting=0.0), 90.0)[0] == 3


def test_ray_serve_waits_for_agreeing_looks():
    policy = RayServe(BOUNDS, _one(4.0))
    asked = [int(policy.decide(seen(2, in_flight=16.0), 10.0 * tick)[0]) for tick in range(1, 6)]
    assert asked == [2, 2, 2, 4, 2]
    policy = RayServe(BOUNDS, _one(4.0))
    downs = [int(policy.decide(seen(4, in_flight=8.0), 10.0 * tick)[0]) for tick in range(1, 62)]
    assert downs == [4] * 60 + [2]


def test_ray_serve_starts_to_count_again_after_a_look_without_a_change():
    policy = RayServe(BOUNDS, _one(4.0))
    load = [12.0, 12.0, 0.0, 12.0, 12.0, 12.0, 12.0, 12.0, 12.0]
    asked = [int(policy.decide(seen(2, in_flight=one), 10.0 * t)[0]) for t, one in enumerate(load, 1)]
    # The means of three looks ask for 3, 3, 2, 2, 2, 3, 3, 3, 3: four in a row at the end only.
    assert asked == [2] * 8 + [3]


def test_static_holds_its_share_of_the_peak():
    policy = Static(BOUNDS, np.array([0.5, 1.0]), np.array([160.0, 160.0]))
    assert policy.decide(seen(1), 0.0).tolist() == [5, 10]


def test_the_clairvoyant_has_what_the_next_start_up_needs():
    demand = fluid([16.0] * 50 + [160.0] * 10 + [16.0] * 50)
    policy = Clairvoyant(BOUNDS, _one(1.0), demand, _one(0), _one(20.0))
    asked = [int(policy.decide(seen(1), float(now))[0]) for now in (0, 20, 25, 45, 59, 60, 100)]
    assert asked == [1, 1, 10, 10, 10, 1, 1]


def test_the_highest_ahead_is_that_of_every_row_and_the_ones_after_it():
    values = np.array([[3.0], [1.0], [4.0], [1.0], [5.0], [2.0]])
    for steps in range(8):
        expected = [max(values[at : at + steps + 1, 0]) for at in range(6)]
        assert highest_ahead(values, steps)[:, 0].tolist() == expected
