"""What the arrivals ask for, with and without a queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.offered import Queue, offered_load
from metrics.samples import NoData

ABSENT = NoData("not told")


def test_without_a_queue_it_is_what_is_in_flight():
    assert offered_load(100.0, Queue(0.0, 0.0), 5.0, cold_start_seconds=30.0) == 100.0
    assert offered_load(100.0, None, 5.0, cold_start_seconds=30.0) == 100.0


def test_a_queue_of_unknown_rate_counts_whole():
    assert offered_load(100.0, Queue(0.0, 60.0), ABSENT, cold_start_seconds=30.0) == 100.0


def test_a_standing_queue_asks_for_what_clears_it_in_time_and_not_for_itself():
    # 80 run at 10 a second, so 8 s each; 300 wait and no more come than leave.
    standing = offered_load(380.0, Queue(0.0, 300.0), 10.0, cold_start_seconds=120.0)
    assert standing == pytest.approx(80.0 + 8.0 * 300.0 / 120.0)


def test_a_growing_queue_asks_for_the_arrivals_that_make_it_grow():
    queue = Queue(0.0, 0.0)
    for look in range(1, 60):
        queue = queue.seen(5.0 * 4.0 * look, 5.0 * look, 3000.0)  # 4 a second more come than leave
    assert queue.growth_rps == pytest.approx(4.0, rel=1e-3)
    running, rate = 80.0, 10.0
    offered = offered_load(running + queue.waiting, queue, rate, cold_start_seconds=3000.0)
    assert offered == pytest.approx(8.0 * (10.0 + 4.0 + queue.waiting / 3000.0), rel=1e-3)


@given(st.floats(0.0, 5000.0), st.floats(0.0, 5000.0), st.floats(-50.0, 50.0), st.floats(0.0, 100.0))
def test_it_lies_between_what_runs_and_what_is_in_flight(
    running: float, waiting: float, growth: float, rate: float
):
    offered = offered_load(running + waiting, Queue(0.0, waiting, growth), rate, cold_start_seconds=60.0)
    assert running - 1e-6 <= offered <= running + waiting + 1e-6
