"""TensorFlow Serving (``/monitoring/prometheus/metrics``): names begin with a colon, times in microseconds.

There is no gauge of requests in flight; the sum of the latency histogram is the time that requests spent in
the server.
"""

from __future__ import annotations

from metrics.servers.preset import BusyTime, LatencyHistogram, ServerPreset

LATENCY = ":tensorflow:serving:request_latency"

TENSORFLOW_SERVING = ServerPreset(
    name="tensorflow-serving",
    busy_time=BusyTime((f"{LATENCY}_sum",), "microseconds"),
    requests=(":tensorflow:serving:request_count",),
    latency={"e2e": LatencyHistogram((LATENCY,), "microseconds")},
    signature=(":tensorflow:serving:request_count",),
    port=8501,
    path="/monitoring/prometheus/metrics",
)
