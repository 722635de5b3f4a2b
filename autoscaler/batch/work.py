"""What is scheduled, onto what, and what came of it: the values of ``schedule``.

Pure. Times are Unix seconds, power is in watts, money in the policy's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from autoscaler.batch.curve import Curve


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that waits for its start. ``gpus`` are GPU equivalents over all its pods; ``pools`` names those
    it may use, None for any. ``expected_seconds`` is how long it will run, ``longest_seconds`` what it may
    take at worst, ``queue_seconds`` what it may wait for GPUs after its release. ``base_watts``: power
    beside the GPUs'.
    """

    key: str
    gpus: float
    deadline_seconds: float
    expected_seconds: float
    longest_seconds: float
    queue_seconds: float = 0.0
    pools: frozenset[str] | None = None
    base_watts: float = 0.0

    @property
    def latest_start_seconds(self) -> float:
        """When it must be released at the latest to meet its deadline at worst."""
        return self.deadline_seconds - self.longest_seconds - self.queue_seconds


@dataclass(frozen=True, slots=True)
class Pool:
    """GPUs of one kind in one grid zone. ``free`` GPUs over time, what runs now already taken off;
    ``watts`` that one busy GPU adds.
    """

    name: str
    zone: str
    free: Curve
    watts: float


@dataclass(frozen=True, slots=True)
class Start:
    """When a job is to start. ``late``: its deadline does not hold at worst, it goes at once. ``crowded``: no
    room was found for it before its latest start; it goes then and queues, or at once if there are not so
    many GPUs at all. ``pool`` is where room and cost were counted; None for a late or crowded job.
    """

    at_seconds: float
    pool: str | None
    late: bool = False
    crowded: bool = False


Method = Literal["separate", "optimal", "rounded", "feasible", "greedy"]


@dataclass(frozen=True, slots=True)
class Plan:
    """``starts`` by job key; ``cost``: money for the energy of all of them; ``margins``: seconds that are
    left between the worst end and the deadline, negative for a late job. ``method``: every job at its own
    best start (they fit together); proven best, or within a thousandth of the bound; the best in the time
    given; the best of simple orders.
    """

    starts: Mapping[str, Start]
    cost: float
    margins: Mapping[str, float]
    method: Method
