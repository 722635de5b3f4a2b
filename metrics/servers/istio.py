"""Istio's sidecar, for a server that tells nothing itself: what its Envoy sees at the pod's own door.

Both sides of a call report it; only ``reporter="destination"`` is the serving pod's. Without Envoy's gauge
of active requests (scraped only if asked for) the time of finished requests stands in.
"""

from __future__ import annotations

from metrics.servers.preset import BusyTime, LatencyHistogram, ServerPreset

ISTIO = ServerPreset(
    name="istio",
    busy_time=BusyTime(("istio_request_duration_milliseconds_sum",), "milliseconds"),
    requests=("istio_requests_total",),
    latency={"e2e": LatencyHistogram(("istio_request_duration_milliseconds",), "milliseconds")},
    matchers='reporter="destination"',
    signature=("istio_requests_total",),
)
