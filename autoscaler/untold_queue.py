"""How many requests wait on servers that do not tell it.

    waiting = in flight - max(ready * per replica, service * finished a second)
    service = mean in flight / mean finished a second, both while the replicas hold all of it

What is in flight beyond the in-flight share of the ready replicas waits or is served by turns; either way it
has piled up, and sizing for all of it winds up (``offered``). Unless the server does serve so many at a time:
then as many more are finished a second, which Little's law tells by the service time of calmer minutes
(J. D. C. Little, Operations Research 9, 1961). Before there were such minutes nothing is known to wait, and
what is in flight counts whole.

Pure. Does not trust itself for ever: whoever asks gives up the difference once it stands for longer than
replicas take to start and to clear it (``sizing``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from metrics.samples import NoData

_USUAL_SECONDS: Final = 600.0
# Standard deviations of a random stream by which requests in flight may exceed what is served at a time.
_BY_CHANCE: Final = 2.5


@dataclass(frozen=True, slots=True)
class Calm:
    """Means over the minutes in which the replicas held all requests: in flight, and finished a second."""

    in_flight: float = 0.0
    rate_rps: float = 0.0

    def seen(self, in_flight: float, held: float, rate: float | NoData, passed_seconds: float) -> Calm:
        """Return the means after one more look, which counts if the replicas ``held`` that much."""
        if in_flight > held or isinstance(rate, NoData) or rate <= 0.0:
            return self
        if self.rate_rps <= 0.0:
            return Calm(in_flight, rate)
        share = min(1.0, max(0.0, passed_seconds) / _USUAL_SECONDS)
        return Calm(
            self.in_flight + share * (in_flight - self.in_flight),
            self.rate_rps + share * (rate - self.rate_rps),
        )

    def waiting(self, in_flight: float, held: float, rate: float | NoData) -> float | None:
        """Return the requests that have piled up; None while the service time or the rate is unknown."""
        if self.rate_rps <= 0.0 or isinstance(rate, NoData):
            return None
        return max(0.0, in_flight - max(held, self.in_flight / self.rate_rps * rate))


NEVER_CALM: Final = Calm()


def beyond_chance(beyond: float, held: float) -> bool:
    """Tell whether so many ``beyond`` what the replicas hold are more than a random stream's own."""
    return beyond > _BY_CHANCE * math.sqrt(held)
