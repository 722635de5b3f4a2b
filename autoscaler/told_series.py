"""What the newest decisions saw and have learned, as series for ``/metrics``.

Read off when the page is asked for (``metrics.instruments.OnRequest``), so that a round over a thousand
workloads does not pay for it. What was not known is left out: a gap in the graph, never a 0. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from autoscaler.view import View
from metrics import autoscaler_names as names
from metrics.instruments import Reading
from metrics.samples import NoData


def told(views: Iterable[View]) -> Iterator[Reading]:
    """The series of ``views``: (metric, labels, value)."""
    for view in views:
        target, seen, state = view.target, view.signals, view.decision.state
        labels = (target.namespace, target.kind, target.name)
        for metric, value in (
            (names.AUTOSCALER_IN_FLIGHT_REQUESTS, seen.in_flight),
            (names.AUTOSCALER_LATE_RATIO, seen.slo_missed),
            (names.AUTOSCALER_COLD_START_SECONDS, seen.cold_start_seconds),
        ):
            if not isinstance(value, NoData):
                yield metric, labels, value
        learned = state.learned
        if learned is None:
            continue
        yield names.AUTOSCALER_HEADROOM_RATIO, labels, state.headroom
        yield names.AUTOSCALER_FORECAST_ERROR_RATIO, labels, learned.forecast.variation
        budget = learned.headroom
        if budget.answered > 0.0:
            yield names.AUTOSCALER_LATE_DAY_RATIO, labels, budget.late / budget.answered
        if learned.per_replica is not None:
            yield names.AUTOSCALER_REPLICA_REQUESTS, labels, learned.per_replica
