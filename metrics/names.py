"""Every metric name of the product, in one place.

Dashboards, rules and documentation may use these names and no others; a test holds them to the Prometheus
conventions: prefix ``slicewise_``, base units in the name, ratios from 0 to 1, ``_total`` on counters, and no
label with one value a pod. ``initial`` lists the label sets that start at 0, so that ``rate()`` sees the
first increment. Gauges that say how old or when something is start as NaN instead: "never" is not "0 seconds
ago".

Pure data; the objects that count are in ``exposition.py``.
"""

from __future__ import annotations

from typing import Final

from metrics.metric import Metric, each

PREFIX: Final = "slicewise_"


EXTENDER_VERBS: Final = ("filter", "prioritize", "preempt", "bind")
EXTENDER_DECISIONS: Final = (
    "decided",  # a GPU pod was judged
    "not_a_gpu_pod",  # passed through untouched
    "not_understood",  # a GPU request of a form that is not known: passed through
    "not_ready",  # the fleet is not synced yet: passed through
    "no_node_left",  # every node was refused
    "error",
)
PLANNER_OUTCOMES: Final = ("written", "honoured", "elsewhere", "refused", "expired", "error")
REPACK_MOVES: Final = ("evicted", "gone", "refused", "error", "settled", "elsewhere", "unsettled")
REPACK_RELIEFS: Final = ("helped", "elsewhere", "gone", "timed_out")
RECUT_OUTCOMES: Final = ("started", "succeeded", "failed", "rolled_back", "stuck", "given_up")
ORDER_WRITES: Final = ("written", "error")
BATCH_RELEASES: Final = ("planned", "latest", "late", "crowded", "unreadable", "guard", "error")
BATCH_PLANS: Final = ("separate", "optimal", "rounded", "feasible", "greedy")
PLAN_SOLVES: Final = ("optimal", "feasible", "rounded", "greedy", "empty", "none")  # none: no answer in time
SOLVE_STATUSES: Final = ("optimal", "feasible", "time_limit", "failed")
POLICIES: Final = ("cluster", "autoscaling")
QUERY_RESULTS: Final = ("data", "empty", "timeout", "outage", "refused", "malformed")
CARBON_RESULTS: Final = (
    "data",
    "empty",
    "timeout",
    "outage",
    "refused",
    "malformed",
    "stale",
    "misconfigured",
    "not-a-number",
    "unknown",
)
TARGET_ERRORS: Final = ("not_found", "forbidden", "conflict", "not_scalable", "policy", "other")
DOORS: Final = ("external_metrics", "keda")
DOOR_RESULTS: Final = (
    "served",
    "not_known",  # no decision to hand out: stale, not the leader, undecided
    "refused",  # the caller may not ask
    "mistaken",  # it asked for what there is not
)
EXPANDER_RESULTS: Final = ("chosen", "left", "error")  # left: no option helped a GPU pod
SCALE_DOWN_ADVICE: Final = ("may_go", "keep")
WARM_PODS: Final = ("placeholder_running", "placeholder_waiting", "prefetch")
WARM_CHANGES: Final = (
    "placeholder_created",
    "placeholder_deleted",  # no longer needed
    "placeholder_handed_over",  # deleted for a replica that waits
    "prefetch_created",
    "prefetch_finished",
    "error",
)
SIGNALS: Final = ("in_flight", "request_rate", "latency", "gpu_utilisation", "slo_missed", "waiting")
DIRECT_SCRAPES: Final = ("read", "no_gauge", "refused", "timeout", "unreachable", "too_large")

# Request handling is meant to take single milliseconds, and kube-scheduler gives up after seconds.
_REQUEST_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_WORK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# --- extender -----------------------------------------------------------------------------------------------
EXTENDER_REQUEST_DURATION_SECONDS: Final = Metric(
    "slicewise_extender_request_duration_seconds",
    "histogram",
    "Time to answer a request of kube-scheduler, by verb and HTTP status code.",
    ("verb", "code"),
    each(EXTENDER_VERBS, ("200",)),
    _REQUEST_SECONDS,
)
EXTENDER_DECISIONS_TOTAL: Final = Metric(
    "slicewise_extender_decisions_total",
    "counter",
    "Requests by verb and by how they were decided.",
    ("verb", "reason"),
    each(("filter", "prioritize"), EXTENDER_DECISIONS),
)
EXTENDER_REFUSED_NODES_TOTAL: Final = Metric(
    "slicewise_extender_refused_nodes_total",
    "counter",
    "Nodes refused by the filter, by whether preemption could help (resolvable) or not (unresolvable).",
    ("kind",),
    each(("resolvable", "unresolvable")),
)
EXTENDER_UNKNOWN_NODES_TOTAL: Final = Metric(
    "slicewise_extender_unknown_nodes_total",
    "counter",
    "Node names in requests that the fleet does not know; they are passed through.",
    (),
)

# --- fleet --------------------------------------------------------------------------------------------------
FLEET_SNAPSHOT_AGE_SECONDS: Final = Metric(
    "slicewise_fleet_snapshot_age_seconds",
    "gauge",
    "Seconds since the state of the fleet was last confirmed by the API server; NaN before the first sync.",
    starts_unknown=True,
)
FLEET_NODES: Final = Metric("slicewise_fleet_nodes", "gauge", "Nodes with GPUs that are known.")
FLEET_GPUS: Final = Metric("slicewise_fleet_gpus", "gauge", "GPUs that are known, by model.", ("model",))
FLEET_RESERVATIONS: Final = Metric(
    "slicewise_fleet_reservations",
    "gauge",
    "Placements held for pods whose binding the watch has not confirmed yet.",
)

# --- price tables -------------------------------------------------------------------------------------------
PRICE_TABLES_AGE_SECONDS: Final = Metric(
    "slicewise_price_tables_age_seconds",
    "gauge",
    "Seconds since the price tables in use were computed; NaN before the first.",
    starts_unknown=True,
)
PRICE_TABLES_SOLVE_DURATION_SECONDS: Final = Metric(
    "slicewise_price_tables_solve_duration_seconds",
    "histogram",
    "Time to compute the price tables.",
    buckets=_WORK_SECONDS,
)
PRICE_TABLES_SOLVES_TOTAL: Final = Metric(
    "slicewise_price_tables_solves_total",
    "counter",
    "Computations of the price tables, by the solver's status.",
    ("status",),
    each(SOLVE_STATUSES),
)

INTERFERENCE_SLOWDOWN_RATIO: Final = Metric(
    "slicewise_interference_slowdown_ratio",
    "gauge",
    "Share of its speed that a pod of the class was measured to lose to one neighbour, by what they share.",
    ("shared", "class", "neighbour"),
)

# --- watches ------------------------------------------------------------------------------------------------
WATCH_RESTARTS_TOTAL: Final = Metric(
    "slicewise_watch_restarts_total",
    "counter",
    "Watches that had to be opened again, by resource and cause.",
    ("resource", "reason"),
)
WATCH_EVENTS_TOTAL: Final = Metric(
    "slicewise_watch_events_total", "counter", "Watch events received, by resource.", ("resource",)
)
WATCH_SYNCED: Final = Metric(
    "slicewise_watch_synced", "gauge", "1 when the first list of the resource is in, else 0.", ("resource",)
)

# --- policy -------------------------------------------------------------------------------------------------
POLICY_LOADS_TOTAL: Final = Metric(
    "slicewise_policy_loads_total",
    "counter",
    "Policies read, by kind and by whether they were accepted.",
    ("policy", "result"),
    each(POLICIES, ("accepted", "refused")),
)
POLICY_LAST_LOAD_SUCCESSFUL: Final = Metric(
    "slicewise_policy_last_load_successful",
    "gauge",
    "1 when the newest policy of the kind was accepted, 0 when it was refused and an older one is in force.",
    ("policy",),
    starts_unknown=True,
)
POLICY_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = Metric(
    "slicewise_policy_last_success_timestamp_seconds",
    "gauge",
    "Unix time at which a policy of the kind was last accepted.",
    ("policy",),
    starts_unknown=True,
)

# --- leader -------------------------------------------------------------------------------------------------
LEADER: Final = Metric(
    "slicewise_leader", "gauge", "1 on the replica that holds the lease, else 0.", ("lease",)
)
LEADER_TRANSITIONS_TOTAL: Final = Metric(
    "slicewise_leader_transitions_total", "counter", "Times this replica took or lost the lease.", ("lease",)
)

# --- planner ------------------------------------------------------------------------------------------------
PLANNER_NOMINATIONS_TOTAL: Final = Metric(
    "slicewise_planner_nominations_total",
    "counter",
    "Nominations by outcome: written, honoured by the scheduler, placed elsewhere, refused, expired, error.",
    ("outcome",),
    each(PLANNER_OUTCOMES),
)
PLANNER_GATE_TIMEOUTS_TOTAL: Final = Metric(
    "slicewise_planner_gate_timeouts_total",
    "counter",
    "Scheduling gates lifted because no plan came in time.",
)
PLANNER_PLAN_DURATION_SECONDS: Final = Metric(
    "slicewise_planner_plan_duration_seconds",
    "histogram",
    "Time to plan one batch of waiting pods.",
    buckets=_WORK_SECONDS,
)
PLANNER_SOLVES_TOTAL: Final = Metric(
    "slicewise_planner_solves_total",
    "counter",
    "Plans given to the solver, by its answer: proved optimal, feasible, rounded from the LP, no better than "
    "the plan by price (greedy), empty (nothing to place), or none in time.",
    ("status",),
    each(PLAN_SOLVES),
)
PLANNER_WAITING_PODS: Final = Metric(
    "slicewise_planner_waiting_pods", "gauge", "GPU pods that wait for a node and have no nomination."
)

# --- repack -------------------------------------------------------------------------------------------------
REPACK_MOVES_TOTAL: Final = Metric(
    "slicewise_repack_moves_total",
    "counter",
    "Moves by outcome: evicted, gone before, refused by a disruption budget, error; then the successor "
    "settled where planned, elsewhere, or has no node in time.",
    ("outcome",),
    each(REPACK_MOVES),
)
REPACK_RELIEFS_TOTAL: Final = Metric(
    "slicewise_repack_reliefs_total",
    "counter",
    "Waiting pods that others were moved for, by outcome: helped, placed elsewhere, gone, timed out.",
    ("outcome",),
    each(REPACK_RELIEFS),
)
REPACK_PROPOSED_MOVES: Final = Metric(
    "slicewise_repack_proposed_moves",
    "gauge",
    "Moves in the newest plan, by what they are for (dry-run plans are not carried out).",
    ("purpose",),
    each(("waiting", "savings")),
)
REPACK_UNMET_PODS: Final = Metric(
    "slicewise_repack_unmet_pods",
    "gauge",
    "Waiting pods that fit nowhere and that moving others does not help, in the newest plan.",
)
REPACK_PLAN_DURATION_SECONDS: Final = Metric(
    "slicewise_repack_plan_duration_seconds",
    "histogram",
    "Time to read the fleet and plan moves.",
    buckets=_WORK_SECONDS,
)

# --- MIG geometry -------------------------------------------------------------------------------------------
RECUTS_TOTAL: Final = Metric(
    "slicewise_mig_recuts_total",
    "counter",
    "Nodes whose idle GPUs were re-cut, by outcome.",
    ("outcome",),
    each(RECUT_OUTCOMES),
)
RECUT_PROPOSED_NODES: Final = Metric(
    "slicewise_mig_recut_proposed_nodes", "gauge", "Nodes that the newest look would re-cut."
)

# --- device order -------------------------------------------------------------------------------------------
DEVICE_ORDER_WRITES_TOTAL: Final = Metric(
    "slicewise_device_order_writes_total",
    "counter",
    "Writes of the ConfigMap that tells drivers which MIG placement goes first, by outcome.",
    ("outcome",),
    each(ORDER_WRITES),
)

# --- batch in time ------------------------------------------------------------------------------------------
BATCH_HELD_JOBS: Final = Metric(
    "slicewise_batch_held_jobs", "gauge", "Jobs with a completion window that are held for a better hour."
)
BATCH_RELEASES_TOTAL: Final = Metric(
    "slicewise_batch_releases_total",
    "counter",
    "Held jobs let go, by why: their planned hour, their latest start, too late to be sure, no room before "
    "it, a window that cannot be read, by a guard with nobody to plan them; or the write failed.",
    ("reason",),
    each(BATCH_RELEASES),
)
BATCH_MISSED_DEADLINES_TOTAL: Final = Metric(
    "slicewise_batch_missed_deadlines_total", "counter", "Jobs that ended after their completion window."
)
BATCH_EXPECTED_SAVING_GRAMS_TOTAL: Final = Metric(
    "slicewise_batch_expected_saving_grams_total",
    "counter",
    "CO2e that released jobs are expected to emit less than if they had begun when they came.",
)
BATCH_PLANS_TOTAL: Final = Metric(
    "slicewise_batch_plans_total",
    "counter",
    "Plans of held jobs, by how they were found.",
    ("method",),
    each(BATCH_PLANS),
)
BATCH_PLAN_DURATION_SECONDS: Final = Metric(
    "slicewise_batch_plan_duration_seconds",
    "histogram",
    "Time to plan the starts of all held jobs.",
    buckets=_WORK_SECONDS,
)
BATCH_FORECAST_ERROR_RATIO: Final = Metric(
    "slicewise_batch_forecast_error_ratio",
    "gauge",
    "Mean error of the own carbon forecast over the next 12 hours, as a share of the zone's level.",
    ("zone",),
)

# --- doors for HPA and KEDA ---------------------------------------------------------------------------------
DOOR_ANSWERS_TOTAL: Final = Metric(
    "slicewise_door_answers_total",
    "counter",
    "Questions of HPA and KEDA for a decision, by door and result.",
    ("door", "result"),
    each(DOORS, DOOR_RESULTS),
)

# --- nodes and warm capacity --------------------------------------------------------------------------------
EXPANDER_ANSWERS_TOTAL: Final = Metric(
    "slicewise_expander_answers_total",
    "counter",
    "Questions of Cluster Autoscaler's gRPC expander, by result.",
    ("result",),
    each(EXPANDER_RESULTS),
)
EXPANDER_DURATION_SECONDS: Final = Metric(
    "slicewise_expander_duration_seconds",
    "histogram",
    "Time to choose among the node groups of one question.",
    buckets=_WORK_SECONDS,
)
SCALE_DOWN_NODES: Final = Metric(
    "slicewise_scale_down_nodes",
    "gauge",
    "GPU nodes that may go, or that must be kept for a demand that only they can take, by advice.",
    ("advice",),
    each(SCALE_DOWN_ADVICE),
)
WARM_PODS_COUNT: Final = Metric(
    "slicewise_warm_pods",
    "gauge",
    "Placeholder and prefetch pods by workload, and whether a placeholder has a node.",
    ("namespace", "kind", "name", "state"),
)
WARM_CHANGES_TOTAL: Final = Metric(
    "slicewise_warm_changes_total",
    "counter",
    "What was done about warm capacity.",
    ("change",),
    each(WARM_CHANGES),
)

# --- autoscaler ---------------------------------------------------------------------------------------------
_WORKLOAD = ("namespace", "kind", "name")
AUTOSCALER_DESIRED_REPLICAS: Final = Metric(
    "slicewise_autoscaler_desired_replicas", "gauge", "Replicas that the last decision wants.", _WORKLOAD
)
AUTOSCALER_CURRENT_REPLICAS: Final = Metric(
    "slicewise_autoscaler_current_replicas",
    "gauge",
    "Replicas that the scale subresource asks for now.",
    _WORKLOAD,
)
AUTOSCALER_PLACEABLE_REPLICAS: Final = Metric(
    "slicewise_autoscaler_placeable_replicas",
    "gauge",
    "Replicas that the fleet can hold, counted no further than wanted; set while more are wanted than run.",
    _WORKLOAD,
)
AUTOSCALER_UNPLACEABLE_REPLICAS: Final = Metric(
    "slicewise_autoscaler_unplaceable_replicas",
    "gauge",
    "Replicas that are wanted and find no room in the fleet; they are not asked for.",
    _WORKLOAD,
)
AUTOSCALER_FOREIGN_CHANGES_TOTAL: Final = Metric(
    "slicewise_autoscaler_foreign_changes_total",
    "counter",
    "Changes of a target's replicas by somebody else that were taken over.",
    _WORKLOAD,
)
AUTOSCALER_DECISIONS_TOTAL: Final = Metric(
    "slicewise_autoscaler_decisions_total",
    "counter",
    "Decisions, by the reason that bound them.",
    (*_WORKLOAD, "reason"),
)
AUTOSCALER_TARGET_ERRORS_TOTAL: Final = Metric(
    "slicewise_autoscaler_target_errors_total",
    "counter",
    "Failures to read or write a target's scale subresource, by reason.",
    (*_WORKLOAD, "reason"),
)
AUTOSCALER_SIGNAL_AVAILABLE: Final = Metric(
    "slicewise_autoscaler_signal_available",
    "gauge",
    "1 when the signal had a value in the last decision, 0 when it was absent.",
    (*_WORKLOAD, "signal"),
)
AUTOSCALER_SIGNALS_CONTRADICT: Final = Metric(
    "slicewise_autoscaler_signals_contradict",
    "gauge",
    "1 while the pods themselves and Prometheus tell of very different numbers of requests in flight.",
    _WORKLOAD,
)
AUTOSCALER_DIRECT_SCRAPES_TOTAL: Final = Metric(
    "slicewise_autoscaler_direct_scrapes_total",
    "counter",
    "Looks at the metrics page of a pod itself, by result.",
    ("result",),
    each(DIRECT_SCRAPES),
)
AUTOSCALER_LOOP_DURATION_SECONDS: Final = Metric(
    "slicewise_autoscaler_loop_duration_seconds",
    "histogram",
    "Time for one round over all workloads: collect, decide, write.",
    buckets=_WORK_SECONDS,
)

# --- node ---------------------------------------------------------------------------------------------------
NODE_CLAIM_DURATION_SECONDS: Final = Metric(
    "slicewise_node_claim_duration_seconds",
    "histogram",
    "Time to answer the kubelet about one request, by operation and result.",
    ("operation", "result"),
    each(("prepare", "unprepare"), ("done", "failed")),
    _WORK_SECONDS,
)
NODE_CARD_CALL_DURATION_SECONDS: Final = Metric(
    "slicewise_node_card_call_duration_seconds",
    "histogram",
    "Time inside the GPU driver's library, by what was asked of it.",
    ("call",),
    each(("cards", "live", "create", "destroy")),
    _WORK_SECONDS,
)
NODE_CARD_REFUSALS_TOTAL: Final = Metric(
    "slicewise_node_card_refusals_total",
    "counter",
    "Calls that the GPU driver's library refused, by what was asked and why.",
    ("call", "kind"),
)
NODE_PREPARED_CLAIMS: Final = Metric(
    "slicewise_node_prepared_claims", "gauge", "Claims that hold devices of this node."
)
NODE_GPUS: Final = Metric(
    "slicewise_node_gpus",
    "gauge",
    "GPUs of this node, by health.",
    ("health",),
    each(("healthy", "unhealthy")),
)
NODE_FOREIGN_INSTANCES: Final = Metric(
    "slicewise_node_foreign_instances",
    "gauge",
    "MIG instances that this driver did not make; their units are not offered.",
)
NODE_SLICE_WRITES_TOTAL: Final = Metric(
    "slicewise_node_slice_writes_total", "counter", "ResourceSlices written.", ()
)
NODE_PUBLISH_FAILURES_TOTAL: Final = Metric(
    "slicewise_node_publish_failures_total",
    "counter",
    "Attempts to publish that the API server did not take.",
)
NODE_PUBLISH_DELAY_SECONDS: Final = Metric(
    "slicewise_node_publish_delay_seconds",
    "histogram",
    "Time from a change (allocation, prepared claim, health) until the slices say it.",
    buckets=_WORK_SECONDS,
)
NODE_REGISTERED: Final = Metric(
    "slicewise_node_registered", "gauge", "1 when the kubelet has taken the registration of the driver."
)

# --- sources ------------------------------------------------------------------------------------------------
PROMETHEUS_QUERIES_TOTAL: Final = Metric(
    "slicewise_prometheus_queries_total",
    "counter",
    "Queries sent to Prometheus, by result.",
    ("result",),
    each(QUERY_RESULTS),
)
PROMETHEUS_QUERY_DURATION_SECONDS: Final = Metric(
    "slicewise_prometheus_query_duration_seconds",
    "histogram",
    "Time for one query to Prometheus.",
    buckets=_WORK_SECONDS,
)
CARBON_INTENSITY_GRAMS_PER_KILOWATT_HOUR: Final = Metric(
    "slicewise_carbon_intensity_grams_per_kilowatt_hour",
    "gauge",
    "Grid carbon intensity in force, by zone, source and kind (average or marginal).",
    ("zone", "source", "kind"),
)
CARBON_FETCHES_TOTAL: Final = Metric(
    "slicewise_carbon_fetches_total",
    "counter",
    "Attempts to read a carbon intensity, by result.",
    ("result",),
    each(CARBON_RESULTS),
)
BUILD_INFO: Final = Metric(
    "slicewise_build_info", "gauge", "Always 1; says which build runs.", ("component", "version", "revision")
)

ALL: Final[tuple[Metric, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""All metrics of the product, in the order of this file."""
BY_NAME: Final = {metric.name: metric for metric in ALL}
