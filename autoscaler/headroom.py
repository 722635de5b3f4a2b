"""Spare capacity learned from what came of it: adaptive conformal control of the share of late requests.

    allowance = deviations * sqrt(dispersion * level)                          [requests in flight]
    deviations <- clip(deviations + rate * weight * (share of requests that were late - aim))   once a period
    aim = AIM_SHARE * (1 - attainment) / (1 + start-up / AIM_HALVED_SECONDS)

What a replica has to spare covers what in-flight will do before another replica can serve. By Little's law
and random arrivals that wanders by sqrt(level); ``dispersion`` is how much more it really wanders, measured
by the forecast's own error (``forecast``). How many such deviations the objective takes nobody can tell
beforehand (server, router, burstiness, start-up): it is learned, a little down in each good period, quickly
up in a bad one, so that in the long run the late share is what the objective allows (Gibbs and Candes,
NeurIPS 2021). Square-root staffing is Halfin and Whitt's (Operations Research 29, 1981).

``weight`` is the period's traffic against the usual: the objective counts requests, not minutes. A period
without traffic teaches nothing. Misses that no replica could have prevented (at the maximum, unplaceable,
blind) never raise it; ``spoiled_until_seconds`` keeps their echo in the histogram out, too. Does not look at
latency itself, and does not know the forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from metrics.samples import NoData

# Aim below what the objective allows: the path there costs misses as well, and a shortage lasts a start-up,
# so that the longer that takes, the larger the lumps in which misses come.
AIM_SHARE: Final = 0.75
AIM_HALVED_SECONDS: Final = 110.0
# A safe start, with the root of the time that a start takes, as a wandering load goes; learning moves it
# within hours either way.
START_DEVIATIONS: Final = 0.1
START_PER_ROOT_SECOND: Final = 0.13
LARGEST_START: Final = 3.0
_USUAL_PERIODS: Final = 120.0
_LARGEST_WEIGHT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Headroom:
    """``deviations`` learned so far; the last correction; the usual requests a second; the end of an echo."""

    deviations: float
    corrected_seconds: float
    usual_rps: float | None = None
    spoiled_until_seconds: float | None = None

    @classmethod
    def begun(cls, cold_start_seconds: float, now: float) -> Headroom:
        """The safe start of a workload about which nothing is remembered."""
        start = START_DEVIATIONS + START_PER_ROOT_SECOND * math.sqrt(max(0.0, cold_start_seconds))
        return cls(min(LARGEST_START, start), now)

    def allowance(self, level: float, dispersion: float) -> float:
        """Return the requests in flight to keep free at ``level`` in flight."""
        return self.deviations * math.sqrt(max(1.0, dispersion) * max(0.0, level))

    def spoiled(self, now: float, period_seconds: float) -> Headroom:
        """Return the headroom that knows: misses of now could not have been prevented by any replica.

        They stay in the histogram's window for a period, and the queue that they left for another.
        """
        return replace(self, spoiled_until_seconds=now + 2.0 * period_seconds)

    def due(self, period_seconds: float, now: float) -> bool:
        """Tell whether a learning period has passed since the last correction."""
        return now - self.corrected_seconds >= period_seconds

    def corrected(
        self,
        missed: float | NoData,
        request_rate: float | NoData,
        *,
        attainment: float,
        learning_rate: float,
        least: float,
        most: float,
        cold_start_seconds: float,
        now: float,
    ) -> Headroom:
        """Return the headroom after one period in which the share ``missed`` of the requests was late."""
        if isinstance(missed, NoData):
            return replace(self, corrected_seconds=now)
        usual, weight = self.usual_rps, 1.0
        if not isinstance(request_rate, NoData) and request_rate > 0.0:
            usual = request_rate if usual is None else usual + (request_rate - usual) / _USUAL_PERIODS
            weight = min(_LARGEST_WEIGHT, request_rate / usual)
        change = learning_rate * weight * (missed - aim(attainment, cold_start_seconds))
        if self.spoiled_until_seconds is not None and now < self.spoiled_until_seconds:
            change = min(0.0, change)
        return replace(
            self,
            deviations=min(most, max(least, self.deviations + change)),
            corrected_seconds=now,
            usual_rps=usual,
        )


def aim(attainment: float, cold_start_seconds: float) -> float:
    """Return the share of late requests that learning steers for, so that ``attainment`` is kept."""
    return AIM_SHARE * (1.0 - attainment) / (1.0 + cold_start_seconds / AIM_HALVED_SECONDS)
