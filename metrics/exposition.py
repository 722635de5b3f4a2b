"""The product's own metrics as prometheus_client objects, in a registry of their own.

One small class a room; a process exposes only the groups it touches, so that an extender never shows an
autoscaler's zeros. Label sets known beforehand start at 0, ages and timestamps start as NaN. Names live in
``names.py``.

The default registry of prometheus_client is not used: two fleets in one process (tests, simulations) must not
meet.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from metrics import names
from metrics.metric import Metric

# A ``_created`` series beside every counter would double the page and is read by nobody.
disable_created_metrics()  # type: ignore[no-untyped-call]


def _counter(registry: CollectorRegistry, metric: Metric) -> Counter:
    counter = Counter(metric.name, metric.help, metric.labels, registry=registry)
    for values in metric.initial:
        counter.labels(*values)
    return counter


def _gauge(registry: CollectorRegistry, metric: Metric) -> Gauge:
    gauge = Gauge(metric.name, metric.help, metric.labels, registry=registry)
    for values in metric.initial:
        gauge.labels(*values)
    if metric.starts_unknown and not metric.labels:
        gauge.set(math.nan)
    return gauge


def _histogram(registry: CollectorRegistry, metric: Metric) -> Histogram:
    histogram = Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    for values in metric.initial:
        histogram.labels(*values)
    return histogram


class ExtenderMetrics:
    """What kube-scheduler asked and what it was told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_duration_seconds = _histogram(registry, names.EXTENDER_REQUEST_DURATION_SECONDS)
        self.decisions = _counter(registry, names.EXTENDER_DECISIONS_TOTAL)
        self.refused_nodes = _counter(registry, names.EXTENDER_REFUSED_NODES_TOTAL)
        self.unknown_nodes = _counter(registry, names.EXTENDER_UNKNOWN_NODES_TOTAL)


class FleetMetrics:
    """What is known of the cluster, and how fresh it is. Give ``snapshot_age_seconds.set_function`` a live
    reading.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.snapshot_age_seconds = _gauge(registry, names.FLEET_SNAPSHOT_AGE_SECONDS)
        self.nodes = _gauge(registry, names.FLEET_NODES)
        self.gpus = _gauge(registry, names.FLEET_GPUS)
        self.reservations = _gauge(registry, names.FLEET_RESERVATIONS)


class PriceMetrics:
    """The price tables: their age, and what computing them took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.age_seconds = _gauge(registry, names.PRICE_TABLES_AGE_SECONDS)
        self.solve_duration_seconds = _histogram(registry, names.PRICE_TABLES_SOLVE_DURATION_SECONDS)
        self.solves = _counter(registry, names.PRICE_TABLES_SOLVES_TOTAL)
        self.interference_slowdown_ratio = _gauge(registry, names.INTERFERENCE_SLOWDOWN_RATIO)


class WatchMetrics:
    """The reflectors. ``adopt`` a resource before its first list."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.restarts = _counter(registry, names.WATCH_RESTARTS_TOTAL)
        self.events = _counter(registry, names.WATCH_EVENTS_TOTAL)
        self.synced = _gauge(registry, names.WATCH_SYNCED)

    def adopt(self, resource: str, restart_reasons: Iterable[str] = ()) -> None:
        """Start the resource's label sets at 0."""
        self.events.labels(resource)
        self.synced.labels(resource)
        for reason in restart_reasons:
            self.restarts.labels(resource, reason)


class PolicyMetrics:
    """Policies read: accepted or refused, and since when the one in force is there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loads = _counter(registry, names.POLICY_LOADS_TOTAL)
        self.last_load_successful = _gauge(registry, names.POLICY_LAST_LOAD_SUCCESSFUL)
        self.last_success_timestamp_seconds = _gauge(registry, names.POLICY_LAST_SUCCESS_TIMESTAMP_SECONDS)

    def accepted(self, policy: str, at_seconds: float) -> None:
        self.loads.labels(policy, "accepted").inc()
        self.last_load_successful.labels(policy).set(1)
        self.last_success_timestamp_seconds.labels(policy).set(at_seconds)

    def refused(self, policy: str) -> None:
        self.loads.labels(policy, "refused").inc()
        self.last_load_successful.labels(policy).set(0)


class LeaderMetrics:
    """Who leads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = _gauge(registry, names.LEADER)
        self.transitions = _counter(registry, names.LEADER_TRANSITIONS_TOTAL)

    def adopt(self, lease: str) -> None:
        """Start the lease's label sets at 0."""
        self.leader.labels(lease)
        self.transitions.labels(lease)


class PlannerMetrics:
    """Plans, nominations, gates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.nominations = _counter(registry, names.PLANNER_NOMINATIONS_TOTAL)
        self.gate_timeouts = _counter(registry, names.PLANNER_GATE_TIMEOUTS_TOTAL)
        self.plan_duration_seconds = _histogram(registry, names.PLANNER_PLAN_DURATION_SECONDS)
        self.solves = _counter(registry, names.PLANNER_SOLVES_TOTAL)
        self.waiting_pods = _gauge(registry, names.PLANNER_WAITING_PODS)


class RepackMetrics:
    """Moves of running pods, and nodes that were re-cut."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.moves = _counter(registry, names.REPACK_MOVES_TOTAL)
        self.reliefs = _counter(registry, names.REPACK_RELIEFS_TOTAL)
        self.proposed_moves = _gauge(registry, names.REPACK_PROPOSED_MOVES)
        self.unmet_pods = _gauge(registry, names.REPACK_UNMET_PODS)
        self.plan_duration_seconds = _histogram(registry, names.REPACK_PLAN_DURATION_SECONDS)
        self.recuts = _counter(registry, names.RECUTS_TOTAL)
        self.recut_proposed_nodes = _gauge(registry, names.RECUT_PROPOSED_NODES)


class DeviceOrderMetrics:
    """The order of MIG placements that the drivers are told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.writes = _counter(registry, names.DEVICE_ORDER_WRITES_TOTAL)


class BatchMetrics:
    """Jobs held until their best hours."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.held_jobs = _gauge(registry, names.BATCH_HELD_JOBS)
        self.releases = _counter(registry, names.BATCH_RELEASES_TOTAL)
        self.missed_deadlines = _counter(registry, names.BATCH_MISSED_DEADLINES_TOTAL)
        self.expected_saving_grams = _counter(registry, names.BATCH_EXPECTED_SAVING_GRAMS_TOTAL)
        self.plans = _counter(registry, names.BATCH_PLANS_TOTAL)
        self.plan_duration_seconds = _histogram(registry, names.BATCH_PLAN_DURATION_SECONDS)
        self.forecast_error_ratio = _gauge(registry, names.BATCH_FORECAST_ERROR_RATIO)


class DoorMetrics:
    """What HPA and KEDA were answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = _counter(registry, names.DOOR_ANSWERS_TOTAL)


class NodeAdviceMetrics:
    """Which nodes to add, and which may go."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = _counter(registry, names.EXPANDER_ANSWERS_TOTAL)
        self.duration_seconds = _histogram(registry, names.EXPANDER_DURATION_SECONDS)
        self.scale_down_nodes = _gauge(registry, names.SCALE_DOWN_NODES)


class WarmMetrics:
    """Placeholders and prefetches, by workload."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pods = _gauge(registry, names.WARM_PODS_COUNT)
        self.changes = _counter(registry, names.WARM_CHANGES_TOTAL)


class AutoscalerMetrics:
    """Decisions a workload: ``adopt`` it when its policy appears, ``forget`` it when the policy goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.desired_replicas = _gauge(registry, names.AUTOSCALER_DESIRED_REPLICAS)
        self.current_replicas = _gauge(registry, names.AUTOSCALER_CURRENT_REPLICAS)
        self.placeable_replicas = _gauge(registry, names.AUTOSCALER_PLACEABLE_REPLICAS)
        self.unplaceable_replicas = _gauge(registry, names.AUTOSCALER_UNPLACEABLE_REPLICAS)
        self.foreign_changes = _counter(registry, names.AUTOSCALER_FOREIGN_CHANGES_TOTAL)
        self._rooms: dict[tuple[str, str, str], tuple[int | None, int]] = {}
        self.decisions = _counter(registry, names.AUTOSCALER_DECISIONS_TOTAL)
        self.target_errors = _counter(registry, names.AUTOSCALER_TARGET_ERRORS_TOTAL)
        self.signal_available = _gauge(registry, names.AUTOSCALER_SIGNAL_AVAILABLE)
        self.signals_contradict = _gauge(registry, names.AUTOSCALER_SIGNALS_CONTRADICT)
        self.direct_scrapes = _counter(registry, names.AUTOSCALER_DIRECT_SCRAPES_TOTAL)
        self.loop_duration_seconds = _histogram(registry, names.AUTOSCALER_LOOP_DURATION_SECONDS)
        self._decided: dict[tuple[str, str, str], _DecisionSeries] = {}

    def adopt(self, namespace: str, kind: str, name: str) -> None:
        """Start the workload's error counters and signal gauges at 0.

        Replica gauges appear when they are first set: of a new workload nothing is known, which is not 0. So
        do the counters of reasons, of which a workload sees a few and could see dozens.
        """
        for reason in names.TARGET_ERRORS:
            self.target_errors.labels(namespace, kind, name, reason)
        for signal in names.SIGNALS:
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


class NodeMetrics:
    """The DRA driver of one node."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.claim_duration_seconds = _histogram(registry, names.NODE_CLAIM_DURATION_SECONDS)
        self.card_call_duration_seconds = _histogram(registry, names.NODE_CARD_CALL_DURATION_SECONDS)
        self.card_refusals = _counter(registry, names.NODE_CARD_REFUSALS_TOTAL)
        self.prepared_claims = _gauge(registry, names.NODE_PREPARED_CLAIMS)
        self.gpus = _gauge(registry, names.NODE_GPUS)
        self.foreign_instances = _gauge(registry, names.NODE_FOREIGN_INSTANCES)
        self.slice_writes = _counter(registry, names.NODE_SLICE_WRITES_TOTAL)
        self.publish_failures = _counter(registry, names.NODE_PUBLISH_FAILURES_TOTAL)
        self.publish_delay_seconds = _histogram(registry, names.NODE_PUBLISH_DELAY_SECONDS)
        self.registered = _gauge(registry, names.NODE_REGISTERED)


class SourceMetrics:
    """Where our own numbers come from: Prometheus and carbon providers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.prometheus_queries = _counter(registry, names.PROMETHEUS_QUERIES_TOTAL)
        self.prometheus_query_duration_seconds = _histogram(registry, names.PROMETHEUS_QUERY_DURATION_SECONDS)
        self.carbon_intensity = _gauge(registry, names.CARBON_INTENSITY_GRAMS_PER_KILOWATT_HOUR)
        self.carbon_fetches = _counter(registry, names.CARBON_FETCHES_TOTAL)


_Group = TypeVar("_Group")


class Exposition:
    """The metrics of one process. Touch the groups it has (``exposition.extender``, ...) while composing it;
    ``render`` gives the page for ``/metrics``. Safe to use from several threads.
    """

    def __init__(self, component: str, version: str, revision: str = "unknown") -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._groups: dict[type, object] = {}
        _gauge(self.registry, names.BUILD_INFO).labels(component, version, revision).set(1)
        ProcessCollector(registry=self.registry)

    def _group(self, make: Callable[[CollectorRegistry], _Group]) -> _Group:
        kind: type = make  # type: ignore[assignment]
        with self._lock:
            group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = make(self.registry)
            return group  # type: ignore[return-value]

    @property
    def extender(self) -> ExtenderMetrics:
        return self._group(ExtenderMetrics)

    @property
    def fleet(self) -> FleetMetrics:
        return self._group(FleetMetrics)

    @property
    def prices(self) -> PriceMetrics:
        return self._group(PriceMetrics)

    @property
    def watches(self) -> WatchMetrics:
        return self._group(WatchMetrics)

    @property
    def policy(self) -> PolicyMetrics:
        return self._group(PolicyMetrics)

    @property
    def leader(self) -> LeaderMetrics:
        return self._group(LeaderMetrics)

    @property
    def planner(self) -> PlannerMetrics:
        return self._group(PlannerMetrics)

    @property
    def repack(self) -> RepackMetrics:
        return self._group(RepackMetrics)

    @property
    def device_order(self) -> DeviceOrderMetrics:
        return self._group(DeviceOrderMetrics)

    @property
    def batch(self) -> BatchMetrics:
        return self._group(BatchMetrics)

    @property
    def doors(self) -> DoorMetrics:
        return self._group(DoorMetrics)

    @property
    def node_advice(self) -> NodeAdviceMetrics:
        return self._group(NodeAdviceMetrics)

    @property
    def warm(self) -> WarmMetrics:
        return self._group(WarmMetrics)

    @property
    def node(self) -> NodeMetrics:
        return self._group(NodeMetrics)

    @property
    def autoscaler(self) -> AutoscalerMetrics:
        return self._group(AutoscalerMetrics)

    @property
    def sources(self) -> SourceMetrics:
        return self._group(SourceMetrics)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type. ``accept`` is the scraper's Accept header (OpenMetrics when it asks
        for it).
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
