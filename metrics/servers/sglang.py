"""SGLang (``--enable-metrics``, port 30000): labels ``model_name``, newer releases also ``tp_rank``.

With tensor parallelism every rank may export the same requests, so the largest series of a pod counts, not
the sum. In flight is running + queued. ``time_per_output_token_seconds`` became
``inter_token_latency_seconds``. Tokens a request: histograms only where they are asked for
(``--collect-tokens-histogram``), else all tokens over all requests.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, Mean, ServerPreset

RUNNING = ("sglang:num_running_reqs",)
WAITING = ("sglang:num_queue_reqs",)

SGLANG = ServerPreset(
    name="sglang",
    in_flight=(RUNNING, WAITING),
    running=RUNNING,
    waiting=WAITING,
    requests=("sglang:num_requests_total",),
    latency={
        "e2e": LatencyHistogram(("sglang:e2e_request_latency_seconds",)),
        "ttft": LatencyHistogram(("sglang:time_to_first_token_seconds",)),
        "itl": LatencyHistogram(
            ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds")
        ),
    },
    cache_usage=("sglang:token_usage",),
    per_pod="max",
    signature=RUNNING,
    tokens_in=(
        Mean.of_histogram("sglang:prompt_tokens_histogram"),
        Mean("sglang:prompt_tokens_total", "sglang:num_requests_total"),
    ),
    tokens_out=(
        Mean.of_histogram("sglang:generation_tokens_histogram"),
        Mean("sglang:generation_tokens_total", "sglang:num_requests_total"),
    ),
    port=30000,
)
