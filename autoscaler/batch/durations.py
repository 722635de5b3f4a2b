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
KEPT_FAMILIES: Final = 10_240
SETTLED: Final = 30
LEAST_FACTOR: Final = 1.1
_DEVIATIONS: Final = 3.3
_LONGER_WAIT: Final = 1.25


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    """Of all families together; ``runs`` only in what was kept before each family had a text."""

    ratios: list[float] = []
    waits: list[float] = []
    runs: dict[str, list[float]] = {}


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
        runs = dict(self.runs)
        runs[family] = (*runs.pop(family, ()), seconds)[-KEPT_RUNS:]  # the newest last
        while len(runs) > KEPT_FAMILIES:
            del runs[next(iter(runs))]
        return replace(self, runs=runs, ratios=ratios)

    def with_earlier(self, earlier: Durations) -> Durations:
        """What is known when the runs of ``earlier`` came before."""
        names = [*(name for name in earlier.runs if name not in self.runs), *self.runs]
        runs = {name: (*earlier.runs.get(name, ()), *self.runs.get(name, ()))[-KEPT_RUNS:] for name in names}
        return replace(self, runs=dict(list(runs.items())[-KEPT_FAMILIES:]))

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

    def remembered(self) -> tuple[str, dict[str, str]]:
        """The texts to keep over a restart: of all families together, and of each."""
        text = _Text([*map(_short, self.ratios)], [*map(_short, self.waits)])
        families = {
            name: msgspec.json.encode([*map(_short, runs)]).decode() for name, runs in self.runs.items()
        }
        return msgspec.json.encode(text).decode(), families

    @classmethod
    def recalled(cls, text: str, families: Mapping[str, str]) -> Durations:
        """What ``remembered`` kept. Raises ValueError for anything else."""
        read = msgspec.json.decode(text.encode(), type=_Text)
        texts = {name: msgspec.json.decode(runs, type=list[float]) for name, runs in families.items()}
        every = read.runs | texts
        values = [*read.ratios, *(value for runs in every.values() for value in runs)]
        if any(not (math.isfinite(value) and value > 0.0) for value in values):
            raise ValueError("got a run or ratio that is not above 0")
        if any(not (math.isfinite(value) and value >= 0.0) for value in read.waits):
            raise ValueError("got a wait that is below 0")
        return cls(
            {name: tuple(runs[-KEPT_RUNS:]) for name, runs in every.items() if runs},
            tuple(read.ratios[-KEPT_RATIOS:]),
            tuple(read.waits[-KEPT_WAITS:]),
        )


def _short(value: float) -> float:
    """With six digits, which a duration is never worth more than: thousands of families share 1 MiB."""
    return float(f"{value:.6g}")
