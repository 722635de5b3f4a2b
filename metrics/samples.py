"""What a measurement is: samples with labels, or an absence that says why.

Missing data is a type, never 0: an outage that reads as zero load scales a service away. Values that are not
finite numbers (NaN from 0/0, infinities from a division by zero) are not samples either; their label sets are
kept aside, so that "this pod reports NaN" (idle, perhaps) and "this pod reports nothing" (broken, perhaps)
stay apart.

Pure: no client, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Cause: TypeAlias = Literal[
    "outage",  # the source did not answer at all: connection refused, name unknown, TLS failure
    "timeout",  # the source took longer than allowed
    "refused",  # the source answered with an error: bad query, wrong credentials, rate limit, 5xx
    "malformed",  # the source answered with something that is not what its interface promises
    "empty",  # the source is well and has no such series
    "not-a-number",  # the source is well and the value is NaN or infinite
    "stale",  # the newest value is older than it may be
    "misconfigured",  # the question itself cannot be asked: unknown zone, missing token
    "unknown",
]
"""Why a value is absent, in one word that a program can act on; ``NoData.reason`` is for people."""

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NoData:
    """An absent value. ``reason`` is a sentence for people; ``cause`` is for code; ``retry_after_seconds`` is
    set when the source itself said when to come back.
    """

    reason: str
    cause: Cause = "unknown"
    retry_after_seconds: float | None = None

    def __str__(self) -> str:
        return f"no data: {self.reason}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One finite value. ``at_seconds`` (Unix time) is the instant that was asked for, not the instant of the
    scrape: Prometheus answers an instant query with that instant.
    """

    labels: Labels
    value: float
    at_seconds: float


Reading: TypeAlias = tuple[Sample, ...] | NoData


@dataclass(frozen=True, slots=True)
class Vector:
    """The answer to an instant query: finite samples, and the label sets whose value was NaN or infinite."""

    samples: tuple[Sample, ...]
    nan_labels: tuple[Labels, ...] = ()

    def find(self, **labels: str) -> float | NoData:
        """Value of the only series that carries all ``labels`` (no labels: the only series there is).

        NaN is answered with cause ``not-a-number``, no series with ``empty``, more than one with
        ``malformed``.
        """
        found = [sample for sample in self.samples if _carries(sample.labels, labels)]
        nan = sum(1 for candidate in self.nan_labels if _carries(candidate, labels))
        wanted = ",".join(f'{name}="{value}"' for name, value in labels.items()) or "any labels"
        if len(found) + nan > 1:
            return NoData(f"{len(found) + nan} series carry {wanted}, expected one", "malformed")
        if nan:
            return NoData(f"the value of the series with {wanted} is not a number", "not-a-number")
        if not found:
            return NoData(f"no series carries {wanted}", "empty")
        return found[0].value


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range query; points are (Unix seconds, finite value) in time order."""

    labels: Labels
    points: tuple[tuple[float, float], ...]
    nan_points: int = 0


def _carries(candidate: Labels, wanted: Labels) -> bool:
    return all(candidate.get(name) == value for name, value in wanted.items())
