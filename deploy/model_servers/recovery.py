"""How long the latency stayed above its objective after a step of the load.

Requests are counted where they were due. The 95th percentile is taken over bins of BIN_SECONDS (nearest rank;
a request that failed or is open took for ever). The service is back within its objective at the end of the
last bin above it before a stretch of STEADY_SECONDS that is within; a single bin above it much later is no
part of the step's recovery and shows in the attainment after it. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.model_servers.load import Request

BIN_SECONDS = 1.0
STEADY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests due within BIN_SECONDS from ``begin_seconds``, seconds after the step; None where there were
    none.
    """

    begin_seconds: float
    requests: int
    p95_seconds: float | None


def p95(requests: Sequence[Request]) -> float | None:
    """The 95th percentile of the latency, seconds: infinite where that many failed, None without requests."""
    if not requests:
        return None
    took = sorted(math.inf if request.problem else request.took_seconds for request in requests)
    return took[math.ceil(0.95 * len(took)) - 1]


def bins(requests: Sequence[Request], step_at: float, until: float) -> tuple[Bin, ...]:
    """All whole bins from the step to ``until`` (both on the clock of the requests)."""
    count = math.floor((until - step_at) / BIN_SECONDS + 1e-9)
    held: list[list[Request]] = [[] for _ in range(count)]
    for request in requests:
        number = math.floor((request.due_seconds - step_at) / BIN_SECONDS)
        if 0 <= number < count:
            held[number].append(request)
    return tuple(Bin(number * BIN_SECONDS, len(part), p95(part)) for number, part in enumerate(held))


def recovered_after(found: Sequence[Bin], objective_seconds: float) -> float | None:
    """Seconds from the step until the p95 is back within the objective: 0 if it never left, None if it does
    not come back within what was seen.
    """
    needed = math.ceil(STEADY_SECONDS / BIN_SECONDS)
    within = [one.p95_seconds is None or one.p95_seconds <= objective_seconds for one in found]
    first = next((number for number, good in enumerate(within) if not good), None)
    if first is None:
        return 0.0
    for number in range(first + 1, len(found) - needed + 1):
        if all(within[number : number + needed]):
            return found[number].begin_seconds
    return None


def attainment(requests: Sequence[Request], objective_seconds: float) -> float | None:
    """Share of requests answered within the objective; None without requests."""
    if not requests:
        return None
    good = sum(1 for one in requests if not one.problem and one.took_seconds <= objective_seconds)
    return good / len(requests)
