"""Made loads: the same for a seed, each family as it says, and parts of recorded traces."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.autoscaling_loads import FAMILIES, WEEKDAY_BEFORE_HOURS, part, steps
from simulator.autoscaling_trace import WindowTrace


@pytest.mark.parametrize("family", FAMILIES)
def test_a_load_is_the_same_for_a_seed_and_another_for_another(family: str):
    one, again, other = (FAMILIES[family](seed, 3.0) for seed in (1, 1, 2))
    assert np.array_equal(one.rate_rps, again.rate_rps)
    assert not np.array_equal(one.rate_rps, other.rate_rps)
    hours = 3.0 + (WEEKDAY_BEFORE_HOURS if family == "weekday" else 0.0)
    assert one.span_seconds == pytest.approx(hours * 3600.0)
    assert one.name == f"{family}/1"
    assert (one.rate_rps >= 0.0).all()
    assert one.rate_rps.mean() > 0.5
    assert len(one.cv) == len(one.input_tokens) == len(one.output_tokens) == len(one.rate_rps)


def test_steps_come_on_the_hour_and_are_fivefold():
    rate = steps(3, 4.0).rate_rps
    hours = [rate[60 * hour : 60 * hour + 60].mean() for hour in range(4)]
    assert hours[1] / hours[0] == pytest.approx(5.0, rel=0.15)
    assert hours[2] / hours[3] == pytest.approx(0.2, rel=0.15)
    assert rate[60] / rate[59] > 4.0


def test_a_saturday_is_not_what_the_friday_let_expect():
    trace = FAMILIES["weekday"](1, 6.0)
    friday, saturday = trace.rate_rps[: 6 * 60], trace.rate_rps[24 * 60 :]
    assert len(saturday) == 6 * 60
    assert saturday.mean() < 0.6 * friday.mean()


def test_bursts_are_heavy_tailed_and_the_drift_changes_the_lengths():
    rate = FAMILIES["bursts"](1, 6.0).rate_rps
    assert rate.max() > 4.0 * np.median(rate)
    drift = FAMILIES["drift"](1, 6.0)
    assert drift.output_tokens.max() > 1.4 * drift.output_tokens.min()


def test_a_part_of_a_recording_begins_where_it_is_told_and_must_be_there():
    values = np.arange(12.0)
    trace = WindowTrace("made", 600.0, values, values, values, values)
    assert part(trace, 1.0, 0.5).rate_rps.tolist() == [6.0, 7.0, 8.0]
    with pytest.raises(ValueError, match="expected a part of its 2 h"):
        part(trace, 1.5, 1.0)
