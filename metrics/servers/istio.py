"""Istio's sidecar, for a server that tells nothing itself: what its Envoy sees at the pod's own door.

Both sides of a call report it; only ``reporter="destination"`` is the serving pod's. A sidecar by itself says
nothing about what runs beside it: every pod of the mesh has one, and gateways and waypoints are proxies too
(``reporter="source"``, ``"waypoint"``). So a pod is recognised by requests that came *to* it, and only where
no other server's marks are seen. Of what it answered then nothing is known: an HTTP service that serves no
model looks the same.

Without Envoy's gauge of active requests (scraped only if asked for) the time of finished requests stands in.

Source: istio.io/docs/reference/config/metrics (label ``reporter``).
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
    only_the_door=True,
)
