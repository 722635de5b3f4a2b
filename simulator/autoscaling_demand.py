"""What arrives: a trace turned into requests per step of time, one row a seed.

Rows of requests: every request keeps its own tokens and time, and a seed moves the beginning of the trace
(the trace goes round), so that decisions fall elsewhere. Rows of windows: the count of a step is negative
binomial with the window's mean and with the index of dispersion cv², which is what a Gamma renewal process
of that cv has over times long against its gaps (and what the sum of independent clients keeps); a window
then holds exactly rate × length requests. Output lengths of such requests are exponential, as ServeGen
finds for language models, so that what is in service finishes at one rate and a step needs no list of
requests.

``needed`` is the yardstick: the requests in service if none ever waited and every replica ran a full batch.
Pure but for the seeds passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats, RequestTrace, Trace, WindowTrace

Ints = npt.NDArray[np.int64]

REQUEST_STEP_SECONDS = 0.25
WINDOW_STEP_SECONDS = 1.0
# A trace of requests is followed so long after its last request, for those still waiting.
TAIL_SECONDS = 30.0
PEAK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Every request of every seed, seed after seed; ``first`` (seeds) is where each seed begins.

    ``at_steps`` is the time of arrival in steps, ``patience_steps`` how long it may wait.
    """

    first: Ints
    at_steps: Floats
    work: Floats
    patience_steps: Floats


@dataclass(frozen=True, slots=True)
class Demand:
    """``arrived`` (steps + 1, seeds): requests that had come when a step began. By step: ``slope`` of the
    iteration, mean ``work``, ``patience`` in steps, ``kv_tokens`` a request. ``needed`` (steps, seeds).
    """

    name: str
    step_seconds: float
    arrived: Floats
    slope: Floats
    work: Floats
    patience: Floats
    kv_tokens: Floats
    needed: Floats
    requests: Requests | None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.slope)

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return int(self.arrived.shape[1])

    @property
    def hours(self) -> float:
        """Simulated time."""
        return self.steps * self.step_seconds / 3600.0

    def peak_step(self) -> int:
        """The step at which the busiest ten minutes begin, over all seeds together."""
        wide = max(1, min(self.steps, round(PEAK_SECONDS / self.step_seconds)))
        total = self.arrived.sum(axis=1)
        return int(np.argmax(total[wide:] - total[:-wide]))


def demand_of(trace: Trace, server: ServerModel, seeds: Sequence[int]) -> Demand:
    """Draw what arrives in each of ``seeds``."""
    if isinstance(trace, RequestTrace):
        return _of_requests(trace, server, seeds)
    return _of_windows(trace, server, seeds)


def _of_requests(trace: RequestTrace, server: ServerModel, seeds: Sequence[int]) -> Demand:
    step = REQUEST_STEP_SECONDS
    taken, given = trace.input_tokens, trace.output_tokens
    slope = server.slope_seconds(np.array([taken.mean()]), np.array([given.mean()]))
    full = float(server.full_iteration_seconds(slope)[0])
    work, patience = server.work(taken, given, full), server.patience_seconds(taken, full) / step
    period = trace.span_seconds + step
    steps = math.ceil((period + TAIL_SECONDS) / step)
    arrived, needed = np.zeros((steps + 1, len(seeds))), np.zeros((steps, len(seeds)))
    parts: list[tuple[Floats, Floats, Floats]] = []
    for column, seed in enumerate(seeds):
        offset = float(np.random.default_rng(seed).uniform(0.0, period))
        at = (trace.at_seconds + offset) % period
        order = np.argsort(at, kind="stable")
        at = at[order] / step
        begins = at.astype(np.int64)
        arrived[1:, column] = np.cumsum(np.bincount(begins, minlength=steps)[:steps])
        ends = np.minimum((at + work[order] * full / step).astype(np.int64) + 1, steps)
        leaving = np.cumsum(np.bincount(ends, minlength=steps + 1))[:steps]
        needed[:, column] = arrived[1:, column] - leaving
        parts.append((at, work[order], patience[order]))
    count = len(trace.at_seconds)
    return Demand(
        name=trace.name,
        step_seconds=step,
        arrived=arrived,
        slope=np.repeat(slope, steps),
        work=np.repeat(work.mean(), steps),
        patience=np.repeat(patience.mean(), steps),
        kv_tokens=np.repeat(server.kv_tokens(taken, given).mean(), steps),
        needed=needed,
        requests=Requests(
            np.arange(len(seeds)) * count,
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
        ),
    )


def _of_windows(trace: WindowTrace, server: ServerModel, seeds: Sequence[int]) -> Demand:
    step = WINDOW_STEP_SECONDS
    wide = max(1, round(trace.window_seconds / step))
    slope = server.slope_seconds(trace.input_tokens, trace.output_tokens)
    full = server.full_iteration_seconds(slope)
    work = server.work(trace.input_tokens, trace.output_tokens, full)
    steps = wide * len(trace.rate_rps)
    mean = np.repeat(trace.rate_rps * step, wide)
    dispersion = np.repeat(np.maximum(trace.cv, 0.0) ** 2, wide)
    arrived = np.zeros((steps + 1, len(seeds)))
    for column, seed in enumerate(seeds):
        counts = _counts(mean, dispersion, np.random.default_rng(seed))
        drawn = counts.reshape(-1, wide).sum(axis=1)
        meant = trace.rate_rps * step * wide
        scale = np.divide(meant, drawn, out=np.zeros_like(meant), where=drawn > 0.0)
        arrived[1:, column] = np.cumsum(counts * np.repeat(scale, wide))
    full_steps, work_steps = np.repeat(full, wide), np.repeat(work, wide)
    return Demand(
        name=trace.name,
        step_seconds=step,
        arrived=arrived,
        slope=np.repeat(slope, wide),
        work=work_steps,
        patience=np.repeat(server.patience_seconds(trace.input_tokens, full) / step, wide),
        kv_tokens=np.repeat(server.kv_tokens(trace.input_tokens, trace.output_tokens), wide),
        needed=_needed(np.diff(arrived, axis=0), np.exp(-step / (full_steps * work_steps))),
        requests=None,
    )


def _counts(mean: Floats, dispersion: Floats, draw: np.random.Generator) -> Floats:
    """Counts with the given means and variances mean × dispersion; Poisson where dispersion is at most 1."""
    spread = (dispersion > 1.0) & (mean > 0.0)
    excess = np.where(spread, dispersion - 1.0, 1.0)
    shape = np.where(spread, mean / excess, 1.0)
    drawn = draw.negative_binomial(shape, np.where(spread, 1.0 / (excess + 1.0), 1.0))
    return np.where(spread, drawn, draw.poisson(mean)).astype(np.float64)


def _needed(coming: Floats, kept: Floats) -> Floats:
    """In service by the end of each step when a share ``kept`` of it stays on."""
    level, levels = np.zeros(coming.shape[1]), np.empty_like(coming)
    # Of what comes all through a step, so much is left at its end.
    fresh = (1.0 - kept) / -np.log(kept)
    for step, (share, of_new) in enumerate(zip(kept.tolist(), fresh.tolist(), strict=True)):
        level = level * share + coming[step] * of_new
        levels[step] = level
    return levels
