"""vLLM (``vllm/v1/metrics/loggers.py``): labels ``model_name`` and ``engine``; one pod may hold several
engines.

In flight is running + waiting. ``vllm:num_requests_waiting_by_reason`` splits the same waiting requests by
reason: it must not be added, and a selector by name prefix would add it. Renamed over time:
``gpu_cache_usage_perc`` became ``kv_cache_usage_perc`` (a ratio in spite of its name),
``time_per_output_token_seconds`` became ``inter_token_latency_seconds``. Latency histograms count finished
requests only, so they lag by a request's duration. Tokens a request are histograms; the counters of all
tokens over finished requests stand in where a release lacks them.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, Mean, ServerPreset

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
    tokens_in=(
        Mean.of_histogram("vllm:request_prompt_tokens"),
        Mean("vllm:prompt_tokens_total", "vllm:request_success_total"),
    ),
    tokens_out=(
        Mean.of_histogram("vllm:request_generation_tokens"),
        Mean("vllm:generation_tokens_total", "vllm:request_success_total"),
    ),
    port=8000,
)
