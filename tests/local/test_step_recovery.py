"""How long a step of the load was felt: counted where requests were due, open ones included."""

from __future__ import annotations

import math

import pytest

from deploy.model_servers.load import UNANSWERED, Request
from deploy.model_servers.recovery import BIN_SECONDS, STEADY_SECONDS, attainment, bins, p95, recovered_after

OBJECTIVE = 0.5


def steady(begin, end, took, problem=""):
    """Ten requests a second."""
    return [Request(begin + n / 10, took, "pod", problem) for n in range(round((end - begin) * 10))]


def judged(requests, until):
    return recovered_after(bins(requests, 100.0, 100.0 + until), OBJECTIVE)


def test_p95_is_the_nearest_rank_and_infinite_when_too_many_fail():
    assert p95([]) is None
    requests = [Request(0.0, n / 100, "pod") for n in range(1, 101)]
    assert p95(requests) == pytest.approx(0.95)
    failed = [Request(0.0, 0.01, "pod", "status 500")] * 6
    assert math.isinf(p95([*requests[:94], *failed]))


def test_a_step_that_is_never_felt_took_no_time():
    assert judged(steady(100, 120, 0.1), 20) == 0.0


def test_recovery_ends_with_the_last_bin_above_the_objective():
    requests = steady(100, 101, 0.1) + steady(101, 107, 3.0) + steady(107, 120, 0.1)
    assert judged(requests, 20) == 7.0


def test_requests_that_are_still_open_are_late_not_absent():
    requests = steady(100, 101, 0.1) + steady(101, 120, 30.0, UNANSWERED)
    assert judged(requests, 20) is None


def test_a_short_calm_is_no_recovery():
    calm = STEADY_SECONDS - BIN_SECONDS
    requests = steady(100, 103, 3.0) + steady(103, 103 + calm, 0.1)
    requests += steady(103 + calm, 110, 3.0) + steady(110, 120, 0.1)
    assert judged(requests, 20) == 10.0
    assert judged(requests, 12) is None, "what follows has not been seen yet"


def test_one_late_bin_long_after_counts_in_the_attainment_alone():
    requests = steady(100, 104, 3.0) + steady(104, 130, 0.1) + steady(130, 131, 3.0) + steady(131, 140, 0.1)
    assert judged(requests, 40) == 4.0
    after = [one for one in requests if one.due_seconds >= 104]
    assert attainment(after, OBJECTIVE) == pytest.approx(350 / 360)


def test_requests_before_the_step_and_after_the_end_are_left_out():
    found = bins(steady(90, 130, 0.1), 100.0, 105.5)
    assert [one.requests for one in found] == [10] * 5
