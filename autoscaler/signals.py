"""What a decision is made from: the state of one workload at one moment.

A number that could not be had is a ``NoData`` with its reason, never 0: a metrics outage must not look like
idleness. Counts of pods come from the API server and are always known.

Does not fetch anything (``collect`` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from metrics.samples import NoData
from metrics.streams import StreamLag

NOT_ASKED = NoData("not asked for by the policy")


@dataclass(frozen=True, slots=True)
class Signals:
    """One workload, seen at one moment.

    ``in_flight`` is the sum of running and waiting requests over all pods that report; ``silent`` ready pods
    do not report, so with any of them it is a lower bound. ``p95_seconds`` is over all pods together.
    ``gpu_utilisation`` is a share 0..1. ``current`` is ``spec.replicas``; of the pods that exist, ``ready``
    serve, ``starting`` are on their way, ``unschedulable`` have been refused by the scheduler for too long to
    be called starting. ``cold_start_seconds`` is what was measured from creation to Ready.

    ``slo_missed`` is the share 0..1 of the requests finished in the last learning period that took longer
    than the objective's bound, dropped ones among them where the source knows of them (a server's histogram
    does not). ``placeable`` is how many replicas of this workload
    the cluster can hold, those that run included. ``waiting_outside`` are requests held before the pods
    (gateway, activator, KEDA's HTTP add-on, queue of the inference gateway). ``other_writer`` names who else
    sets the replicas, None for nobody. ``waiting`` is the part of ``in_flight`` that waits. ``tokens_in`` and
    ``tokens_out`` are means a request, ``service_seconds`` is the mean latency of the objective's measure and
    ``token_seconds`` the mean time between two tokens, both over the last learning period. ``unix_seconds``
    is the time of day, for the season of the forecast. ``grid_grams_per_kwh`` is the mean intensity of the
    grids under the pods. ``stream`` is how far the consumer group lags that a policy with ``lag`` names.
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
    slo_missed: float | NoData = NOT_ASKED
    placeable: int | NoData = NOT_ASKED
    waiting_outside: float | NoData = NOT_ASKED
    other_writer: str | None = None
    waiting: float | NoData = NOT_ASKED
    tokens_in: float | NoData = NOT_ASKED
    tokens_out: float | NoData = NOT_ASKED
    service_seconds: float | NoData = NOT_ASKED
    token_seconds: float | NoData = NOT_ASKED
    unix_seconds: float | NoData = NOT_ASKED
    grid_grams_per_kwh: float | NoData = NOT_ASKED
    stream: StreamLag | NoData = NOT_ASKED

    @property
    def idle(self) -> bool:
        """Nothing in flight and nothing finished: then a latency that is not a number says nothing."""
        return self.in_flight == 0.0 and self.request_rate == 0.0 and self.silent == 0
