"""Who decides when a batch job starts: the protocol, and the rivals.

- ``immediate``: at arrival, what a cluster does by itself.
- ``threshold``: now if the grid is cleaner than in so many of the last seven days' hours (the quartile), else
  wait, to the latest start; what carbon-aware operators do with ``max intensity``.
- ``green-hours``: in the six hours of the day that were cleanest in the last seven days; a nightly window,
  with its hours chosen by hindsight on the past week.
- ``slicewise``: the product's own ``schedule`` with its own forecast from the zone's history.
- ``slicewise-told``: the same, told the true intensities of the next two days: what is lost to the forecast.
- ``perfect``: the same, told true intensities and true durations, with no margin but one step: the yardstick.

All but ``perfect`` know of a job what ``durations`` knows. Starts are requests: who starts when GPUs are
short is the replay's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from autoscaler.batch.candidates import Forecasts
from autoscaler.batch.curve import HOUR_SECONDS, Curve, Floats
from autoscaler.batch.grid_forecast import KEPT_HOURS, GridForecast, day_ahead
from autoscaler.batch.schedule import schedule
from autoscaler.batch.work import HeldJob, Pool
from metrics.samples import NoData

ZONE: Final = "zone"
GREEN_HOURS: Final = 6
QUANTILE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known at ``now`` (seconds): hourly ``truth`` from time 0 on, of which a policy that does not
    see the future may read only up to ``now``; ``pools`` with the GPUs that are not taken by running jobs.
    """

    now: float
    truth: Floats
    pools: tuple[Pool, ...]

    @property
    def hour(self) -> int:
        """The hour in force."""
        return int(self.now // HOUR_SECONDS)

    def past(self, hours: int) -> Floats:
        """The last hours, that of now included."""
        return self.truth[max(0, self.hour + 1 - hours) : self.hour + 1]


class BatchPolicy(Protocol):
    """Decides which of the held jobs start now."""

    exact: bool
    """Whether it is told true durations instead of estimates with margins."""

    def release(self, held: Sequence[HeldJob], sight: Sight) -> set[str]:
        """Keys of the jobs to start now."""
        ...


class Immediate:
    """At arrival."""

    exact = False

    def release(self, held: Sequence[HeldJob], sight: Sight) -> set[str]:
        return {job.key for job in held}


class Threshold:
    """Below a quantile of the last week, or at the latest start."""

    exact = False

    def release(self, held: Sequence[HeldJob], sight: Sight) -> set[str]:
        clean = sight.truth[sight.hour] <= np.quantile(sight.past(7 * 24), QUANTILE)
        return {job.key for job in held if clean or job.latest_start_seconds <= sight.now}


class GreenHours:
    """In the hours of the day that were cleanest in the last week, or at the latest start."""

    exact = False

    def release(self, held: Sequence[HeldJob], sight: Sight) -> set[str]:
        past = sight.past(7 * 24)
        hours = (np.arange(len(past)) + sight.hour + 1 - len(past)) % 24
        usual = [past[hours == hour].mean() if (hours == hour).any() else np.inf for hour in range(24)]
        green = sight.hour % 24 in np.argsort(usual, kind="stable")[:GREEN_HOURS]
        return {job.key for job in held if green or job.latest_start_seconds <= sight.now}


class Slicewise:
    """The product. ``told``: true intensities instead of its own forecast."""

    def __init__(self, *, told: bool, exact: bool, effort: float) -> None:
        self.exact, self._told, self._effort = exact, told, effort
        self._known: tuple[int, Curve | NoData] = (-1, NoData("no hour was seen yet", "empty"))

    def release(self, held: Sequence[HeldJob], sight: Sight) -> set[str]:
        forecast: Forecasts = {ZONE: self._forecast(sight)}
        plan = schedule(held, forecast, _NO_PRICES, sight.pools, sight.now, effort=self._effort)
        return {key for key, start in plan.starts.items() if start.at_seconds <= sight.now}

    def _forecast(self, sight: Sight) -> Curve | NoData:
        start = sight.hour * HOUR_SECONDS
        if self._told:
            return Curve.hourly(start, sight.truth[sight.hour : sight.hour + 48].tolist())
        if self._known[0] != sight.hour:
            self._known = sight.hour, _curve(day_ahead(sight.past(KEPT_HOURS).tolist(), start))
        return self._known[1]


def _curve(found: GridForecast | NoData) -> Curve | NoData:
    return found if isinstance(found, NoData) else found.curve


_NO_PRICES: Final[Forecasts] = {}


def batch_policies(effort: float) -> Mapping[str, BatchPolicy]:
    """Every policy by name."""
    return {
        "immediate": Immediate(),
        "threshold": Threshold(),
        "green-hours": GreenHours(),
        "slicewise": Slicewise(told=False, exact=False, effort=effort),
        "slicewise-told": Slicewise(told=True, exact=False, effort=effort),
        "perfect": Slicewise(told=True, exact=True, effort=effort),
    }
