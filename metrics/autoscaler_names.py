"""Names of what the autoscaler's side shows: decisions, batch in time, doors, nodes and warm capacity.

Pure data; the rules for names are in ``names.py``.
"""

from __future__ import annotations

from typing import Final

from metrics.label_values import (
    BATCH_PLANS,
    BATCH_RELEASES,
    DIRECT_SCRAPES,
    DOOR_RESULTS,
    DOORS,
    EXPANDER_RESULTS,
    ROUND_PHASES,
    SCALE_DOWN_ADVICE,
    WARM_CHANGES,
)
from metrics.metric import WORK_SECONDS, Metric, each

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
AUTOSCALER_IN_FLIGHT_REQUESTS: Final = Metric(
    "slicewise_autoscaler_in_flight_requests",
    "gauge",
    "Requests running and waiting that the last decision went by.",
    _WORKLOAD,
)
AUTOSCALER_LATE_RATIO: Final = Metric(
    "slicewise_autoscaler_late_ratio",
    "gauge",
    "Share of the requests finished in the last learning period that missed the objective.",
    _WORKLOAD,
)
AUTOSCALER_LATE_DAY_RATIO: Final = Metric(
    "slicewise_autoscaler_late_day_ratio",
    "gauge",
    "Share of the requests that missed the objective, over about a day; allowed is 1 - slo.attainment.",
    _WORKLOAD,
)
AUTOSCALER_HEADROOM_RATIO: Final = Metric(
    "slicewise_autoscaler_headroom_ratio",
    "gauge",
    "Spare capacity that the last decision added to the load, as a share of the load.",
    _WORKLOAD,
)
AUTOSCALER_FORECAST_ERROR_RATIO: Final = Metric(
    "slicewise_autoscaler_forecast_error_ratio",
    "gauge",
    "Error of the load's forecast over one start-up, one standard deviation, as a share of the load.",
    _WORKLOAD,
)
AUTOSCALER_REPLICA_REQUESTS: Final = Metric(
    "slicewise_autoscaler_replica_requests",
    "gauge",
    "Requests in flight that one replica carries in time, where that is learned.",
    _WORKLOAD,
)
AUTOSCALER_COLD_START_SECONDS: Final = Metric(
    "slicewise_autoscaler_cold_start_seconds",
    "gauge",
    "Time from a new replica's creation until it is Ready, as measured.",
    _WORKLOAD,
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
    buckets=WORK_SECONDS,
)
AUTOSCALER_LOOP_PHASE_SECONDS_TOTAL: Final = Metric(
    "slicewise_autoscaler_loop_phase_seconds_total",
    "counter",
    "Time that the rounds spent, by phase.",
    ("phase",),
    each(ROUND_PHASES),
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
    buckets=WORK_SECONDS,
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
    buckets=WORK_SECONDS,
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
