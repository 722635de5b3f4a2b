"""Spare capacity learned from what came of it, and from what would have come of any other.

    allowance  = deviations * sqrt(dispersion * level + (WANDERING * level)^2)     [requests in flight]
    deviations = the least that the shadow fleets find to keep the objective (``shadows``) + surplus
    surplus   <- max(0, surplus + rate * weight * (late share of the period - what is allowed or explained))

What a replica has to spare covers what in-flight will do before another replica can serve. By Little's law
and random arrivals that wanders by sqrt(level), times what the forecast's own error says (``dispersion``,
``forecast``), and by a share of the level besides. How many such deviations the objective takes nobody can
tell beforehand (server, burstiness, start-up): the shadow fleets find it, from all headrooms at once. Their
aim is the error budget: ``AIM_SHARE`` of what the objective allows, less what was really late beyond that
in the last day, or more if less was.

What the shadows cannot explain (a router that favours some replicas, a server slower than stated) is learned
from realised misses alone: ``surplus``, adaptive conformal control (Gibbs and Candes, NeurIPS 2021), a little
down in each good period, quickly up in a bad one. Square-root staffing is Halfin and Whitt's (Operations
Research 29, 1981).

``weight`` is the period's traffic against the usual: the objective counts requests, not minutes. A period
without traffic teaches nothing. Misses that no replica could have prevented (at the maximum, unplaceable,
blind) never raise it; ``spoiled_until_seconds`` keeps their echo in the histogram out, too. Does not look at
latency itself, and does not know the forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from autoscaler.replacing import replace
from autoscaler.shadows import Shadows
from metrics.samples import NoData

# Aim below what the objective allows: what the shadows find for the past is a little short for the future.
AIM_SHARE: Final = 0.5
# Loads wander by a share of their level, whatever their number of requests.
WANDERING: Final = 0.05
_LEAST_AIM: Final = 0.1
_LARGEST_AIM: Final = 1.5
_USUAL_PERIODS: Final = 120.0
_LARGEST_WEIGHT: Final = 2.0
_BUDGET_SECONDS: Final = 86_400.0
# Before so much was answered, a late request does not count for more.
_LEAST_BUDGET_SECONDS: Final = 4.0 * 3600.0
_LONGEST_PERIOD_SECONDS: Final = 600.0
# Twice as long as the histogram's window, so that lateness is seen while its cause still is.
_FULL_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Headroom:
    """``deviations`` to keep; the last correction; the part that realised misses alone have taught; the share
    of the last minutes in which all replicas were full; the usual requests a second; the end of an echo; what
    was answered and late in the last day, in seconds of usual traffic.
    """

    deviations: float
    corrected_seconds: float
    surplus: float = 0.0
    full: float = 0.0
    usual_rps: float | None = None
    spoiled_until_seconds: float | None = None
    answered: float = 0.0
    late: float = 0.0

    @classmethod
    def begun(cls, cold_start_seconds: float, attainment: float, worth: float, now: float) -> Headroom:
        """The safe start of a workload about which nothing is remembered: what the shadows' prior says."""
        start = cls(0.0, now)
        safe = Shadows.begun(1, now).chosen(start.aim(attainment), cold_start_seconds, worth)
        return replace(start, deviations=safe)

    def allowance(self, level: float, dispersion: float) -> float:
        """Return the requests in flight to keep free at ``level`` in flight."""
        return self.deviations * spread(level, dispersion)

    def looked(self, all_full: bool, passed_seconds: float) -> Headroom:
        """Return the headroom that has taken note whether every ready replica had all it can serve."""
        if self.full == float(all_full):
            return self
        share = min(1.0, max(0.0, passed_seconds) / _FULL_SECONDS)
        return replace(self, full=self.full + share * (float(all_full) - self.full))

    def spoiled(self, now: float, period_seconds: float) -> Headroom:
        """Return the headroom that knows: misses of now could not have been prevented by any replica.

        They stay in the histogram's window for a period, and the queue that they left for another.
        """
        return replace(self, spoiled_until_seconds=now + 2.0 * period_seconds)

    def due(self, period_seconds: float, now: float) -> bool:
        """Tell whether a learning period has passed since the last correction."""
        return now - self.corrected_seconds >= period_seconds

    def aim(self, attainment: float) -> float:
        """Return the late share that the shadows shall keep, by what is left of the error budget."""
        allowed = AIM_SHARE * (1.0 - attainment)
        overdrawn = (self.late - allowed * self.answered) / max(self.answered, _LEAST_BUDGET_SECONDS)
        return min(_LARGEST_AIM * allowed, max(_LEAST_AIM * allowed, allowed - overdrawn))

    def corrected(
        self,
        missed: float | NoData,
        request_rate: float | NoData,
        shadows: Shadows,
        *,
        attainment: float,
        learning_rate: float,
        least: float,
        most: float,
        cold_start_seconds: float,
        worth: float,
        now: float,
    ) -> Headroom:
        """Return the headroom after one period in which the share ``missed`` of the requests was late."""
        learned = self
        if not isinstance(missed, NoData):
            learned = self._taught(missed, request_rate, attainment, learning_rate, now)
        best = shadows.chosen(learned.aim(attainment), cold_start_seconds, worth)
        surplus = min(learned.surplus, most)
        deviations = min(most, max(least, best + surplus))
        return replace(learned, corrected_seconds=now, surplus=surplus, deviations=deviations)

    def _taught(
        self,
        missed: float,
        request_rate: float | NoData,
        attainment: float,
        learning_rate: float,
        now: float,
    ) -> Headroom:
        usual, weight = self.usual_rps, 1.0
        if not isinstance(request_rate, NoData) and request_rate > 0.0:
            usual = request_rate if usual is None else usual + (request_rate - usual) / _USUAL_PERIODS
            weight = min(_LARGEST_WEIGHT, request_rate / usual)
        # Lateness while every replica is full is a lack of replicas: the shadows see that for themselves.
        change = missed - max(AIM_SHARE * (1.0 - attainment), min(1.0, 2.0 * self.full))
        if self.spoiled_until_seconds is not None and now < self.spoiled_until_seconds:
            surplus = max(0.0, self.surplus + learning_rate * weight * min(0.0, change))
            return replace(self, usual_rps=usual, surplus=surplus)
        passed = min(_LONGEST_PERIOD_SECONDS, max(0.0, now - self.corrected_seconds))
        fading = math.exp(-passed / _BUDGET_SECONDS)
        return replace(
            self,
            surplus=max(0.0, self.surplus + learning_rate * weight * change),
            usual_rps=usual,
            answered=self.answered * fading + weight * passed,
            late=self.late * fading + weight * passed * missed,
        )


def spread(level: float, dispersion: float) -> float:
    """Return one deviation of the load around ``level`` in flight, in requests."""
    level = max(0.0, level)
    return math.sqrt(max(1.0, dispersion) * level + (WANDERING * level) ** 2)
