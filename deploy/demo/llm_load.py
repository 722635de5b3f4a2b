"""The load of the LLM service: the Azure conversation trace, replayed faster and thinner.

``compression`` squeezes the trace's hour into the run (its shape over time stays), and the cut in ``data/``
already holds only every tenth request, so that the requests of a second stay few while their sizes are the
trace's. Pure.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import ceil

from deploy.demo.llm_model import LlmRequest, ServerSpeed

FULL_WINDOW_SECONDS = 75.0
"""A shorter window keeps fewer requests, so that the load, in requests a second, stays the same."""


def read_requests(text: str, *, window_seconds: float) -> tuple[LlmRequest, ...]:
    """Requests of ``data/azure_conv_cut.csv`` with their arrival scaled into ``window_seconds``. Raises
    ``ValueError``.
    """
    rows: list[tuple[float, int, int]] = []
    for number, raw in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            rows.append((float(raw["t_s"]), int(raw["input_tokens"]), int(raw["output_tokens"])))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"conversation cut, line {number}: {error!r}; expected t_s, input_tokens, output_tokens"
            ) from error
    rows.sort()
    rows = rows[:: max(1, round(FULL_WINDOW_SECONDS / window_seconds))]
    span = max((row[0] for row in rows), default=0.0) or 1.0
    return tuple(
        LlmRequest(i, round(at / span * window_seconds, 4), input_tokens, output_tokens)
        for i, (at, input_tokens, output_tokens) in enumerate(rows)
    )


def service_seconds(request: LlmRequest, speed: ServerSpeed, *, batch: int) -> float:
    """Seconds in a slot when ``batch`` sequences are being written and nothing waits."""
    step = speed.step_base_seconds + speed.step_per_sequence_seconds * batch
    return request.input_tokens / speed.prefill_tokens_per_second + max(1, request.output_tokens) * step


def mean_in_flight(
    requests: Sequence[LlmRequest], speed: ServerSpeed, *, window_seconds: float, batch: int
) -> float:
    """Little's law: requests a second × seconds each."""
    if not requests or window_seconds <= 0:
        return 0.0
    return sum(service_seconds(request, speed, batch=batch) for request in requests) / window_seconds


def static_replicas(
    requests: Sequence[LlmRequest], speed: ServerSpeed, *, window_seconds: float, per_replica: int
) -> int:
    """The fixed number that someone who knows the mean load exactly would set: what it takes when every
    replica carries ``per_replica`` requests, rounded up. Whoever fears the peak sets more, and pays for it
    always.
    """
    load = mean_in_flight(requests, speed, window_seconds=window_seconds, batch=per_replica)
    return max(1, ceil(load / per_replica))
