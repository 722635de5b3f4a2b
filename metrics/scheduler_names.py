"""Names of what the scheduler's side shows: extender, fleet, prices, planner, moves, re-cuts, device order.

Pure data; the rules for names are in ``names.py``.
"""

from __future__ import annotations

from typing import Final

from metrics.label_values import (
    EXTENDER_DECISIONS,
    EXTENDER_VERBS,
    ORDER_WRITES,
    PLAN_SOLVES,
    PLANNER_OUTCOMES,
    RECUT_OUTCOMES,
    REPACK_MOVES,
    REPACK_RELIEFS,
    SOLVE_STATUSES,
)
from metrics.metric import WORK_SECONDS, Metric, each

# Request handling is meant to take single milliseconds, and kube-scheduler gives up after seconds.
_REQUEST_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

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
    buckets=WORK_SECONDS,
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
    buckets=WORK_SECONDS,
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
    buckets=WORK_SECONDS,
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
