"""Means a request, asked in one query: tokens in and out, time between tokens, time of the whole request.

A mean over several pods is the sum of what they counted over the sum of the requests they counted it for, so
both parts come back a pod, tagged by ``PART``: ``<mean> total`` and ``<mean> count``. Times are in seconds.

    tokens in, tokens out    of the histograms or counters that the preset names
    itl                      mean time between two tokens
    e2e, ttft, itl           mean of a latency; without a histogram of e2e the time spent in the server over
                             the requests finished

Pure: query text out; ``autoscaler.answers`` reads the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from metrics.parts import tagged
from metrics.servers.preset import EVERYTHING, Mean, Measure, Scope, ServerPreset
from metrics.units import UNITS_PER_SECOND, TimeUnit

TOKENS_IN: Final = "tokens in"
TOKENS_OUT: Final = "tokens out"


def means_query(
    preset: ServerPreset, measures: Iterable[Measure], window_seconds: float, scope: Scope = EVERYTHING
) -> str | None:
    """Totals and counts of every mean that the server has, over the window; ``None`` when it has none."""
    parts: list[str] = []
    for name, means in ((TOKENS_IN, preset.tokens_in), (TOKENS_OUT, preset.tokens_out)):
        if means:
            parts += _tagged(name, *_rates(preset, means, "seconds", window_seconds, scope))
    for measure in dict.fromkeys((*measures, "itl")):
        found = _latency(preset, measure, window_seconds, scope)
        if found is not None:
            parts += _tagged(measure, *found)
    return " or ".join(parts) if parts else None


def _latency(
    preset: ServerPreset, measure: str, window_seconds: float, scope: Scope
) -> tuple[str, str] | None:
    histogram = next((found for name, found in preset.latency.items() if name == measure), None)
    if histogram is not None:
        means = tuple(Mean.of_histogram(name) for name in histogram.names)
        return _rates(preset, means, histogram.unit, window_seconds, scope)
    busy = preset.busy_query(window_seconds, scope) if measure == "e2e" else None
    finished = preset.request_rate_query(window_seconds, scope)
    return None if busy is None or finished is None else (busy, finished)


def _rates(
    preset: ServerPreset, means: tuple[Mean, ...], unit: TimeUnit, window_seconds: float, scope: Scope
) -> tuple[str, str]:
    total = preset.rates_by_pod([mean.total for mean in means], window_seconds, scope)
    count = preset.rates_by_pod([mean.count for mean in means], window_seconds, scope)
    units = UNITS_PER_SECOND[unit]
    return total if units == 1.0 else f"({total}) / {units:.0f}", count


def _tagged(name: str, total: str, count: str) -> tuple[str, str]:
    return tagged(total, f"{name} total"), tagged(count, f"{name} count")
