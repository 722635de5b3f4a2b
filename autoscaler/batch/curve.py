"""A quantity over time, constant between edges: grams or money per kilowatt-hour, GPUs.

Pure. Times are Unix seconds. Beyond its last edge a curve repeats its last day (a day is the period of grids,
tariffs and people), or where it is shorter than a day its mean; before its first edge its first value holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOUR_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 24.0 * HOUR_SECONDS


@dataclass(frozen=True, slots=True)
class Curve:
    """``edges``: n + 1 rising times; ``values``: n, the i-th from edge i to edge i + 1."""

    edges: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or len(self.edges) != len(self.values) + 1:
            raise ValueError(
                f"got {len(self.edges)} edges and {len(self.values)} values, expected n + 1 and n"
            )
        if any(later <= earlier for earlier, later in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges of a curve must rise")

    @classmethod
    def constant(cls, value: float, at_seconds: float = 0.0) -> Curve:
        """The same for ever."""
        return cls((at_seconds, at_seconds + DAY_SECONDS), (value,))

    @classmethod
    def hourly(cls, start_seconds: float, values: Sequence[float]) -> Curve:
        """One value an hour from ``start_seconds`` on."""
        edges = tuple(start_seconds + hour * HOUR_SECONDS for hour in range(len(values) + 1))
        return cls(edges, tuple(float(value) for value in values))

    def reaching(self, until_seconds: float) -> Curve:
        """The curve, continued at least to ``until_seconds``."""
        edges, values = list(self.edges), list(self.values)
        end = edges[-1]
        if end >= until_seconds:
            return self
        if end - edges[0] < DAY_SECONDS:
            return Curve((*edges, until_seconds), (*values, self.mean()))
        first = next(i for i, edge in enumerate(edges) if edge > end - DAY_SECONDS) - 1
        pieces = list(zip(edges[first + 1 :], values[first:], strict=True))
        days = 1
        while edges[-1] < until_seconds:
            edges.extend(piece_end + days * DAY_SECONDS for piece_end, _ in pieces)
            values.extend(value for _, value in pieces)
            days += 1
        return Curve(tuple(edges), tuple(values))

    def mean(self) -> float:
        """The mean over its whole length."""
        return float(np.dot(np.diff(self.edges), self.values) / (self.edges[-1] - self.edges[0]))

    def integral(self, at: Floats) -> Floats:
        """The integral from the first edge to each time, in values × seconds; linear beyond both ends."""
        edges, values = np.asarray(self.edges), np.asarray(self.values)
        total = np.concatenate([[0.0], np.cumsum(np.diff(edges) * values)])
        inside: Floats = np.interp(at, edges, total)
        before = np.minimum(0.0, at - edges[0]) * values[0]
        beyond: Floats = np.maximum(0.0, at - edges[-1]) * values[-1]
        total_at: Floats = inside + before + beyond
        return total_at

    def at(self, when: Floats) -> Floats:
        """The value in force at each time; the first and last beyond the ends."""
        index = np.searchsorted(np.asarray(self.edges), when, side="right") - 1
        found: Floats = np.asarray(self.values)[np.clip(index, 0, len(self.values) - 1)]
        return found

    def least(self, begin: Floats, end: Floats) -> Floats:
        """The least value between each ``begin`` and ``end`` (end not included)."""
        edges, values = np.asarray(self.edges), np.asarray(self.values)
        first = np.clip(np.searchsorted(edges, begin, side="right") - 1, 0, len(values) - 1)
        last = np.clip(np.searchsorted(edges, end, side="left") - 1, 0, len(values) - 1)
        return np.array([values[a : max(a, b) + 1].min() for a, b in zip(first, last, strict=True)])
