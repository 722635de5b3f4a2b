"""Names of what the process on a GPU node shows: claims, the driver's library, publishing.

Pure data; the rules for names are in ``names.py``.
"""

from __future__ import annotations

from typing import Final

from metrics.metric import WORK_SECONDS, Metric, each

# --- node ---------------------------------------------------------------------------------------------------
NODE_CLAIM_DURATION_SECONDS: Final = Metric(
    "slicewise_node_claim_duration_seconds",
    "histogram",
    "Time to answer the kubelet about one request, by operation and result.",
    ("operation", "result"),
    each(("prepare", "unprepare"), ("done", "failed")),
    WORK_SECONDS,
)
NODE_CARD_CALL_DURATION_SECONDS: Final = Metric(
    "slicewise_node_card_call_duration_seconds",
    "histogram",
    "Time inside the GPU driver's library, by what was asked of it.",
    ("call",),
    each(("cards", "live", "create", "destroy")),
    WORK_SECONDS,
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
    buckets=WORK_SECONDS,
)
NODE_REGISTERED: Final = Metric(
    "slicewise_node_registered", "gauge", "1 when the kubelet has taken the registration of the driver."
)
