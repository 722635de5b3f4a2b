"""When rounds begin: at their period, and sooner at news, as far as the bound on early ones allows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from autoscaler.pace import EARLY_SHARE, LEAST_PAUSE_SECONDS, Pace, is_burst
from tests.polling import SOON_SECONDS, pause

LONG_SECONDS = 10 * SOON_SECONDS


@dataclass
class Waited:
    """A wait in a thread of its own, after a round that took ``took`` seconds."""

    pace: Pace = field(default_factory=Pace)
    stop: threading.Event = field(default_factory=threading.Event)
    seconds: float | None = None

    def begin(self, period: float, took: float = 0.0) -> threading.Thread:
        def wait() -> None:
            began = time.monotonic()
            self.pace.wait(self.stop, began - took, period)
            self.seconds = time.monotonic() - began

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    def result(self, thread: threading.Thread) -> float:
        thread.join(SOON_SECONDS)
        assert not thread.is_alive(), "it still waits"
        assert self.seconds is not None
        return self.seconds


def test_without_news_a_round_comes_after_the_period():
    waited = Waited()
    assert 0.29 <= waited.result(waited.begin(0.3)) < SOON_SECONDS


def test_news_bring_the_next_round_at_once():
    waited = Waited()
    thread = waited.begin(LONG_SECONDS)
    pause(LEAST_PAUSE_SECONDS)
    waited.pace.nudge()
    assert waited.result(thread) < SOON_SECONDS


def test_news_during_a_round_count_for_the_next_and_only_once():
    waited = Waited()
    waited.pace.nudge()
    assert waited.result(waited.begin(LONG_SECONDS)) < SOON_SECONDS
    assert waited.result(waited.begin(0.4)) >= 0.4


def test_early_rounds_take_a_bounded_share_of_the_time():
    waited, took = Waited(), 0.05
    waited.pace.nudge()
    assert waited.result(waited.begin(LONG_SECONDS, took)) >= took / EARLY_SHARE - took - 0.01


def test_a_round_as_long_as_at_a_thousand_workloads_is_never_called_early():
    period = 0.5
    waited = Waited()
    waited.pace.nudge()
    assert waited.result(waited.begin(period, took=0.12 * period)) >= 0.87 * period


def test_stopping_ends_the_wait():
    waited = Waited()
    thread = waited.begin(LONG_SECONDS)
    waited.stop.set()
    waited.pace.nudge()
    assert waited.result(thread) < SOON_SECONDS


def test_a_burst_is_more_than_chance_and_more_than_the_pods_serve():
    assert is_burst(40.0, 8.0, 16.0)
    assert is_burst(40.0, 8.0, None)
    assert not is_burst(40.0, 8.0, 64.0)  # there is room for it
    assert is_burst(5.0, 1.0, 2.0)
    assert not is_burst(20.0, 14.0, 16.0)  # chance
    assert not is_burst(40.0, 30.0, 16.0)  # the last round saw it
    assert not is_burst(8.0, 40.0, None)  # a lull can wait
    assert not is_burst(40.0, float("inf"), None)  # no round has looked yet
