"""How much in flight the arrivals really ask for, when replicas are too few and a queue has built up.

    offered = running + service * (growth of the queue + queue / drain)     service = running / finished a
    second

While nobody waits, what is in flight is what is asked for. Once a queue stands, it grows for as long as
replicas take to start, and sizing for the whole of it asks for several times what the arrivals need
(integrator wind-up; kubernetes#78761). Little's law tells the arrivals instead: what is finished a second,
what the queue grows by a second, and so much a second as clears the queue within ``drain``. Never above what
is in flight, so at worst this is the plain sum; without the number of waiting requests or the rate it is the
plain sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metrics.samples import NoData

# Queue growth is smoothed over some looks: one arrival more or less is not a trend.
_SMOOTHED_SECONDS: Final = 20.0
LEAST_DRAIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue at the last look, and how fast it grew, requests a second."""

    at_seconds: float
    waiting: float
    growth_rps: float = 0.0

    def seen(self, waiting: float, now: float) -> Queue:
        """Return the queue with one more look at it."""
        passed = now - self.at_seconds
        if passed <= 0.0:
            return self
        share = min(1.0, passed / _SMOOTHED_SECONDS)
        growth = (waiting - self.waiting) / passed
        return Queue(now, waiting, self.growth_rps + share * (growth - self.growth_rps))


def offered_load(
    in_flight: float,
    queue: Queue | None,
    request_rate: float | NoData,
    *,
    cold_start_seconds: float,
) -> float:
    """Return the requests that would be in flight if there were replicas enough."""
    if queue is None or queue.waiting <= 0.0 or isinstance(request_rate, NoData) or request_rate <= 0.0:
        return in_flight
    running = max(0.0, in_flight - queue.waiting)
    service_seconds = running / request_rate
    drain_seconds = max(LEAST_DRAIN_SECONDS, cold_start_seconds)
    arriving_more = max(0.0, queue.growth_rps) + queue.waiting / drain_seconds
    return min(in_flight, running + service_seconds * arriving_more)
