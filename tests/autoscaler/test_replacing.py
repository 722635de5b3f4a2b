"""Frozen values with some fields changed: as ``dataclasses.replace``, for every class of a decision."""

from __future__ import annotations

import dataclasses

import pytest

from autoscaler.forecast import Forecast, Season
from autoscaler.headroom import Headroom
from autoscaler.replacing import replace
from autoscaler.shadows import Shadows
from autoscaler.signals import Signals
from autoscaler.state import Learned, State

_LEARNED = Learned(Headroom(1.5, 3.0), Forecast.begun(7.0, 3.0), Shadows.begun(2, 3.0))
_VALUES = (
    State.begun(3, 1.0),
    _LEARNED,
    _LEARNED.headroom,
    _LEARNED.forecast,
    _LEARNED.shadows,
    Season(),
    Signals(current=2, ready=1, starting=1, in_flight=4.5),
)


@pytest.mark.parametrize("value", _VALUES, ids=lambda value: type(value).__name__)
def test_each_field_can_be_changed_and_the_others_stay(value):
    for field in dataclasses.fields(value):
        changed = replace(value, **{field.name: "another"})
        assert changed == dataclasses.replace(value, **{field.name: "another"})
        assert getattr(changed, field.name) == "another"
        assert type(changed) is type(value)


def test_a_field_that_is_not_there_is_refused_by_name():
    with pytest.raises(TypeError, match="State: got 'replicas', expected one of windows, headroom"):
        replace(State.begun(3, 1.0), replicas=4)
