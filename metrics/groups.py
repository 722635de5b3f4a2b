"""The product's own metrics as objects that count: one small class a group, its names beside it.

The groups with a state of their own stand elsewhere: the autoscaler's in ``autoscaler_group.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from metrics import autoscaler_names, node_names, process_names, scheduler_names
from metrics.instruments import counter, gauge, histogram


class ExtenderMetrics:
    """What kube-scheduler asked and what it was told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_duration_seconds = histogram(registry, scheduler_names.EXTENDER_REQUEST_DURATION_SECONDS)
        self.decisions = counter(registry, scheduler_names.EXTENDER_DECISIONS_TOTAL)
        self.refused_nodes = counter(registry, scheduler_names.EXTENDER_REFUSED_NODES_TOTAL)
        self.unknown_nodes = counter(registry, scheduler_names.EXTENDER_UNKNOWN_NODES_TOTAL)


class FleetMetrics:
    """What is known of the cluster, and how fresh it is. Give ``snapshot_age_seconds.set_function`` a live
    reading.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.snapshot_age_seconds = gauge(registry, scheduler_names.FLEET_SNAPSHOT_AGE_SECONDS)
        self.nodes = gauge(registry, scheduler_names.FLEET_NODES)
        self.gpus = gauge(registry, scheduler_names.FLEET_GPUS)
        self.reservations = gauge(registry, scheduler_names.FLEET_RESERVATIONS)


class PriceMetrics:
    """The price tables: their age, and what computing them took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.age_seconds = gauge(registry, scheduler_names.PRICE_TABLES_AGE_SECONDS)
        self.solve_duration_seconds = histogram(registry, scheduler_names.PRICE_TABLES_SOLVE_DURATION_SECONDS)
        self.solves = counter(registry, scheduler_names.PRICE_TABLES_SOLVES_TOTAL)
        self.interference_slowdown_ratio = gauge(registry, scheduler_names.INTERFERENCE_SLOWDOWN_RATIO)


class WatchMetrics:
    """The reflectors. ``adopt`` a resource before its first list."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.restarts = counter(registry, process_names.WATCH_RESTARTS_TOTAL)
        self.events = counter(registry, process_names.WATCH_EVENTS_TOTAL)
        self.synced = gauge(registry, process_names.WATCH_SYNCED)

    def adopt(self, resource: str, restart_reasons: Iterable[str] = ()) -> None:
        """Start the resource's label sets at 0."""
        self.events.labels(resource)
        self.synced.labels(resource)
        for reason in restart_reasons:
            self.restarts.labels(resource, reason)


class PolicyMetrics:
    """Policies read: accepted or refused, and since when the one in force is there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loads = counter(registry, process_names.POLICY_LOADS_TOTAL)
        self.last_load_successful = gauge(registry, process_names.POLICY_LAST_LOAD_SUCCESSFUL)
        self.last_success_timestamp_seconds = gauge(
            registry, process_names.POLICY_LAST_SUCCESS_TIMESTAMP_SECONDS
        )

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
        self.leader = gauge(registry, process_names.LEADER)
        self.transitions = counter(registry, process_names.LEADER_TRANSITIONS_TOTAL)

    def adopt(self, lease: str) -> None:
        """Start the lease's label sets at 0."""
        self.leader.labels(lease)
        self.transitions.labels(lease)


class PlannerMetrics:
    """Plans, nominations, gates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.nominations = counter(registry, scheduler_names.PLANNER_NOMINATIONS_TOTAL)
        self.gate_timeouts = counter(registry, scheduler_names.PLANNER_GATE_TIMEOUTS_TOTAL)
        self.plan_duration_seconds = histogram(registry, scheduler_names.PLANNER_PLAN_DURATION_SECONDS)
        self.solves = counter(registry, scheduler_names.PLANNER_SOLVES_TOTAL)
        self.waiting_pods = gauge(registry, scheduler_names.PLANNER_WAITING_PODS)


class RepackMetrics:
    """Moves of running pods, and nodes that were re-cut."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.moves = counter(registry, scheduler_names.REPACK_MOVES_TOTAL)
        self.reliefs = counter(registry, scheduler_names.REPACK_RELIEFS_TOTAL)
        self.proposed_moves = gauge(registry, scheduler_names.REPACK_PROPOSED_MOVES)
        self.unmet_pods = gauge(registry, scheduler_names.REPACK_UNMET_PODS)
        self.plan_duration_seconds = histogram(registry, scheduler_names.REPACK_PLAN_DURATION_SECONDS)
        self.recuts = counter(registry, scheduler_names.RECUTS_TOTAL)
        self.recut_proposed_nodes = gauge(registry, scheduler_names.RECUT_PROPOSED_NODES)


class DeviceOrderMetrics:
    """The order of MIG placements that the drivers are told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.writes = counter(registry, scheduler_names.DEVICE_ORDER_WRITES_TOTAL)


class BatchMetrics:
    """Jobs held until their best hours."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.held_jobs = gauge(registry, autoscaler_names.BATCH_HELD_JOBS)
        self.releases = counter(registry, autoscaler_names.BATCH_RELEASES_TOTAL)
        self.missed_deadlines = counter(registry, autoscaler_names.BATCH_MISSED_DEADLINES_TOTAL)
        self.expected_saving_grams = counter(registry, autoscaler_names.BATCH_EXPECTED_SAVING_GRAMS_TOTAL)
        self.plans = counter(registry, autoscaler_names.BATCH_PLANS_TOTAL)
        self.plan_duration_seconds = histogram(registry, autoscaler_names.BATCH_PLAN_DURATION_SECONDS)
        self.forecast_error_ratio = gauge(registry, autoscaler_names.BATCH_FORECAST_ERROR_RATIO)


class DoorMetrics:
    """What HPA and KEDA were answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = counter(registry, autoscaler_names.DOOR_ANSWERS_TOTAL)


class NodeAdviceMetrics:
    """Which nodes to add, and which may go."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = counter(registry, autoscaler_names.EXPANDER_ANSWERS_TOTAL)
        self.duration_seconds = histogram(registry, autoscaler_names.EXPANDER_DURATION_SECONDS)
        self.scale_down_nodes = gauge(registry, autoscaler_names.SCALE_DOWN_NODES)


class WarmMetrics:
    """Placeholders and prefetches, by workload."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pods = gauge(registry, autoscaler_names.WARM_PODS_COUNT)
        self.changes = counter(registry, autoscaler_names.WARM_CHANGES_TOTAL)


class NodeMetrics:
    """The DRA driver of one node."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.claim_duration_seconds = histogram(registry, node_names.NODE_CLAIM_DURATION_SECONDS)
        self.card_call_duration_seconds = histogram(registry, node_names.NODE_CARD_CALL_DURATION_SECONDS)
        self.card_refusals = counter(registry, node_names.NODE_CARD_REFUSALS_TOTAL)
        self.prepared_claims = gauge(registry, node_names.NODE_PREPARED_CLAIMS)
        self.gpus = gauge(registry, node_names.NODE_GPUS)
        self.foreign_instances = gauge(registry, node_names.NODE_FOREIGN_INSTANCES)
        self.slice_writes = counter(registry, node_names.NODE_SLICE_WRITES_TOTAL)
        self.publish_failures = counter(registry, node_names.NODE_PUBLISH_FAILURES_TOTAL)
        self.publish_delay_seconds = histogram(registry, node_names.NODE_PUBLISH_DELAY_SECONDS)
        self.registered = gauge(registry, node_names.NODE_REGISTERED)


class SourceMetrics:
    """Where our own numbers come from: Prometheus and carbon providers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.prometheus_queries = counter(registry, process_names.PROMETHEUS_QUERIES_TOTAL)
        self.prometheus_query_duration_seconds = histogram(
            registry, process_names.PROMETHEUS_QUERY_DURATION_SECONDS
        )
        self.carbon_intensity = gauge(registry, process_names.CARBON_INTENSITY_GRAMS_PER_KILOWATT_HOUR)
        self.carbon_fetches = counter(registry, process_names.CARBON_FETCHES_TOTAL)
