"""Knative's queue-proxy, and with it KServe in serverless mode: what stands before the model container.

In flight is the proxy's own count of concurrent requests. Since about release 1.19 the metrics have
OpenTelemetry names and seconds; before, ``revision_*`` names and milliseconds. The unit belongs to the
name, and a histogram has one unit, so the older release is a preset of its own (``knative-revision``).
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

KNATIVE = ServerPreset(
    name="knative",
    in_flight=(("kn_serving_queue_depth",),),
    latency={"e2e": LatencyHistogram(("kn_serving_invocation_duration_seconds",))},
    signature=("kn_serving_queue_depth",),
    port=9090,
)

KNATIVE_REVISION = ServerPreset(
    name="knative-revision",
    in_flight=(("revision_queue_depth", "queue_average_concurrent_requests"),),
    requests=("revision_request_count",),
    latency={"e2e": LatencyHistogram(("revision_request_latencies",), "milliseconds")},
    signature=("revision_request_count", "revision_queue_depth"),
    port=9091,
)
