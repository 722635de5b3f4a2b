"""MLServer, the server of Seldon Core and of KServe's open inference protocol: REST metrics in seconds.

In flight is the server's own gauge of REST requests in progress, which counts those that wait in the batching
and worker queues too: a request is in progress until it is answered. A pod exports none of these names before
its first request. Probes of ``/v2/health`` are not counted, those of a model's own readiness
(``/v2/models/NAME/ready``) are, and are left out by path (seen in 1.7).
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

MLSERVER = ServerPreset(
    name="mlserver",
    in_flight=(("rest_server_requests_in_progress",),),
    requests=("rest_server_requests_total",),
    latency={
        "e2e": LatencyHistogram(
            ("rest_server_request_duration_seconds", "rest_server_requests_duration_seconds")
        )
    },
    signature=("rest_server_requests_in_progress", "model_infer_request_success_total"),
    without_probes='path!~".+/(ready|live)"',
    port=8082,
)
