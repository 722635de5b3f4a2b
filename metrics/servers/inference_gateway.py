"""The endpoint picker of the Gateway API inference extension: it tells the queue of every model pod.

Only the queue: ``inference_pool_per_pod_queue_size`` with the label ``model_server_pod``. Pods that serve
without a queue look idle to it, so the model server's own preset goes before this one; its worth is the
latency as the client sees it and the queue of a pool without pods.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

QUEUE = ("inference_pool_per_pod_queue_size",)

INFERENCE_GATEWAY = ServerPreset(
    name="inference-gateway",
    in_flight=(QUEUE,),
    waiting=QUEUE,
    latency={
        "e2e": LatencyHistogram(
            ("inference_objective_request_duration_seconds", "inference_model_request_duration_seconds")
        )
    },
    pod_label="model_server_pod",
    signature=QUEUE,
)
