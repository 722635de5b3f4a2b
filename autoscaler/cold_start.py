"""How long a new replica takes from creation to Ready, measured on the workload's own pods.

The median of the last few starts: robust against one pod that waited for a node, quick to follow a new image.
Until something was measured the policy's ``coldStartSeconds`` stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from metrics.samples import NoData

_KEPT = 8


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """The last starts of one workload's pods, oldest first, in seconds."""

    seconds: tuple[float, ...] = ()

    def add(self, seconds: float) -> ColdStarts:
        """Return the record with one more start; a negative one (clocks disagree) is taken as 0."""
        return ColdStarts((*self.seconds, max(0.0, seconds))[-_KEPT:])

    def measured(self) -> float | NoData:
        """Return the median start in seconds."""
        return median(self.seconds) if self.seconds else NoData("no start of a replica was seen yet")
