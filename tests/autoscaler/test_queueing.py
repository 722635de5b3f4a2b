"""The queueing model against its closed forms, a small simulation, and servers whose numbers are known."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.queueing import (
    UNFITTED,
    Serving,
    iteration_seconds_of,
    share_of_one_replica,
    steady,
)
from metrics.samples import NoData

ABSENT = NoData("not told")


def test_one_slot_is_the_queue_with_one_server_and_a_limited_room():
    serving = Serving(base_seconds=0.5, slope_seconds=0.0, tokens_out=1.0, batch=1)
    rho, room = 0.6, 2
    weights = [rho**n for n in range(room + 1)]
    found = steady(serving, rate_rps=0.6)  # one request takes two iterations, 1 s
    assert found.in_flight == pytest.approx(sum(n * w for n, w in enumerate(weights)) / sum(weights))
    assert found.throughput_rps == pytest.approx(0.6 * (1.0 - weights[-1] / sum(weights)))


def test_without_interference_requests_in_flight_are_rate_times_service_as_little_says():
    serving = Serving(base_seconds=0.02, slope_seconds=0.0, tokens_out=99.0, batch=64)
    found = steady(serving, rate_rps=5.0)
    assert found.in_flight == pytest.approx(5.0 * 2.0, rel=1e-6)
    assert found.seconds(serving, "e2e") == pytest.approx(2.0, rel=1e-6)
    assert found.seconds(serving, "itl") == pytest.approx(0.02, rel=1e-6)


def test_a_simulation_of_the_same_chain_agrees():
    serving = Serving(base_seconds=0.01, slope_seconds=0.001, tokens_out=49.0, batch=8)
    rate, random = 6.0, Random(5)
    n, time, area, served, arrived = 0, 0.0, 0.0, 0, 0
    for _ in range(300_000):
        leaving = serving.service_rate(n) if n else 0.0
        coming = rate if n < 2 * serving.batch else 0.0
        passed = random.expovariate(leaving + coming)
        area += n * passed
        time += passed
        if random.random() * (leaving + coming) < coming:
            n, arrived = n + 1, arrived + 1
        else:
            n, served = n - 1, served + 1
    found = steady(serving, rate)
    assert found.in_flight == pytest.approx(area / time, rel=0.03)
    assert found.throughput_rps == pytest.approx(served / time, rel=0.01)


@given(
    base=st.floats(0.001, 0.05),
    slope=st.floats(0.0, 0.005),
    tokens=st.floats(1.0, 500.0),
    batch=st.integers(1, 48),
    one=st.floats(0.05, 60.0),
    other=st.floats(0.05, 60.0),
)
def test_a_looser_bound_never_means_fewer_requests_a_replica(
    base: float, slope: float, tokens: float, batch: int, one: float, other: float
):
    serving = Serving(base, slope, tokens, batch)
    tight = share_of_one_replica(serving, bound_seconds=min(one, other), measure="e2e")
    loose = share_of_one_replica(serving, bound_seconds=max(one, other), measure="e2e")
    if isinstance(tight, NoData):
        return
    assert not isinstance(loose, NoData)
    assert 1.0 <= tight <= loose + 1e-6
    assert loose <= 2 * batch


def test_the_share_keeps_the_mean_within_the_bound():
    serving = Serving(base_seconds=0.012, slope_seconds=0.0008, tokens_out=200.0, batch=64)
    share = share_of_one_replica(serving, bound_seconds=6.0, measure="e2e")
    assert not isinstance(share, NoData)
    # 6 s for 201 iterations leave 30 ms each: 22 requests in the batch, and 10 % stability margin below that.
    assert 12.0 < share < 22.3


def test_a_request_that_is_too_slow_alone_gives_no_share():
    serving = Serving(base_seconds=0.05, slope_seconds=0.0, tokens_out=200.0, batch=8)
    share = share_of_one_replica(serving, bound_seconds=5.0, measure="e2e")
    assert isinstance(share, NoData)
    assert "one request alone takes 10" in share.reason


def test_base_and_slope_are_found_again_from_noisy_observations():
    random, fit = Random(7), UNFITTED
    for _ in range(200):
        running = random.uniform(2.0, 30.0)
        seconds = (0.012 + 0.0009 * running) * random.uniform(0.95, 1.05)
        fit = fit.seen(running, seconds, 180.0, waiting=3.0 if running > 29.0 else 0.0)
    serving = fit.serving()
    assert not isinstance(serving, NoData)
    assert serving.base_seconds == pytest.approx(0.012, rel=0.15)
    assert serving.slope_seconds == pytest.approx(0.0009, rel=0.15)
    assert serving.batch in (29, 30)
    assert serving.tokens_out == pytest.approx(180.0)


def test_a_load_that_never_varied_tells_no_slope_and_too_few_looks_tell_nothing():
    fit = UNFITTED
    for _ in range(4):
        fit = fit.seen(8.0, 0.02, 100.0, waiting=0.0)
    assert isinstance(fit.serving(), NoData)
    for _ in range(20):
        fit = fit.seen(8.0, 0.02, 100.0, waiting=0.0)
    serving = fit.serving()
    assert not isinstance(serving, NoData)
    assert serving.slope_seconds == 0.0
    assert serving.base_seconds == pytest.approx(0.02)


def test_an_iteration_is_told_or_follows_from_rate_and_running():
    told = iteration_seconds_of(running=8.0, rate_rps=ABSENT, tokens_out=ABSENT, token_seconds=0.03)
    assert told == 0.03
    little = iteration_seconds_of(running=8.0, rate_rps=2.0, tokens_out=99.0, token_seconds=ABSENT)
    assert little == pytest.approx(8.0 / 2.0 / 100.0)
    for rate, running in ((0.0, 8.0), (2.0, 0.0)):
        nothing = iteration_seconds_of(running=running, rate_rps=rate, tokens_out=99.0, token_seconds=ABSENT)
        assert isinstance(nothing, NoData)
    unknown = iteration_seconds_of(running=8.0, rate_rps=2.0, tokens_out=ABSENT, token_seconds=ABSENT)
    assert isinstance(unknown, NoData)
