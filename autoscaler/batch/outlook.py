"""The coming intensities and prices of a zone, from whoever knows them.

The provider's forecast goes first; where it ends, or where there is none, the zone's own history goes on
(``grid_forecast``); with neither, the intensity of now is taken to stay, which holds nobody. A tariff by
hour of the day is its own forecast. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from autoscaler.batch.curve import DAY_SECONDS, Curve
from autoscaler.batch.grid_forecast import GridForecast
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData

_TARIFF_DAYS: Final = 3


def outlook(
    provided: Sequence[Intensity] | NoData, own: GridForecast | NoData, latest: Intensity | None, now: float
) -> Curve | NoData:
    """The intensity of one zone from now on, g/kWh."""
    steps = () if isinstance(provided, NoData) else provided
    told = _curve(steps, now)
    if told is not None:
        if told.edges[-1] - now >= DAY_SECONDS or isinstance(own, NoData):
            return told
        return _joined(told, own.curve)
    if not isinstance(own, NoData):
        return own.curve
    if latest is not None:
        return Curve.constant(latest.grams_per_kwh, now)
    return provided if isinstance(provided, NoData) else own


def tariff(by_hour: Sequence[float], now: float) -> Curve | NoData:
    """Money per kWh from now on of 24 prices by hour of the day (UTC)."""
    if not by_hour:
        return NoData("the policy gives no batch.energyByHour", "empty")
    midnight = now - now % DAY_SECONDS
    return Curve.hourly(midnight, list(by_hour) * _TARIFF_DAYS)


def _curve(steps: Sequence[Intensity], now: float) -> Curve | None:
    """The steps as one curve; a gap keeps the value before it. One step that never ends is no forecast."""
    ahead = sorted(
        (step for step in steps if step.valid_until_seconds > now), key=lambda step: step.at_seconds
    )
    edges: list[float] = []
    values: list[float] = []
    for step in ahead:
        if edges and step.at_seconds <= edges[-1]:
            continue
        edges.append(step.at_seconds)
        values.append(step.grams_per_kwh)
    if not values:
        return None
    end = max(ahead[-1].valid_until_seconds, edges[-1] + 1.0)
    return Curve((*edges, end), tuple(values))


def _joined(first: Curve, then: Curve) -> Curve:
    """``first``, and ``then`` from its end on."""
    end = first.edges[-1]
    later = [edge for edge in then.edges if edge > end]
    if not later:
        return first
    starts = np.array([end, *later[:-1]])
    return Curve((*first.edges, *later), (*first.values, *then.at(starts).tolist()))


def lead_error(forecast: GridForecast | NoData, hours: int) -> float | NoData:
    """Mean error of the own forecast over the next ``hours``, as a share of the level."""
    if isinstance(forecast, NoData):
        return forecast
    errors = forecast.error_ratio[1 : hours + 1]
    if not errors:
        return NoData("too little history to know the forecast's error", "empty")
    return float(np.mean(errors))
