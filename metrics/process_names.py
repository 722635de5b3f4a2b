"""Names of what several processes show: watches, policy, leader, the sources of our own numbers, the build.

Pure data; the rules for names are in ``names.py``.
"""

from __future__ import annotations

from typing import Final

from metrics.label_values import (
    CARBON_RESULTS,
    POLICIES,
    QUERY_RESULTS,
)
from metrics.metric import WORK_SECONDS, Metric, each

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
    buckets=WORK_SECONDS,
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
