"""How many requests in flight one replica may carry within the objective: a queueing model fitted while it
runs.

A server with continuous batching serves all its n requests at once, one iteration at a time:

    iteration(n) = base + n * slope                        [s], fitted to what is observed (least squares)
    service(n)   = (tokens_out + 1) * iteration(n)         [s], first token after one iteration
    mu(n)        = n / service(n) for n <= batch, mu(batch) above it (the rest waits)

Arrivals at random at rate l give a birth-death chain with p(n+1) = p(n) * l / mu(n+1), cut at twice the
batch. Its mean occupancy N is what is in flight, and by Little's law N / l is the time in the system.
``share_of_one_replica`` searches the highest rate whose mean latency stays within the bound, steps back by
``STABILITY_MARGIN``, and returns N there. The form of the analyser in llm-d's Workload Variant Autoscaler
(pkg/analyzer), with the token costs of an iteration lumped into one slope, since only their sum can be told
from one mix of tokens.

Means only: the tail is the business of the learned headroom. Pure; does not model preemption or prefix
caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metrics.samples import NoData

STABILITY_MARGIN: Final = 0.1
# Where no queue was ever seen, the batch limit is unknown; vLLM ships with 256.
LARGEST_BATCH: Final = 256
# Observations keep half their weight for about this many more.
_REMEMBERED: Final = 0.98
_LEAST_WEIGHT: Final = 5.0
_HALVINGS: Final = 40


@dataclass(frozen=True, slots=True)
class Serving:
    """A replica's server: ``base_seconds`` + n * ``slope_seconds`` an iteration, ``tokens_out`` a request."""

    base_seconds: float
    slope_seconds: float
    tokens_out: float
    batch: int

    def iteration_seconds(self, n: float) -> float:
        """Return the time of one iteration with ``n`` requests in the batch."""
        return self.base_seconds + n * self.slope_seconds

    def service_rate(self, n: int) -> float:
        """Return the requests finished a second with ``n`` in the system."""
        running = min(n, self.batch)
        return running / ((self.tokens_out + 1.0) * self.iteration_seconds(running))


@dataclass(frozen=True, slots=True)
class Steady:
    """Means of the steady state: in the system, in the batch, requests a second that get through."""

    in_flight: float
    running: float
    throughput_rps: float

    def seconds(self, serving: Serving, measure: str) -> float:
        """Return the mean of ``measure`` (e2e, ttft or itl), seconds."""
        iteration = serving.iteration_seconds(self.running)
        if measure == "itl":
            return iteration
        if self.throughput_rps <= 0.0:
            return iteration if measure == "ttft" else iteration * (serving.tokens_out + 1.0)
        whole = self.in_flight / self.throughput_rps
        if measure == "e2e":
            return whole
        return max(0.0, (self.in_flight - self.running) / self.throughput_rps) + iteration


def steady(serving: Serving, rate_rps: float) -> Steady:
    """Return the steady state of one replica at ``rate_rps`` requests a second."""
    weights, heaviest = [1.0], 1.0
    for n in range(1, 2 * serving.batch + 1):
        weight = weights[-1] * rate_rps / serving.service_rate(n)
        weights.append(weight)
        heaviest = max(heaviest, weight)
        if heaviest > 1e200:
            weights, heaviest = [w / heaviest for w in weights], 1.0
    total = sum(weights)
    in_flight = sum(n * w for n, w in enumerate(weights)) / total
    running = sum(min(n, serving.batch) * w for n, w in enumerate(weights)) / total
    return Steady(in_flight, running, rate_rps * (1.0 - weights[-1] / total))


def share_of_one_replica(serving: Serving, *, bound_seconds: float, measure: str) -> float | NoData:
    """Return the mean in flight at the highest rate that keeps the mean of ``measure`` within the bound.

    NoData where one request alone takes longer than that.
    """
    alone = serving.iteration_seconds(1.0) * (serving.tokens_out + 1.0 if measure == "e2e" else 1.0)
    if alone > bound_seconds:
        return NoData(f"one request alone takes {alone:.3g} s, the objective allows {bound_seconds:.3g} s")
    low, high = 0.0, serving.service_rate(serving.batch)
    if steady(serving, high).seconds(serving, measure) <= bound_seconds:
        low = high
    else:
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            within = steady(serving, middle).seconds(serving, measure) <= bound_seconds
            low, high = (middle, high) if within else (low, middle)
    return max(1.0, steady(serving, low * (1.0 - STABILITY_MARGIN)).in_flight)


@dataclass(frozen=True, slots=True)
class Fit:
    """Weighted sums over observations of (n running a replica, seconds an iteration), old ones fading.

    ``batch`` is the most that ran on one replica while others waited; 0 where nobody was seen waiting.
    """

    weight: float = 0.0
    n: float = 0.0
    nn: float = 0.0
    y: float = 0.0
    ny: float = 0.0
    batch: int = 0
    tokens_out: float = 0.0

    def seen(self, running: float, iteration_seconds: float, tokens_out: float, waiting: float) -> Fit:
        """Return the fit with one more observation; values are means a replica."""
        fade = _REMEMBERED
        return Fit(
            fade * self.weight + 1.0,
            fade * self.n + running,
            fade * self.nn + running * running,
            fade * self.y + iteration_seconds,
            fade * self.ny + running * iteration_seconds,
            max(self.batch, round(running)) if waiting >= 1.0 else self.batch,
            tokens_out if self.weight == 0.0 else fade * self.tokens_out + (1.0 - fade) * tokens_out,
        )

    def serving(self) -> Serving | NoData:
        """Return the server as fitted so far; a load that hardly varied leaves the slope at 0."""
        if self.weight < _LEAST_WEIGHT:
            return NoData(
                f"{self.weight:.0f} observations of the server, expected at least {_LEAST_WEIGHT:.0f}"
            )
        mean_n, mean_y = self.n / self.weight, self.y / self.weight
        spread = self.nn / self.weight - mean_n * mean_n
        slope = 0.0
        if spread > 1e-3 * max(1.0, mean_n * mean_n):
            slope = max(0.0, (self.ny / self.weight - mean_n * mean_y) / spread)
        # A negative base is noise: the line then goes through the origin.
        slope = min(slope, mean_y / mean_n) if mean_n > 0.0 else slope
        base = mean_y - slope * mean_n
        return Serving(max(base, 1e-9), slope, self.tokens_out, self.batch or LARGEST_BATCH)


UNFITTED: Final = Fit()


def iteration_seconds_of(
    *,
    running: float,
    rate_rps: float | NoData,
    tokens_out: float | NoData,
    token_seconds: float | NoData,
) -> float | NoData:
    """Return the time of an iteration: between two tokens as told, else by Little's law from rate and
    running.

    ``running`` and ``rate_rps`` are sums over the same replicas.
    """
    if not isinstance(token_seconds, NoData):
        return token_seconds if token_seconds > 0.0 else NoData("no time between tokens")
    if isinstance(rate_rps, NoData) or isinstance(tokens_out, NoData):
        return NoData("neither the time between tokens nor rate and tokens of the requests are known")
    if rate_rps <= 0.0 or running <= 0.0:
        return NoData("nothing is served")
    return running / rate_rps / (tokens_out + 1.0)
