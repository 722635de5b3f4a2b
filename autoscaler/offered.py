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

# Queue growth is smoothed over some looks: one arrival more or less is not a trend. Where replicas start
# within seconds, that has to be seen sooner.
_SMOOTHED_SECONDS: Final = 20.0
_SMOOTHED_OF_START: Final = 2.0 / 3.0
_LEAST_SMOOTHED_SECONDS: Final = 2.0
# A queue is cleared within a start-up; where those are short within two, as long as that is below a minute.
_LEAST_DRAIN_SECONDS: Final = 2.0
_DRAIN_STARTS: Final = 2.0
_DRAIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue at the last look, and how fast it grew, requests a second."""

    at_seconds: float
    waiting: float
    growth_rps: float = 0.0

    def seen(self, waiting: float, now: float, cold_start_seconds: float) -> Queue:
        """Return the queue with one more look at it."""
        passed = now - self.at_seconds
        if passed <= 0.0:
            return self
        smoothed = max(
            _LEAST_SMOOTHED_SECONDS, min(_SMOOTHED_SECONDS, _SMOOTHED_OF_START * cold_start_seconds)
        )
        share = min(1.0, passed / smoothed)
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
    drain_seconds = max(
        _LEAST_DRAIN_SECONDS, cold_start_seconds, min(_DRAIN_SECONDS, _DRAIN_STARTS * cold_start_seconds)
    )
    arriving_more = max(0.0, queue.growth_rps) + queue.waiting / drain_seconds
    return min(in_flight, running + service_seconds * arriving_more)
