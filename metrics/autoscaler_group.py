"""The autoscaler's series: a workload's are adopted with its policy, set where they change, and forgotten.

A controller has a thousand workloads and a round a few seconds apart: what has not changed is not set again.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from metrics import autoscaler_names, label_values
from metrics.instruments import OnRequest, counter, gauge, histogram

_TOLD = (
    autoscaler_names.AUTOSCALER_IN_FLIGHT_REQUESTS,
    autoscaler_names.AUTOSCALER_LATE_RATIO,
    autoscaler_names.AUTOSCALER_LATE_DAY_RATIO,
    autoscaler_names.AUTOSCALER_HEADROOM_RATIO,
    autoscaler_names.AUTOSCALER_FORECAST_ERROR_RATIO,
    autoscaler_names.AUTOSCALER_REPLICA_REQUESTS,
    autoscaler_names.AUTOSCALER_COLD_START_SECONDS,
)


class AutoscalerMetrics:
    """Decisions a workload: ``adopt`` it when its policy appears, ``forget`` it when the policy goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.desired_replicas = gauge(registry, autoscaler_names.AUTOSCALER_DESIRED_REPLICAS)
        self.current_replicas = gauge(registry, autoscaler_names.AUTOSCALER_CURRENT_REPLICAS)
        self.placeable_replicas = gauge(registry, autoscaler_names.AUTOSCALER_PLACEABLE_REPLICAS)
        self.unplaceable_replicas = gauge(registry, autoscaler_names.AUTOSCALER_UNPLACEABLE_REPLICAS)
        self.foreign_changes = counter(registry, autoscaler_names.AUTOSCALER_FOREIGN_CHANGES_TOTAL)
        self._rooms: dict[tuple[str, str, str], tuple[int | None, int]] = {}
        self.decisions = counter(registry, autoscaler_names.AUTOSCALER_DECISIONS_TOTAL)
        self.target_errors = counter(registry, autoscaler_names.AUTOSCALER_TARGET_ERRORS_TOTAL)
        self.signal_available = gauge(registry, autoscaler_names.AUTOSCALER_SIGNAL_AVAILABLE)
        self.signals_contradict = gauge(registry, autoscaler_names.AUTOSCALER_SIGNALS_CONTRADICT)
        self.direct_scrapes = counter(registry, autoscaler_names.AUTOSCALER_DIRECT_SCRAPES_TOTAL)
        self.loop_duration_seconds = histogram(registry, autoscaler_names.AUTOSCALER_LOOP_DURATION_SECONDS)
        self.loop_phase_seconds = counter(registry, autoscaler_names.AUTOSCALER_LOOP_PHASE_SECONDS_TOTAL)
        # What changes with each decision is read off the decisions when somebody looks, not set each round.
        self.told = OnRequest(registry, _TOLD)
        self._decided: dict[tuple[str, str, str], _DecisionSeries] = {}

    def adopt(self, namespace: str, kind: str, name: str) -> None:
        """Start the workload's error counters and signal gauges at 0.

        Replica gauges appear when they are first set: of a new workload nothing is known, which is not 0. So
        do the counters of reasons, of which a workload sees a few and could see dozens.
        """
        for reason in label_values.TARGET_ERRORS:
            self.target_errors.labels(namespace, kind, name, reason)
        for signal in label_values.SIGNALS:
            self.signal_available.labels(namespace, kind, name, signal)
        self.foreign_changes.labels(namespace, kind, name)
        self.signals_contradict.labels(namespace, kind, name)

    def room(self, namespace: str, kind: str, name: str, placeable: int | None, unplaceable: int) -> None:
        """Show how many replicas there is room for, None where nobody asked or nobody could tell, and how
        many are wanted and find none.
        """
        key = namespace, kind, name
        before = self._rooms.get(key)
        if before == (placeable, unplaceable):
            return
        self._rooms[key] = placeable, unplaceable
        if placeable is not None:
            self.placeable_replicas.labels(*key).set(placeable)
        elif before is not None and before[0] is not None:
            self.placeable_replicas.remove(*key)
        self.unplaceable_replicas.labels(*key).set(unplaceable)

    def decision(
        self,
        workload: tuple[str, str, str],
        *,
        current: int,
        desired: int,
        reason: str,
        available: Mapping[str, bool],
    ) -> None:
        """Show one decision about a workload (namespace, kind, name), and which signals it had."""
        series = self._decided.get(workload)
        if series is None:
            series = self._decided[workload] = _DecisionSeries(self, workload)
        series.counter(reason).inc()
        series.show(current, desired, available)

    def round_took(self, seconds_by_phase: Mapping[str, float]) -> None:
        """Show how long a round took, and in which phases."""
        for phase, seconds in seconds_by_phase.items():
            self.loop_phase_seconds.labels(phase).inc(seconds)
        self.loop_duration_seconds.observe(sum(seconds_by_phase.values()))

    def forget(self, namespace: str, kind: str, name: str) -> None:
        """Drop every series of the workload."""
        self._decided.pop((namespace, kind, name), None)
        labels = {"namespace": namespace, "kind": kind, "name": name}
        self.desired_replicas.remove_by_labels(labels)
        self.current_replicas.remove_by_labels(labels)
        self._rooms.pop((namespace, kind, name), None)
        self.placeable_replicas.remove_by_labels(labels)
        self.unplaceable_replicas.remove_by_labels(labels)
        self.foreign_changes.remove_by_labels(labels)
        self.decisions.remove_by_labels(labels)
        self.target_errors.remove_by_labels(labels)
        self.signal_available.remove_by_labels(labels)
        self.signals_contradict.remove_by_labels(labels)


class _DecisionSeries:
    """The series of one workload's decisions: looked up once, since a round sets them for every workload."""

    def __init__(self, metrics: AutoscalerMetrics, workload: tuple[str, str, str]) -> None:
        self._metrics, self._workload = metrics, workload
        self._shown: tuple[int, int] | None = None
        self._available: dict[str, bool] = {}
        self._reasons: dict[str, Counter] = {}

    def counter(self, reason: str) -> Counter:
        found = self._reasons.get(reason)
        if found is None:
            found = self._reasons[reason] = self._metrics.decisions.labels(*self._workload, reason)
        return found

    def show(self, current: int, desired: int, available: Mapping[str, bool]) -> None:
        """Set what has changed since it was last shown."""
        metrics, workload = self._metrics, self._workload
        if self._shown != (current, desired):
            metrics.current_replicas.labels(*workload).set(current)
            metrics.desired_replicas.labels(*workload).set(desired)
            self._shown = current, desired
        if self._available != available:
            for signal, there in available.items():
                metrics.signal_available.labels(*workload, signal).set(1 if there else 0)
            self._available = dict(available)
