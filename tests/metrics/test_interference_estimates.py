"""Slowdowns estimated from latencies beside who the neighbours were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.interference import Sample, Slowdowns

PAIR = ("gpu", "memory", "memory")
OTHER = ("gpu", "memory", "compute")


def samples(truth, *, number, seed, noise=0.1, base=0.5, workload="w", own="memory", neighbours=3, load=0.0):
    """``truth``: slowdown by pair; neighbours of each kind are drawn from 0 to ``neighbours``."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        beside = {(where, other): float(random.integers(neighbours + 1)) for where, _, other in truth}
        own_load = random.random()
        loss = sum(truth[where, own, other] * amount for (where, other), amount in beside.items())
        latency = base * (1.0 + loss + load * own_load) * (1.0 + noise * random.standard_normal())
        yield Sample(workload, own, max(latency, 1e-3), beside, own_load if load else 0.0)


def learned(found, declared=None, spread=0.1, least=30):
    slowdowns = Slowdowns()
    slowdowns.add(found)
    return slowdowns.estimates(declared or {}, prior_spread=spread, min_samples=least)


def test_the_truth_is_found_whatever_the_speed_of_the_workloads():
    truth = {PAIR: 0.3, OTHER: 0.05}
    slowdowns = Slowdowns()
    for number, base in enumerate((0.02, 1.0, 30.0)):
        slowdowns.add(samples(truth, number=200, seed=number, base=base, workload=f"w{number}"))
    found = slowdowns.estimates({}, prior_spread=0.1, min_samples=30)
    for pair, value in truth.items():
        assert found[pair].slowdown == pytest.approx(value, abs=0.03)
        assert abs(found[pair].slowdown - value) < 4 * found[pair].spread


def test_a_wrong_declaration_gives_way_to_many_samples_and_holds_against_few():
    truth = {PAIR: 0.4}
    many = learned(samples(truth, number=2000, seed=1), {PAIR: 0.05})[PAIR]
    few = learned(samples(truth, number=70, seed=1, noise=0.8), {PAIR: 0.05}, spread=0.02)[PAIR]
    assert many.slowdown == pytest.approx(0.4, abs=0.03)
    assert few.slowdown < 0.2
    assert many.spread < few.spread


def test_too_few_samples_teach_nothing():
    assert learned(samples({PAIR: 0.4}, number=20, seed=1), {PAIR: 0.1}) == {}


def test_neighbours_that_never_change_teach_nothing():
    always = [Sample("w", "memory", 0.5 + 0.01 * (n % 5), {("gpu", "memory"): 2.0}) for n in range(500)]
    assert learned(always, {PAIR: 0.1}) == {}


def test_what_was_never_declared_is_told_only_once_the_data_decide():
    noisy = learned(samples({PAIR: 0.3}, number=80, seed=2, noise=3.0))
    clear = learned(samples({PAIR: 0.3}, number=400, seed=2))
    assert PAIR not in noisy
    assert clear[PAIR].slowdown == pytest.approx(0.3, abs=0.03)


def test_own_load_that_rises_with_the_neighbours_is_not_blamed_on_them():
    random = np.random.default_rng(3)
    found = []
    for _ in range(800):
        amount = float(random.integers(4))
        load = 0.2 * amount + 0.3 * random.random()
        latency = 0.5 * (1.0 + load) * (1.0 + 0.05 * random.standard_normal())
        found.append(Sample("w", "memory", latency, {("gpu", "memory"): amount}, load))
    assert learned(found, {PAIR: 0.0})[PAIR].slowdown == pytest.approx(0.0, abs=0.03)


def test_the_past_fades():
    slowdowns = Slowdowns()
    slowdowns.add(samples({PAIR: 0.5}, number=500, seed=4))
    for _ in range(20):
        slowdowns.decay(0.7)
        slowdowns.add(samples({PAIR: 0.1}, number=60, seed=5))
    found = slowdowns.estimates({}, prior_spread=0.1, min_samples=10)
    assert found[PAIR].slowdown == pytest.approx(0.1, abs=0.05)
    for _ in range(60):
        slowdowns.decay(0.7)
    assert slowdowns.estimates({PAIR: 0.2}, prior_spread=0.1, min_samples=1) == {}


def test_latencies_that_are_none_are_left_out():
    slowdowns = Slowdowns()
    slowdowns.add(
        Sample("w", "memory", value, {("gpu", "memory"): 1.0}) for value in (0.0, -1.0, float("nan"))
    )
    assert slowdowns.estimates({PAIR: 0.1}, prior_spread=0.1, min_samples=1) == {}


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 0.9), st.floats(0.0, 0.9), st.integers(0, 1000))
def test_an_estimate_is_a_share_and_lies_no_further_out_than_declaration_and_data(truth, declared, seed):
    found = learned(samples({PAIR: truth}, number=300, seed=seed, noise=0.05), {PAIR: declared})[PAIR]
    assert 0.0 <= found.slowdown <= 1.0
    low, high = min(truth, declared), max(truth, declared)
    assert low - 0.05 <= found.slowdown <= high + 0.05
