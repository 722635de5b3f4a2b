"""TorchServe (port 8082, ``metrics_mode=prometheus``): counters of microseconds, no gauge of load.

``ts_inference_latency_microseconds`` and ``ts_queue_latency_microseconds`` are counters of time, worked and
waited: the rate of both together is the mean number in flight. There is no latency histogram.
"""

from __future__ import annotations

from metrics.servers.preset import BusyTime, ServerPreset

TORCHSERVE = ServerPreset(
    name="torchserve",
    busy_time=BusyTime(
        ("ts_inference_latency_microseconds", "ts_queue_latency_microseconds"), "microseconds"
    ),
    requests=("ts_inference_requests_total",),
    signature=("ts_inference_requests_total",),
    port=8082,
)
