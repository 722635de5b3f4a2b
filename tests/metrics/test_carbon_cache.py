"""The cache before a carbon provider, and the board that others read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.carbon import Intensity, cache
from metrics.carbon.board import CarbonBoard
from metrics.samples import NoData
from tests.metrics.absences import absent
from tests.polling import SOON_SECONDS

# An absence where a value is due fails the test by its missing attribute.
CachedProvider: Any = cache.CachedProvider

# --- cache ----------------------------------------------------------------------------------------


class Script:
    """A provider that says what it is told to, and counts."""

    source = "script"
    kind = "average"

    def __init__(self):
        self.answer: Any = NoData("not told yet")
        self.asked = 0

    def latest(self, zone, now):
        self.asked += 1
        if isinstance(self.answer, NoData):
            return self.answer
        return Intensity(zone, self.answer, "average", now, now + 1000, "script", estimated=False)

    def forecast(self, zone, now):
        one = self.latest(zone, now)
        if isinstance(one, NoData):
            return one
        return (
            one,
            Intensity(zone, 2 * self.answer, "average", now + 1000, now + 2000, "script", estimated=True),
        )


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def cached(script):
    return CachedProvider(script, refresh_seconds=300)


def test_cache_asks_once_a_refresh_period(script, cached):
    script.answer = 100.0
    for now in (0, 10, 299):
        assert cached.latest("DE", now).at_seconds == 0
    assert script.asked == 1
    assert cached.latest("DE", 300).at_seconds == 300


def test_cache_keeps_zones_apart(script, cached):
    script.answer = 100.0
    assert cached.latest("DE", 0).zone == "DE"
    assert cached.latest("SE", 0).zone == "SE"


def test_last_good_answer_stands_until_it_expires_then_there_is_no_data(script, cached):
    script.answer = 100.0
    cached.latest("DE", 0)
    script.answer = NoData("down", "outage")
    assert cached.latest("DE", 301).grams_per_kwh == 100.0
    assert cached.latest("DE", 999).grams_per_kwh == 100.0
    assert absent(cached.latest("DE", 1000), "outage") == "down"


def test_a_broken_source_is_asked_ever_more_rarely(script, cached):
    script.answer = NoData("down", "outage")
    for now in range(0, 1200, 1):
        cached.latest("DE", now)
    # at 0, then after 30, 60, 120, 240, and from then on 300 seconds
    assert script.asked == 7


def test_a_recovered_source_is_used_at_the_next_question(script, cached):
    script.answer = NoData("down", "outage")
    cached.latest("DE", 0)
    script.answer = 50.0
    absent(cached.latest("DE", 29), "outage")
    assert cached.latest("DE", 30).grams_per_kwh == 50.0


def test_retry_after_is_obeyed(script, cached):
    script.answer = NoData("slow down", "refused", retry_after_seconds=500)
    cached.latest("DE", 0)
    cached.latest("DE", 499)
    assert script.asked == 1
    cached.latest("DE", 500)
    assert script.asked == 2


def test_an_expired_answer_is_not_repeated_within_the_refresh_period(script):
    cached = CachedProvider(script, refresh_seconds=5000)
    script.answer = 100.0
    cached.latest("DE", 0)
    script.answer = 200.0
    assert cached.latest("DE", 1000).grams_per_kwh == 200.0


def test_a_cached_forecast_drops_its_past(script, cached):
    script.answer = 100.0
    assert len(cached.forecast("DE", 0)) == 2
    script.answer = NoData("down", "outage")
    assert [step.grams_per_kwh for step in cached.forecast("DE", 1500)] == [200.0]
    absent(cached.forecast("DE", 2000), "outage")


@given(st.lists(st.tuples(st.floats(0.1, 400), st.booleans()), max_size=40))
def test_the_cache_never_serves_what_has_expired(steps):
    script, now = Script(), 0.0
    cached = CachedProvider(script, refresh_seconds=300)
    for wait, up in steps:
        now += wait
        script.answer = now if up else NoData("down", "outage")
        answer = cached.latest("DE", now)
        if isinstance(answer, Intensity):
            assert now < answer.valid_until_seconds


# --- board ----------------------------------------------------------------------------------------


def test_board_serves_valid_answers_and_reasons_for_the_rest(script):
    now = [0.0]
    board = CarbonBoard(script, lambda: ["DE", "SE"], lambda: now[0])
    script.answer = 100.0
    board.refresh()
    assert set(board.current()) == {"DE", "SE"}
    now[0] = 1000.0
    assert board.current() == {}
    assert {absence.cause for absence in board.absent().values()} == {"stale"}
    script.answer = NoData("down", "outage")
    board.refresh()
    assert {absence.reason for absence in board.absent().values()} == {"down"}


def test_board_forgets_answers_of_another_provider(script):
    board = CarbonBoard(script, lambda: ["DE"], lambda: 0.0)
    script.answer = 100.0
    board.refresh()
    board.replace(None)
    assert board.current() == {}
    board.refresh()
    assert board.current() == {}


def test_board_refreshes_in_its_own_thread_and_stops(script):
    script.answer = 100.0
    told = threading.Event()
    seen = []

    def observe(zone, answer):
        seen.append((zone, answer.grams_per_kwh))
        told.set()

    board = CarbonBoard(script, lambda: ["DE"], lambda: 0.0, period_seconds=3600, observer=observe)
    board.start()
    assert told.wait(SOON_SECONDS)
    told.clear()
    script.answer = 200.0
    board.replace(script)  # wakes the thread before its period is over
    assert told.wait(SOON_SECONDS)
    board.stop()
    assert seen == [("DE", 100.0), ("DE", 200.0)]
