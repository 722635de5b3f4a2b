"""How long jobs take and wait, learned from those that ended, and how far to trust that.

A job's family is its owner's or name's stem. ``expected_seconds`` is what the job declares, else the median
of its family's last runs. ``longest_factor`` bounds how much longer than expected a run takes:

    max(largest ratio seen, exp(mean + 3.3 × sd × √(1 + 1/n)) of the log ratios)

(one run in 2,000 exceeds it) over all families together (ratios are comparable where durations are not), and
never below what the policy states until ``SETTLED`` runs have been seen. ``queue_seconds`` bounds the wait
for GPUs after a release in the same spirit: a quarter above the longest wait of late, and at least the
policy's.

Pure: what ended is told, nothing is watched. Failed runs teach nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from metrics.samples import NoData

KEPT_RATIOS: Final = 256
KEPT_RUNS: Final = 16
KEPT_WAITS: Final = 128
KEPT_FAMILIES: Final = 512
SETTLED: Final = 30
LEAST_FACTOR: Final = 1.1
_DEVIATIONS: Final = 3.3
_LONGER_WAIT: Final = 1.25


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    runs: dict[str, list[float]] = {}
    ratios: list[float] = []
    waits: list[float] = []


@dataclass(frozen=True, slots=True)
class Durations:
    """What is known; oldest first everywhere, seconds and ratios (run over expected)."""

    runs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    ratios: tuple[float, ...] = ()
    waits: tuple[float, ...] = ()

    def ran(self, family: str, seconds: float, declared_seconds: float | None) -> Durations:
        """Return what is known after one more run."""
        if not seconds > 0.0:
            return self
        expected = self.expected_seconds(family, declared_seconds)
        ratios = self.ratios
        if not isinstance(expected, NoData):
            ratios = (*ratios, seconds / expected)[-KEPT_RATIOS:]
        runs = {name: kept for name, kept in self.runs.items() if name != family}
        runs[family] = (*self.runs.get(family, ()), seconds)[-KEPT_RUNS:]
        for name in list(runs)[: max(0, len(runs) - KEPT_FAMILIES)]:
            del runs[name]
        return replace(self, runs=runs, ratios=ratios)

    def waited(self, seconds: float) -> Durations:
        """Return what is known after one more wait for GPUs between release and running."""
        return replace(self, waits=(*self.waits, max(0.0, seconds))[-KEPT_WAITS:])

    def expected_seconds(self, family: str, declared_seconds: float | None) -> float | NoData:
        """How long a job of the family takes."""
        if declared_seconds is not None:
            return declared_seconds
        runs = self.runs.get(family)
        if not runs:
            return NoData(f"no job of {family!r} has ended yet", "empty")
        return statistics.median(runs)

    def longest_factor(self, stated: float) -> float:
        """By how much a run may exceed its expected duration; ``stated`` is the policy's."""
        count = len(self.ratios)
        if count < 2:
            return stated
        logs = [math.log(ratio) for ratio in self.ratios]
        mean = math.fsum(logs) / count
        deviation = math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / (count - 1))
        spread = _DEVIATIONS * deviation * math.sqrt(1.0 + 1.0 / count)
        learned = max(*self.ratios, math.exp(mean + spread), LEAST_FACTOR)
        return learned if count >= SETTLED else max(stated, learned)

    def queue_seconds(self, stated: float) -> float:
        """How long a released job may wait for GPUs; ``stated`` is the policy's."""
        return max(stated, _LONGER_WAIT * max(self.waits, default=0.0))

    def remembered(self) -> str:
        """The text to keep over a restart."""
        text = _Text({name: list(runs) for name, runs in self.runs.items()}, [*self.ratios], [*self.waits])
        return msgspec.json.encode(text).decode()

    @classmethod
    def recalled(cls, text: str) -> Durations:
        """What ``remembered`` kept. Raises ValueError for anything else."""
        read = msgspec.json.decode(text.encode(), type=_Text)
        values = [*read.ratios, *(value for runs in read.runs.values() for value in runs)]
        if any(not (math.isfinite(value) and value > 0.0) for value in values):
            raise ValueError("got a run or ratio that is not above 0")
        if any(not (math.isfinite(value) and value >= 0.0) for value in read.waits):
            raise ValueError("got a wait that is below 0")
        return cls(
            {name: tuple(runs[-KEPT_RUNS:]) for name, runs in read.runs.items() if runs},
            tuple(read.ratios[-KEPT_RATIOS:]),
            tuple(read.waits[-KEPT_WAITS:]),
        )
