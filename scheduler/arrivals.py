"""What arrives: requests by class, counted once when a pod is first seen, older ones fading.

Prices follow from what runs and waits; the value tables of MIG cards need the shares of *arrivals*. The two
differ where it matters most: a large instance that waits for hours is counted in every look at the queue and
would seem much more common than it is.

    count[class] ← count[class] × 2^(−new / MEMORY_PODS) + new[class]

Memory is in pods and not in time, so that a quiet night teaches nothing. A pod that comes and goes between
two looks is missed; those present at the first look count as new. ``fold`` is pure, ``ArrivalBook`` remembers
whom it has seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from scheduler.demand import Demand
from scheduler.packing.mix import observe

MEMORY_PODS = 500.0
_FORGET_BELOW = 0.05


def fold(counts: Mapping[str, float], new: Mapping[str, float], pods: float) -> dict[str, float]:
    """The counts after ``pods`` more pods with ``new`` requests by class."""
    kept = 0.5 ** (pods / MEMORY_PODS)
    names = sorted(counts.keys() | new.keys())
    found = {name: kept * counts.get(name, 0.0) + new.get(name, 0.0) for name in names}
    return {name: count for name, count in found.items() if count > _FORGET_BELOW}


class ArrivalBook:
    """Counts; asked by one thread at a time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._counts: dict[str, float] = {}

    def look(self, pods: Iterable[tuple[str, Demand]]) -> Mapping[str, float]:
        """Requests by class, needs of the node left out, after a look at all living pods (UID, demand)."""
        living = dict(pods)
        new = [demand for uid, demand in living.items() if uid not in self._seen]
        self._seen = set(living)
        if new:
            found: dict[str, float] = {}
            for name, count in observe(Counter(new).items()).items():
                base = name.partition("/")[0]
                found[base] = found.get(base, 0.0) + count
            self._counts = fold(self._counts, found, len(new))
        return self._counts
