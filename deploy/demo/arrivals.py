"""Which pods come when, and when they go: a cut of the openb trace in a minute.

The order of creation, the order of lifetimes and every request are the trace's. Time is not: a month does not
fit into a minute. Arrivals keep their order and get exponential gaps; a lifetime l becomes ``scale × (l /
median) ** 0.3``, which keeps the order and tames the tail. ``scale`` is found for each pool (80 GB MIG, 24 GB
MIG, whole GPUs) by bisection, so that the most that is ever *asked for* at one moment is the wanted share of
the pool. What is asked does not depend on any scheduler, so both sides of the demo get the same pods at the
same moments.

A pod stands for a service that is wanted from ``at_seconds`` to ``leaves_seconds``; time that it waits is
lost. Pure: the seed is given. Does not know nodes; see ``fleet`` for the pools' sizes.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from deploy.demo.mapping import POOLS, Request, TraceRow, request_of

LIFETIME_EXPONENT = 0.3
SHORTEST_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One pod: what it asks for and the seconds (since the start of the run) between which it is wanted."""

    name: str
    at_seconds: float
    leaves_seconds: float
    request: Request
    cpu_milli: int
    memory_mib: int

    @property
    def tensor_parallel(self) -> bool:
        return self.request.profile is None and self.request.count > 1


def read_rows(text: str) -> tuple[TraceRow, ...]:
    """Rows of ``data/openb_cut.csv``, in creation order. Raises ``ValueError`` naming the line that cannot
    be read.
    """
    rows = []
    for number, raw in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            rows.append(
                TraceRow(
                    name=raw["name"],
                    cpu_milli=int(raw["cpu_milli"]),
                    memory_mib=int(raw["memory_mib"]),
                    gpus=int(raw["num_gpu"]),
                    gpu_milli=int(raw["gpu_milli"]),
                    best_effort=raw["qos"] == "BE",
                    created_seconds=float(raw["creation_time"]),
                    deleted_seconds=float(raw["deletion_time"]),
                )
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"openb cut, line {number}: {error!r}; expected the columns of data/README.md"
            ) from error
    return tuple(sorted(rows, key=lambda row: (row.created_seconds, row.name)))


def peak_units(arrivals: Sequence[Arrival], pool: str) -> int:
    """The most units of ``pool`` that are wanted at one moment."""
    changes: list[tuple[float, int]] = []
    for arrival in arrivals:
        if arrival.request.pool == pool:
            changes.append((arrival.at_seconds, arrival.request.units))
            changes.append((arrival.leaves_seconds, -arrival.request.units))
    wanted = most = 0
    for _, change in sorted(changes):
        wanted += change
        most = max(most, wanted)
    return most


def schedule(
    rows: Sequence[TraceRow],
    *,
    seed: int,
    window_seconds: float,
    capacity: Mapping[str, float],
    peak_share: float = 0.93,
) -> tuple[Arrival, ...]:
    """All pods of the run, ordered by arrival; ``capacity`` is units by pool (``mapping.POOLS``)."""
    if not rows:
        return ()
    draw = random.Random(seed)
    gaps = [draw.expovariate(1.0) for _ in rows]
    step = window_seconds / sum(gaps)
    typical = max(1.0, median(row.deleted_seconds - row.created_seconds for row in rows))
    arrivals: list[Arrival] = []
    shapes: list[float] = []
    at = 0.0
    for number, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        at += gap * step
        lifetime = max(1.0, row.deleted_seconds - row.created_seconds)
        shapes.append((lifetime / typical) ** LIFETIME_EXPONENT)
        arrivals.append(
            Arrival(
                name=f"{row.name.removeprefix('openb-')}-{number:03d}",
                at_seconds=round(at, 3),
                leaves_seconds=at,
                request=request_of(row, number),
                cpu_milli=row.cpu_milli,
                memory_mib=row.memory_mib,
            )
        )
    scaled = list(arrivals)
    for pool in POOLS:
        members = [i for i, arrival in enumerate(arrivals) if arrival.request.pool == pool]
        for i in _fill(arrivals, shapes, members, peak_share * capacity.get(pool, 0.0), window_seconds):
            scaled[i[0]] = i[1]
    return tuple(sorted(scaled, key=lambda arrival: (arrival.at_seconds, arrival.name)))


def _fill(
    arrivals: Sequence[Arrival],
    shapes: Sequence[float],
    members: Sequence[int],
    wanted_units: float,
    window_seconds: float,
) -> list[tuple[int, Arrival]]:
    """The pool's pods with lifetimes scaled so that their peak just stays within ``wanted_units``."""

    def at_scale(scale: float) -> list[tuple[int, Arrival]]:
        return [
            (
                i,
                replace(
                    arrivals[i],
                    leaves_seconds=round(
                        arrivals[i].at_seconds
                        + max(SHORTEST_SECONDS, min(scale * shapes[i], 4 * window_seconds)),
                        3,
                    ),
                ),
            )
            for i in members
        ]

    low, high = 0.0, 4 * window_seconds
    for _ in range(40):
        middle = (low + high) / 2
        pool = arrivals[members[0]].request.pool if members else ""
        if peak_units([arrival for _, arrival in at_scale(middle)], pool) <= wanted_units:
            low = middle
        else:
            high = middle
    return at_scale(low)
