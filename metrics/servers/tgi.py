"""Text Generation Inference: in flight is the queue plus the batch being worked on.

``tgi_request_duration`` is a histogram in seconds in spite of its bare name. There is no time to first token;
the mean time per token is a histogram of its own.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, Mean, ServerPreset

RUNNING = ("tgi_batch_current_size",)
WAITING = ("tgi_queue_size",)

TGI = ServerPreset(
    name="tgi",
    in_flight=(RUNNING, WAITING),
    running=RUNNING,
    waiting=WAITING,
    requests=("tgi_request_count",),
    latency={
        "e2e": LatencyHistogram(("tgi_request_duration",)),
        "itl": LatencyHistogram(("tgi_request_mean_time_per_token_duration",)),
    },
    signature=WAITING,
    tokens_in=(Mean.of_histogram("tgi_request_input_length"),),
    tokens_out=(Mean.of_histogram("tgi_request_generated_tokens"),),
    port=80,
)
