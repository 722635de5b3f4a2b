"""What stands on which dashboard: a row for each group of metrics (``metrics.exposition``), under its name.

Every metric of ``metrics.names`` stands on one of them. Names of others (dcgm-exporter's fields,
kube-state-metrics) are listed here and nowhere else.
"""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import Dashboard, Panel, Query, Row, panel
from metrics import autoscaler_names, dcgm, node_names, process_names, scheduler_names

KUBE_METRICS: Final = ("kube_pod_status_unschedulable",)
"""Of kube-state-metrics."""
DCGM_METRICS: Final = (
    dcgm.GPU_UTIL,
    dcgm.SM_ACTIVE,
    dcgm.GR_ENGINE_ACTIVE,
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
)
"""Of dcgm-exporter. The interference term learns from SM activity too, which its list of fields
(``etc/dcp-metrics-included.csv``) leaves out by default."""

_CHOSEN: Final = 'namespace=~"$namespace"'

SCHEDULING: Final = Dashboard(
    "slicewise-scheduling",
    "Slicewise: scheduling and packing",
    "Where pods run: the extender's answers, the fleet, prices, plans, moves.",
    (
        Row(
            "Extender",
            (
                panel(scheduler_names.EXTENDER_REQUEST_DURATION_SECONDS),
                panel(scheduler_names.EXTENDER_DECISIONS_TOTAL),
                panel(scheduler_names.EXTENDER_REFUSED_NODES_TOTAL),
                panel(scheduler_names.EXTENDER_UNKNOWN_NODES_TOTAL),
            ),
        ),
        Row(
            "Fleet",
            (
                panel(scheduler_names.FLEET_GPUS),
                panel(scheduler_names.FLEET_NODES),
                panel(scheduler_names.FLEET_RESERVATIONS),
                panel(scheduler_names.FLEET_SNAPSHOT_AGE_SECONDS),
                Panel(
                    "Pods that no node can take",
                    "Pods of all kinds that kube-scheduler found no node for (kube-state-metrics).",
                    (Query("sum by (namespace) (kube_pod_status_unschedulable)", "{{namespace}}"),),
                ),
            ),
        ),
        Row(
            "Price tables",
            (
                panel(scheduler_names.PRICE_TABLES_SOLVES_TOTAL),
                panel(scheduler_names.PRICE_TABLES_SOLVE_DURATION_SECONDS),
                panel(scheduler_names.PRICE_TABLES_AGE_SECONDS),
            ),
        ),
        Row("Interference", (panel(scheduler_names.INTERFERENCE_SLOWDOWN_RATIO),)),
        Row(
            "Planner",
            (
                panel(scheduler_names.PLANNER_WAITING_PODS),
                panel(scheduler_names.PLANNER_NOMINATIONS_TOTAL),
                panel(scheduler_names.PLANNER_PLAN_DURATION_SECONDS),
                panel(scheduler_names.PLANNER_SOLVES_TOTAL),
                panel(scheduler_names.PLANNER_GATE_TIMEOUTS_TOTAL),
            ),
        ),
        Row(
            "Repack",
            (
                panel(scheduler_names.REPACK_PROPOSED_MOVES),
                panel(scheduler_names.REPACK_MOVES_TOTAL),
                panel(scheduler_names.REPACK_RELIEFS_TOTAL),
                panel(scheduler_names.REPACK_UNMET_PODS),
                panel(scheduler_names.REPACK_PLAN_DURATION_SECONDS),
            ),
        ),
        Row("MIG recuts", (panel(scheduler_names.RECUT_PROPOSED_NODES), panel(scheduler_names.RECUTS_TOTAL))),
        Row("Device order", (panel(scheduler_names.DEVICE_ORDER_WRITES_TOTAL),)),
        Row(
            "Watches",
            (
                panel(process_names.WATCH_SYNCED, over="min"),
                panel(process_names.WATCH_EVENTS_TOTAL),
                panel(process_names.WATCH_RESTARTS_TOTAL),
            ),
        ),
        Row(
            "Policy",
            (
                panel(process_names.POLICY_LAST_LOAD_SUCCESSFUL, over="min"),
                panel(process_names.POLICY_LAST_SUCCESS_TIMESTAMP_SECONDS),
                panel(process_names.POLICY_LOADS_TOTAL),
            ),
        ),
        Row(
            "Leader",
            (
                panel(process_names.LEADER, over="sum"),
                panel(process_names.LEADER_TRANSITIONS_TOTAL),
                panel(process_names.BUILD_INFO, over="count"),
            ),
        ),
    ),
)

AUTOSCALING: Final = Dashboard(
    "slicewise-autoscaling",
    "Slicewise: autoscaling",
    "How many replicas run: what was wanted, why, and which signals there were.",
    (
        Row(
            "Autoscaler",
            (
                Panel(
                    "Autoscaler replicas",
                    f"{autoscaler_names.AUTOSCALER_DESIRED_REPLICAS.help} "
                    f"{autoscaler_names.AUTOSCALER_CURRENT_REPLICAS.help}",
                    tuple(
                        Query(
                            f"max by (namespace, kind, name) ({metric.name}{{{_CHOSEN}}})",
                            f"{{{{namespace}}}}/{{{{name}}}} {said}",
                        )
                        for metric, said in (
                            (autoscaler_names.AUTOSCALER_DESIRED_REPLICAS, "desired"),
                            (autoscaler_names.AUTOSCALER_CURRENT_REPLICAS, "current"),
                        )
                    ),
                ),
                panel(autoscaler_names.AUTOSCALER_IN_FLIGHT_REQUESTS, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_LATE_RATIO, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_LATE_DAY_RATIO, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_HEADROOM_RATIO, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_FORECAST_ERROR_RATIO, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_REPLICA_REQUESTS, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_COLD_START_SECONDS, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_DECISIONS_TOTAL, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_PLACEABLE_REPLICAS, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_UNPLACEABLE_REPLICAS, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_FOREIGN_CHANGES_TOTAL, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_SIGNAL_AVAILABLE, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_SIGNALS_CONTRADICT, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_DIRECT_SCRAPES_TOTAL),
                panel(autoscaler_names.AUTOSCALER_TARGET_ERRORS_TOTAL, where=_CHOSEN),
                panel(autoscaler_names.AUTOSCALER_LOOP_DURATION_SECONDS),
                panel(autoscaler_names.AUTOSCALER_LOOP_PHASE_SECONDS_TOTAL),
            ),
        ),
        Row(
            "Warm",
            (
                panel(autoscaler_names.WARM_PODS_COUNT, where=_CHOSEN),
                panel(autoscaler_names.WARM_CHANGES_TOTAL),
            ),
        ),
        Row(
            "Batch",
            (
                panel(autoscaler_names.BATCH_HELD_JOBS),
                panel(autoscaler_names.BATCH_RELEASES_TOTAL),
                panel(autoscaler_names.BATCH_MISSED_DEADLINES_TOTAL),
                panel(autoscaler_names.BATCH_EXPECTED_SAVING_GRAMS_TOTAL),
                panel(autoscaler_names.BATCH_FORECAST_ERROR_RATIO),
                panel(autoscaler_names.BATCH_PLANS_TOTAL),
                panel(autoscaler_names.BATCH_PLAN_DURATION_SECONDS),
            ),
        ),
        Row("Doors for HPA and KEDA", (panel(autoscaler_names.DOOR_ANSWERS_TOTAL),)),
        Row(
            "Node advice",
            (
                panel(autoscaler_names.EXPANDER_ANSWERS_TOTAL),
                panel(autoscaler_names.EXPANDER_DURATION_SECONDS),
                panel(autoscaler_names.SCALE_DOWN_NODES),
            ),
        ),
        Row(
            "Prometheus",
            (
                panel(process_names.PROMETHEUS_QUERIES_TOTAL),
                panel(process_names.PROMETHEUS_QUERY_DURATION_SECONDS),
            ),
        ),
    ),
    namespaces=autoscaler_names.AUTOSCALER_DESIRED_REPLICAS.name,
)

GPUS: Final = Dashboard(
    "slicewise-gpus",
    "Slicewise: GPUs and carbon",
    "How busy the GPUs are and what they draw (dcgm-exporter), the node driver, and the grid's carbon.",
    (
        Row(
            "GPUs",
            (
                Panel(
                    "GPU utilisation",
                    "Share of time in which something ran, whole GPUs, by model.",
                    (Query(f'avg by (modelName) ({dcgm.GPU_UTIL}{{GPU_I_ID=""}}) / 100', "{{modelName}}"),),
                    "percentunit",
                ),
                Panel(
                    "MIG instances: engine active",
                    "Share of time in which something ran, by MIG profile.",
                    (
                        Query(
                            f'avg by (GPU_I_PROFILE) ({dcgm.GR_ENGINE_ACTIVE}{{GPU_I_ID!=""}})',
                            "{{GPU_I_PROFILE}}",
                        ),
                    ),
                    "percentunit",
                ),
                Panel(
                    "SM activity",
                    "Share of time in which the SMs had work, by model.",
                    (Query(f"avg by (modelName) ({dcgm.SM_ACTIVE})", "{{modelName}}"),),
                    "percentunit",
                ),
                Panel(
                    "Power",
                    "What all GPUs draw, by model.",
                    (
                        Query(
                            "sum by (modelName) (max by (UUID, modelName) (DCGM_FI_DEV_POWER_USAGE))",
                            "{{modelName}}",
                        ),
                    ),
                    "watt",
                ),
                Panel(
                    "GPU memory in use",
                    "Share of the GPUs' memory that is in use, by model.",
                    (
                        Query(
                            "sum by (modelName) (DCGM_FI_DEV_FB_USED) / (sum by (modelName) "
                            "(DCGM_FI_DEV_FB_USED) + sum by (modelName) (DCGM_FI_DEV_FB_FREE))",
                            "{{modelName}}",
                        ),
                    ),
                    "percentunit",
                ),
            ),
        ),
        Row(
            "Carbon",
            (
                panel(process_names.CARBON_INTENSITY_GRAMS_PER_KILOWATT_HOUR),
                panel(process_names.CARBON_FETCHES_TOTAL),
            ),
        ),
        Row(
            "Node",
            (
                panel(node_names.NODE_GPUS, over="sum"),
                panel(node_names.NODE_PREPARED_CLAIMS, over="sum"),
                panel(node_names.NODE_FOREIGN_INSTANCES, over="sum"),
                panel(node_names.NODE_CLAIM_DURATION_SECONDS),
                panel(node_names.NODE_CARD_CALL_DURATION_SECONDS),
                panel(node_names.NODE_CARD_REFUSALS_TOTAL),
                panel(node_names.NODE_PUBLISH_DELAY_SECONDS),
                panel(node_names.NODE_SLICE_WRITES_TOTAL),
                panel(node_names.NODE_PUBLISH_FAILURES_TOTAL),
                panel(node_names.NODE_REGISTERED, over="sum"),
            ),
        ),
    ),
)

BOARDS: Final = {"scheduling.json": SCHEDULING, "autoscaling.json": AUTOSCALING, "gpus.json": GPUS}
"""By file name beside this module."""
