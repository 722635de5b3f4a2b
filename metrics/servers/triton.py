"""NVIDIA Triton (port 8002): labels ``model`` and ``version``; counters in microseconds.

Releases differ in what tells the load. ``nv_inference_pending_request_count`` counts requests that wait for
execution only, so it is no measure of what is in flight; the time that requests spent in the server is, by
Little's law. Latency histograms exist only for the first response of decoupled models (milliseconds, with
``--metrics-config histogram_latencies=true``); ``summary_latencies=true`` gives quantiles in microseconds,
which cannot be added over pods. Tokens a request are known where the TensorRT-LLM backend serves.
"""

from __future__ import annotations

from metrics.servers.preset import BusyTime, LatencyHistogram, LatencySummary, Mean, ServerPreset

TRITON = ServerPreset(
    name="triton",
    busy_time=BusyTime(("nv_inference_request_duration_us",), "microseconds"),
    waiting=("nv_inference_pending_request_count",),
    requests=("nv_inference_request_success",),
    latency={"ttft": LatencyHistogram(("nv_inference_first_response_histogram_ms",), "milliseconds")},
    summaries={"e2e": LatencySummary(("nv_inference_request_summary_us",), "microseconds")},
    signature=("nv_inference_request_success",),
    tokens_in=(Mean.of_histogram("nv_llm_input_token_len"),),
    tokens_out=(Mean.of_histogram("nv_llm_output_token_len"),),
    port=8002,
)
