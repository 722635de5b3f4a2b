"""The load as the last hours know it: its mean and its deviation, whatever the last minutes say.

    mean, variance = exponential means over some six hours of what is in flight, over less while less was seen
    deviation      = sqrt(variance + mean + (WANDERING * mean)^2)                        [requests in flight]

A replica that is asked for when a burst comes serves when the burst has gone, if a start takes longer than
bursts last. Who has to bear such bursts holds a number of replicas that hardly moves: so many deviations
above the mean of hours, a quantile of the load (the newsvendor's rule). Whether that is cheaper than
following the load, ``shadows`` find out.

Pure. Knows no time of day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# Loads wander by a share of their level, whatever their number of requests.
WANDERING: Final = 0.05
_MEMORY_SECONDS: Final = 21_600.0
# What a mean of the first looks is worth.
_BEGUN_SECONDS: Final = 900.0
# After a time in which nothing was seen.
_LONGEST_STEP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Steady:
    """``mean`` and ``variance`` of the requests in flight over ``age_seconds``, the old fading."""

    mean: float
    variance: float = 0.0
    age_seconds: float = 0.0

    def seen(self, in_flight: float, passed_seconds: float) -> Steady:
        """Return the load with one more look, taken ``passed_seconds`` after the one before."""
        passed = min(max(0.0, passed_seconds), _LONGEST_STEP_SECONDS)
        share = passed / min(_MEMORY_SECONDS, self.age_seconds + _BEGUN_SECONDS)
        off = in_flight - self.mean
        variance = self.variance + share * (off * off - self.variance)
        return Steady(self.mean + share * off, variance, self.age_seconds + passed)

    @property
    def deviation(self) -> float:
        """One deviation, in requests; never below what arrivals at random have."""
        mean = max(0.0, self.mean)
        return math.sqrt(self.variance + mean + (WANDERING * mean) ** 2)


UNSEEN: Final = Steady(0.0)
