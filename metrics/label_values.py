"""The values of labels whose list is closed: what a counter can count, known before the first of it happens.

Those of a metric start at 0 (``Metric.initial``). Pure data.
"""

from __future__ import annotations

from typing import Final

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
ROUND_PHASES: Final = ("scales", "pods", "prometheus", "decisions", "room", "outcome", "writes", "memory")
