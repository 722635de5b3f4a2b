"""A workload's recorded past as a trace of windows, and the simulated server set to its measured speed.

From counts a minute: a window of ten minutes has their mean rate, and as cv the root of their index of
dispersion, var/mean (the sum of independent clients keeps it, ServeGen, arXiv:2505.09999). Minutes that
Prometheus does not have are not zero: a window with fewer than half of its minutes is a gap, and the rest
moves together (as in ``autoscaling_trace``).

Speed: by Little's law a request spends (mean in flight)/(requests a second) in the server; the serving model
has all its times multiplied by one factor so that it does, too. Tokens are then only a unit of work. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from metrics.samples import NoData
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import NO_TOKENS, TraceRefused, WindowTrace

MINUTE_SECONDS = 60.0
WINDOW_MINUTES = 10
_FEWEST_MINUTES = WINDOW_MINUTES // 2
_SLOWEST, _QUICKEST = 100.0, 0.001


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded, by Unix minute: requests finished in it, and the mean in flight where told."""

    requests: Mapping[int, float]
    in_flight: Mapping[int, float]
    pods: Mapping[int, float]


def windows_of(name: str, recorded: Recorded) -> WindowTrace:
    """Turn counts a minute into windows. Raises TraceRefused where too little was recorded."""
    if not recorded.requests:
        raise TraceRefused(f"{name}: no request was recorded; check server, namespace and --pods")
    by_window: dict[int, list[float]] = {}
    for minute, count in sorted(recorded.requests.items()):
        by_window.setdefault(minute // WINDOW_MINUTES, []).append(count)
    kept = [counts for _, counts in sorted(by_window.items()) if len(counts) >= _FEWEST_MINUTES]
    rates = np.array([sum(counts) / len(counts) / MINUTE_SECONDS for counts in kept])
    if not len(rates) or not rates.any():
        raise TraceRefused(
            f"{name}: no ten minutes with requests were recorded; give more --days, or a trace with --trace"
        )
    cv = np.array([math.sqrt(_dispersion(counts)) for counts in kept])
    taken, given = (np.full(len(kept), tokens) for tokens in NO_TOKENS)
    return WindowTrace(name, WINDOW_MINUTES * MINUTE_SECONDS, rates, cv, taken, given)


def _dispersion(counts: Sequence[float]) -> float:
    mean = sum(counts) / len(counts)
    if mean <= 0.0:
        return 0.0
    return sum((count - mean) ** 2 for count in counts) / (len(counts) - 1) / mean


def measured_speed(server: ServerModel, recorded: Recorded) -> ServerModel | NoData:
    """``server`` with its times stretched to the recorded ones; NoData where in flight was not recorded."""
    both = [
        minute
        for minute, count in recorded.requests.items()
        if count > 0.0 and recorded.in_flight.get(minute, 0.0) > 0.0
    ]
    if not both:
        return NoData("requests in flight were not recorded, so the server's speed is not known", "empty")
    in_flight = sum(recorded.in_flight[minute] for minute in both)
    served = sum(recorded.requests[minute] for minute in both) / MINUTE_SECONDS
    seconds = in_flight / served
    batch = min(server.slots, in_flight / max(1.0, sum(recorded.pods.get(minute, 1.0) for minute in both)))
    slope = server.slope_seconds(np.array([NO_TOKENS[0]]), np.array([NO_TOKENS[1]]))
    full = server.full_iteration_seconds(slope)
    work = server.work(np.array([NO_TOKENS[0]]), np.array([NO_TOKENS[1]]), full)
    modelled = float((server.base_seconds + batch * slope[0]) * work[0])
    factor = min(_SLOWEST, max(_QUICKEST, seconds / modelled))
    return msgspec.structs.replace(
        server,
        name=f"{server.name}, {seconds:.3g} s a request as measured",
        base_seconds=factor * server.base_seconds,
        compute_seconds_per_token=factor * server.compute_seconds_per_token,
        memory_seconds_per_token=factor * server.memory_seconds_per_token,
    )
