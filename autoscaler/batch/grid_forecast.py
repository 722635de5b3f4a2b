"""The next two days of a grid from what was seen of it, with how far such forecasts were off.

    forecast(t + h) = profile(hour of t + h) + b_h × (value(t) − profile(hour of t))

``profile`` is the mean of the same hour of the last ten days, each day counting 0.85 of the next one;
``b_h`` (0..1) is fitted by least squares for every lead h over the last three weeks: how much of today's
deviation from the usual is still there h hours later. Sun-driven grids live by the profile, wind-driven
ones by ``b_h``, and nobody has to say which a zone is. Sources: seasonal means with an error correction are
the usual yardstick of day-ahead carbon forecasts (Maji et al., CarbonCast, BuildSys 2022).

Used where a provider sells no forecast. Fits on the past only, holds no clock. A missing hour is NaN and
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autoscaler.batch.curve import Curve, Floats
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
    """``curve`` from the hour in force on; ``error_ratio``: mean absolute error by lead in hours over the
    mean level, empty while there is too little history to know it.
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
    """The usual value of every hour, as known a day before it, and how long deviations from it last."""

    def __init__(self, seen: Floats) -> None:
        self._seen = seen
        days = min(DAYS, len(seen) // 24)
        # One day further than what was seen: the coming hours' usual values are known already.
        total, weight = np.zeros(len(seen) + 24), np.zeros(len(seen) + 24)
        known = np.isfinite(seen)
        filled = np.where(known, seen, 0.0)
        for day in range(days):
            back = 24 * (day + 1)
            end = min(len(total), len(seen) + back)
            total[back:end] += DECAY**day * filled[: end - back]
            weight[back:end] += DECAY**day * known[: end - back]
        self._usual = np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0.0)

    def profile(self, at: int) -> Floats | None:
        """The usual values of the 24 hours from hour ``at`` on; None while there is not a day of history."""
        found: Floats = self._usual[at : at + 24]
        if not np.isfinite(found).any():
            return None
        return np.where(np.isfinite(found), found, np.nanmean(found))

    def kept_deviation(self, hours: int) -> tuple[Floats, tuple[float, ...]]:
        """What share of a deviation is left after 0, 1, … hours, and the mean relative errors by lead."""
        seen, usual = self._seen, self._usual
        count = len(seen)
        deviation = seen - usual[:count]
        begin = max(0, count - FITTED_HOURS - hours)
        level = float(np.nanmean(seen))
        usual_decay: Floats = _USUAL_DECAY ** np.arange(hours, dtype=np.float64)
        shares: list[float] = []
        errors: list[float] = []
        for lead in range(hours):
            # The usual value as it was known at the origin: that of the day before for a second day.
            later = seen[begin + lead :] - usual[begin + lead % 24 : count - lead + lead % 24]
            now = deviation[begin : count - lead]
            known = np.isfinite(later) & np.isfinite(now)
            if known.sum() < _LEAST_FITTED:
                return usual_decay, ()
            now, later = now[known], later[known]
            power = float(now @ now)
            share = min(1.0, max(0.0, float(now @ later) / power)) if power > 0.0 else 0.0
            shares.append(share)
            errors.append(float(np.abs(later - share * now).mean()) / level if level > 0.0 else 0.0)
        return np.asarray(shares), tuple(errors)
