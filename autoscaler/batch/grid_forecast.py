"""The next two days of a grid from what was seen of it, with how far such forecasts were off.

    forecast(t + h) = profile(hour of t + h) + b_h × (value(t) − profile(hour of t))

``profile`` is the mean of the same hour of the last ten days, each day counting 0.85 of the next one; ``b_h``
(0..1) is fitted by least squares for every lead h over the last three weeks: how much of today's deviation from
the usual is still there h hours later. Sun-driven grids live by the profile, wind-driven ones by ``b_h``, and
nobody has to say which a zone is. Sources: seasonal means with an error correction are the usual yardstick of
day-ahead carbon forecasts (Maji et al., CarbonCast, BuildSys 2022).

Used where a provider sells no forecast. Fits on the past only, holds no clock. A missing hour is NaN and counts
for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autoscaler.batch.curve import HOUR_SECONDS, Curve, Floats
from metrics.samples import NoData

DAYS: Final = 10
DECAY: Final = 0.85
FITTED_HOURS: Final = 21 * 24
HOURS_AHEAD: Final = 48
KEPT_HOURS: Final = FITTED_HOURS + HOURS_AHEAD + DAYS * 24
"""As many hours of history as a fit can use."""
_LEAST_FITTED: Final = 48
_USUAL_DECAY: Final = 0.9
"""How much of a deviation is left an hour later, until that is fitted."""


@dataclass(frozen=True, slots=True)
class GridForecast:
    """``curve`` from the hour in force on; ``error_ratio``: mean absolute error by lead in hours over the mean
    level, empty while there is too little history to know it.
    """

    curve: Curve
    error_ratio: tuple[float, ...]


def day_ahead(
    history: Sequence[float], hour_start_seconds: float, hours: int = HOURS_AHEAD
) -> GridForecast | NoData:
    """Forecast from hourly ``history`` (oldest first, the last is the hour that began at
    ``hour_start_seconds``, which must be known).
    """
    seen = np.asarray(history[-KEPT_HOURS:], dtype=np.float64)
    if not len(seen) or not np.isfinite(seen[-1]):
        return NoData("the intensity of this hour is not known", "empty")
    fit = _Fit(seen)
    now = float(seen[-1])
    profile = fit.profile(len(seen) - 1)
    if profile is None:
        return GridForecast(Curve.hourly(hour_start_seconds, [now] * hours), ())
    kept, errors = fit.kept_deviation(hours)
    ahead = profile[np.arange(hours) % 24] + kept * (now - profile[0])
    ahead[0] = now
    return GridForecast(Curve.hourly(hour_start_seconds, np.maximum(0.0, ahead).tolist()), errors)


class _Fit:
    """Profiles of many hours at once."""

    def __init__(self, seen: Floats) -> None:
        self._seen = seen
        days = min(DAYS, len(seen) // 24)
        weights = DECAY ** np.arange(days)
        # Row t, column h: the usual value of the hour h hours after t, as known at t.
        self._profiles = np.full((len(seen), 24), np.nan)
        if not days:
            return
        for hour in range(24):
            total, weight = np.zeros(len(seen)), np.zeros(len(seen))
            for day in range(days):
                back = 24 * (day + 1) - hour
                if back >= len(seen):
                    continue
                values = np.full(len(seen), np.nan)
                values[back:] = seen[: len(seen) - back]
                known = np.isfinite(values)
                total[known] += weights[day] * values[known]
                weight[known] += weights[day]
            self._profiles[:, hour] = np.divide(
                total, weight, out=np.full(len(seen), np.nan), where=weight > 0.0
            )

    def profile(self, at: int) -> Floats | None:
        """The usual values of the 24 hours from hour ``at`` on; None while there is not a day of history."""
        found: Floats = self._profiles[at]
        if not np.isfinite(found).any():
            return None
        return np.where(np.isfinite(found), found, np.nanmean(found))

    def kept_deviation(self, hours: int) -> tuple[Floats, tuple[float, ...]]:
        """What share of a deviation is left after 0, 1, … hours, and the mean relative errors by lead."""
        usual: Floats = _USUAL_DECAY ** np.arange(hours)
        seen, profiles = self._seen, self._profiles
        deviation = seen - profiles[:, 0]
        begin = max(0, len(seen) - FITTED_HOURS - hours)
        level = float(np.nanmean(seen))
        shares, errors = [], []
        for lead in range(hours):
            origin = np.arange(begin, len(seen) - lead)
            later = seen[origin + lead] - profiles[origin, lead % 24]
            now = deviation[origin]
            known = np.isfinite(later) & np.isfinite(now)
            if known.sum() < _LEAST_FITTED:
                return usual, ()
            now, later = now[known], later[known]
            power = float(now @ now)
            share = min(1.0, max(0.0, float(now @ later) / power)) if power > 0.0 else 0.0
            shares.append(share)
            errors.append(float(np.abs(later - share * now).mean()) / level if level > 0.0 else 0.0)
        return np.asarray(shares), tuple(errors)
