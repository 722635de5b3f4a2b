"""Any HTTP server with OpenTelemetry's stable HTTP semantic conventions, as Prometheus spells them.

``http.server.active_requests`` and ``http.server.request.duration`` (seconds). Servers before the stable
conventions have ``http_server_duration_milliseconds``: use the generic preset with these names.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

OPENTELEMETRY = ServerPreset(
    name="opentelemetry",
    in_flight=(("http_server_active_requests",),),
    latency={"e2e": LatencyHistogram(("http_server_request_duration_seconds",))},
    signature=("http_server_active_requests",),
    port=9464,
)
