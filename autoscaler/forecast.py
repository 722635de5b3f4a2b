"""What in-flight may become before a replica asked for now serves, and how wrong that forecast has been.

    fast, level = mean in flight over some 10 s (a tenth of the lead, if longer), over some 10 min
    expected    = level + persistence * (fast - level)     persistence: what is left of that one lead later
    trend       = fast + DAMPING * slope * lead            slope between the two
    season      = fast * (usual then / usual now)          by quarter of an hour of the day
    floor       = max(expected, those of the two that err less than fast alone)
    dispersion  = mean of (seen - expected)^2 / level, expected of one lead before

``persistence`` is the coefficient of the regression of what is seen one lead later on what is seen now, both
as distances from the level: a first-order autoregression at the distance that matters. Bursts that are over
before a replica could serve are then not answered with replicas (it is near 0), and lulls do not hide them;
steps and ramps are answered in full (it is near 1). It begins at 1, so that a workload nobody knows yet is
followed, and what was found weighs as much as that after ``PERSISTENCE_PRIOR_SECONDS``.

The trend is Holt's with damping (Gardner and McKenzie 1985). The season is the mean of each quarter of an
hour, the newest day counting half; it speaks only after a whole day. Each of the two is judged one lead later
by its squared error and speaks only while that is clearly below the plain level's, so a workload without a
trend or a daily shape never pays for one. They may only raise. ``dispersion`` is the scale of the burst
allowance (``headroom``): the error's variance in units of a random stream's own, errors of both signs
counted: a load that fell by so much may as well rise by it. ``relative_error`` is kept for the metric that
shows how good the forecast is.

Pure. Times are of the caller's clock; the season wants Unix time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.replacing import replace
from metrics.samples import NoData

# A random stream's own, until its error tells.
START_DISPERSION: Final = 1.0
LARGEST_DISPERSION: Final = 10_000.0
# The error is compared at a lead's distance plus one scrape and one look or two.
LEAD_MARGIN_SECONDS: Final = 60.0
_ERRORS_SECONDS: Final = 21_600.0
_LEVEL_SECONDS: Final = 600.0
_FAST_SECONDS: Final = 10.0
_FAST_OF_LEAD: Final = 0.1
_DAMPING: Final = 0.5
PERSISTENCE_PRIOR_SECONDS: Final = 900.0
# A forecast speaks while its squared error is below this share of the plain level's.
_EARNED: Final = 0.95
_KEPT_LOOKS: Final = 32
_DAY_SECONDS: Final = 86_400.0
_QUARTERS: Final = 96
# A day's value against the days before: the newest counts half.
_NEWEST_DAY: Final = 0.5
_MOST_SEASON: Final = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment (``fast``, ``level``), and what was forecast for one lead later: expected,
    by trend, by season (None: mute).
    """

    at_seconds: float
    fast: float
    level: float
    expected: float
    trend: float
    season: float | None


@dataclass(frozen=True, slots=True)
class Season:
    """Mean in flight by quarter of an hour of the day; the quarter being filled and its running mean."""

    days: tuple[float | None, ...] = (None,) * _QUARTERS
    quarter: int | None = None
    total: float = 0.0
    looks: int = 0

    def seen(self, in_flight: float, unix_seconds: float) -> Season:
        """Return the season with one more look; a quarter is written down when it is over."""
        quarter = _quarter(unix_seconds)
        if quarter == self.quarter:
            return Season(self.days, quarter, self.total + in_flight, self.looks + 1)
        days = self.days
        if self.quarter is not None and self.looks:
            old, mean = days[self.quarter], self.total / self.looks
            new = mean if old is None else old + _NEWEST_DAY * (mean - old)
            days = (*days[: self.quarter], new, *days[self.quarter + 1 :])
        return Season(days, quarter, in_flight, 1)

    def growth(self, unix_seconds: float, lead_seconds: float) -> float | None:
        """Return the factor by which the day usually grows over the lead; None before a day is full."""
        now, then = self.days[_quarter(unix_seconds)], self.days[_quarter(unix_seconds + lead_seconds)]
        if now is None or then is None or None in self.days:
            return None
        return min(_MOST_SEASON, (then + 1.0) / (now + 1.0))


@dataclass(frozen=True, slots=True)
class Forecast:
    """``level`` and ``fast`` are means over minutes; ``dispersion`` and the squared errors (in units of the
    level) are learned from looks that are one lead old. ``distance`` is the mean square of ``fast - level``,
    ``lasting`` its mean product with what was seen one lead later, both in units of the level;
    ``judged_seconds`` is the time that they tell of.
    """

    at_seconds: float
    level: float
    fast: float
    dispersion: float = START_DISPERSION
    level_error: float = 0.0
    trend_error: float = 0.0
    season_error: float = 0.0
    relative_error: float | None = None
    distance: float = 0.0
    lasting: float = 0.0
    judged_seconds: float = 0.0
    season: Season = Season()
    looks: tuple[Look, ...] = ()

    @classmethod
    def begun(cls, in_flight: float, now: float) -> Forecast:
        """The forecast of a workload seen for the first time."""
        return cls(now, in_flight, in_flight)

    def recalled(self, persistence: Sequence[float]) -> Forecast:
        """Return the forecast with ``distance``, ``lasting`` and ``judged_seconds`` of the time before a
        restart; any other number of values is as good as none.
        """
        if len(persistence) != 3:
            return self
        distance, lasting, judged_seconds = persistence
        return replace(self, distance=distance, lasting=lasting, judged_seconds=judged_seconds)

    def seen(
        self, in_flight: float, now: float, *, lead_seconds: float, unix_seconds: float | NoData
    ) -> Forecast:
        """Return the forecast with one more look, the errors of those one lead old counted."""
        passed = max(0.0, now - self.at_seconds)
        lag = lead_seconds + LEAD_MARGIN_SECONDS
        judged = self._judged(in_flight, now, lag)
        level = self.level + min(1.0, passed / _LEVEL_SECONDS) * (in_flight - self.level)
        averaged = max(_FAST_SECONDS, _FAST_OF_LEAD * lead_seconds)
        fast = self.fast + min(1.0, passed / averaged) * (in_flight - self.fast)
        season = self.season
        if not isinstance(unix_seconds, NoData):
            season = season.seen(in_flight, unix_seconds)
        looks = judged.looks
        if not looks or now - looks[-1].at_seconds >= lag / _KEPT_LOOKS:
            look = Look(
                now,
                fast,
                level,
                level + judged.persistence * (fast - level),
                _by_trend(fast, level, lag),
                _by_season(fast, season, lag, unix_seconds),
            )
            looks = (*looks, look)
        return replace(judged, at_seconds=now, level=level, fast=fast, season=season, looks=looks)

    @property
    def persistence(self) -> float:
        """The share of a distance from the level that is left one lead later, 0 to 1."""
        if self.distance <= 0.0:
            return 1.0
        found = min(1.0, max(0.0, self.lasting / self.distance))
        prior = PERSISTENCE_PRIOR_SECONDS
        return (self.judged_seconds * found + prior) / (self.judged_seconds + prior)

    def one_lead_later(self, in_flight: float) -> float:
        """Return what is expected to be left of ``in_flight`` when a replica asked for now serves."""
        return self.level + self.persistence * (in_flight - self.level)

    def floor(self, *, lead_seconds: float, unix_seconds: float | NoData) -> float:
        """Return the in-flight to be ready for: what is expected of the mean of the last looks, or more."""
        lag = lead_seconds + LEAD_MARGIN_SECONDS
        earned, floor = _EARNED * self.level_error, self.one_lead_later(self.fast)
        if self.trend_error < earned:
            floor = max(floor, _by_trend(self.fast, self.level, lag))
        if self.season_error < earned:
            season = _by_season(self.fast, self.season, lag, unix_seconds)
            floor = floor if season is None else max(floor, season)
        return floor

    def _judged(self, in_flight: float, now: float, lag: float) -> Forecast:
        """Count the errors of the looks that are one ``lag`` old, and forget those."""
        forecast, looks = self, self.looks
        while looks and now - looks[0].at_seconds >= lag:
            look, looks = looks[0], looks[1:]
            until = looks[0].at_seconds if looks else now
            share = min(1.0, (until - look.at_seconds) / _ERRORS_SECONDS)
            scale = max(look.fast, self.level, 1.0)
            plain = (in_flight - look.fast) ** 2 / scale
            season = look.fast if look.season is None else look.season
            error = (in_flight - look.expected) ** 2 / max(look.expected, self.level, 1.0)
            distance = (look.fast - look.level) / scale
            relative = abs(in_flight - look.fast) / scale
            known = relative if forecast.relative_error is None else forecast.relative_error
            forecast = replace(
                forecast,
                dispersion=min(LARGEST_DISPERSION, _nearer(forecast.dispersion, error, share)),
                level_error=_nearer(forecast.level_error, plain, share),
                trend_error=_nearer(forecast.trend_error, (in_flight - look.trend) ** 2 / scale, share),
                season_error=_nearer(forecast.season_error, (in_flight - season) ** 2 / scale, share),
                relative_error=_nearer(known, relative, share),
                distance=_nearer(forecast.distance, distance * (look.fast - look.level), share),
                lasting=_nearer(forecast.lasting, distance * (in_flight - look.level), share),
                judged_seconds=min(_ERRORS_SECONDS, forecast.judged_seconds + until - look.at_seconds),
                looks=looks,
            )
        return forecast

    @property
    def variation(self) -> float:
        """The forecast's error as a share of the level (a coefficient of variation)."""
        return math.sqrt(self.dispersion / max(self.level, 1.0))

    @property
    def burst_level(self) -> float:
        """The level that a burst starts from: the mean of the last minutes, lulls included."""
        return max(self.level, 0.0)


def _by_trend(fast: float, level: float, lag: float) -> float:
    """What the trend says about one ``lag`` later; never below ``fast``."""
    slope = (fast - level) / (_LEVEL_SECONDS - _FAST_SECONDS)
    return fast + max(0.0, slope) * _DAMPING * lag


def _by_season(fast: float, season: Season, lag: float, unix_seconds: float | NoData) -> float | None:
    """What the season says about one ``lag`` later, never below ``fast``; None before a day is full."""
    growth = None if isinstance(unix_seconds, NoData) else season.growth(unix_seconds, lag)
    return None if growth is None else fast * max(1.0, growth)


def _nearer(value: float, to: float, share: float) -> float:
    return value + share * (to - value)


def _quarter(unix_seconds: float) -> int:
    return int(unix_seconds % _DAY_SECONDS / _DAY_SECONDS * _QUARTERS) % _QUARTERS
