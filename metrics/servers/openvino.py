"""OpenVINO Model Server: gauge ``ovms_current_requests``, histogram of microseconds."""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

OPENVINO = ServerPreset(
    name="openvino",
    in_flight=(("ovms_current_requests",),),
    requests=("ovms_requests_success",),
    latency={"e2e": LatencyHistogram(("ovms_request_time_us",), "microseconds")},
    signature=("ovms_current_requests",),
)
