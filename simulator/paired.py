"""The mean of paired differences and its 95 % interval (Student's t). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# 97.5 % points of Student's t by degrees of freedom; beyond the list the last is close and cautious.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """``mean`` and the two ends of its 95 % interval; ``ends`` is None with a single pair."""

    mean: float
    ends: tuple[float, float] | None


def difference(values: Sequence[float]) -> Difference:
    """The mean of differences, one a pair. Raises ValueError for none at all."""
    if not values:
        raise ValueError("paired differences: got none, expected at least one pair")
    found = np.array(values)
    mean, pairs = float(found.mean()), len(found)
    if pairs < 2:
        return Difference(mean, None)
    half = _T[min(pairs - 1, len(_T)) - 1] * float(found.std(ddof=1)) / pairs**0.5
    return Difference(mean, (mean - half, mean + half))
