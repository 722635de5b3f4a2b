"""vLLM (``vllm/v1/metrics/loggers.py``): labels ``model_name`` and ``engine``; one pod may hold several
engines.

In flight is running + waiting. ``vllm:num_requests_waiting_by_reason`` splits the same waiting requests by
reason: it must not be added, and a selector by name prefix would add it. Renamed over time:
``gpu_cache_usage_perc`` became ``kv_cache_usage_perc`` (a ratio in spite of its name),
``time_per_output_token_seconds`` became ``inter_token_latency_seconds``. Latency histograms count finished
requests only, so they lag by a request's duration.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

RUNNING = ("vllm:num_requests_running",)
WAITING = ("vllm:num_requests_waiting",)

VLLM = ServerPreset(
    name="vllm",
    in_flight=(RUNNING, WAITING),
    running=RUNNING,
    waiting=WAITING,
    requests=("vllm:request_success_total",),
    latency={
        "e2e": LatencyHistogram(("vllm:e2e_request_latency_seconds",)),
        "ttft": LatencyHistogram(("vllm:time_to_first_token_seconds",)),
        "itl": LatencyHistogram(("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")),
    },
    cache_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    signature=RUNNING,
)
