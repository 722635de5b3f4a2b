"""Times as the API writes them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.times import micro_time, rfc3339, unix_seconds

NOON = 1_793_534_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-01T12:00:00Z", NOON),
        ("2026-11-01T13:00:00+01:00", NOON),
        ("2026-11-01T12:00:00.250000Z", NOON + 0.25),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_read_and_what_is_no_time_is_none(text: str | None, seconds: float | None):
    assert unix_seconds(text) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_time_without_a_zone_is_utc_on_every_machine(zone: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert unix_seconds("2026-11-01T12:00:00") == NOON
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(0, 4 * 10**9), st.integers(0, 999_999))
def test_what_is_written_is_read_again(seconds: int, micros: int):
    assert unix_seconds(rfc3339(float(seconds))) == seconds
    exact = seconds + micros / 1e6
    assert unix_seconds(micro_time(exact)) == pytest.approx(exact, abs=1e-6)
