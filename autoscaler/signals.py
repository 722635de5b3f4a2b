"""What a decision is made from: the state of one workload at one moment.

A number that could not be had is a ``NoData`` with its reason, never 0: a metrics outage must not look like
idleness. Counts of pods come from the API server and are always known.

Does not fetch anything (``collect`` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from metrics.samples import NoData

NOT_ASKED = NoData("not asked for by the policy")


@dataclass(frozen=True, slots=True)
class Signals:
    """One workload, seen at one moment.

    ``in_flight`` is the sum of running and waiting requests over all pods that report; ``silent`` ready pods
    do not report, so with any of them it is a lower bound. ``p95_seconds`` is over all pods together.
    ``gpu_utilisation`` is a share 0..1. ``current`` is ``spec.replicas``; of the pods that exist, ``ready``
    serve, ``starting`` are on their way, ``unschedulable`` have been refused by the scheduler for too long to
    be called starting. ``cold_start_seconds`` is what was measured from creation to Ready.
    """

    current: int
    ready: int
    starting: int = 0
    unschedulable: int = 0
    silent: int = 0
    in_flight: float | NoData = NOT_ASKED
    request_rate: float | NoData = NOT_ASKED
    p95_seconds: float | NoData = NOT_ASKED
    gpu_utilisation: float | NoData = NOT_ASKED
    cold_start_seconds: float | NoData = NOT_ASKED

    @property
    def idle(self) -> bool:
        """Nothing in flight and nothing finished: then a latency that is not a number says nothing."""
        return self.in_flight == 0.0 and self.request_rate == 0.0 and self.silent == 0
