"""Stabilisation windows: the highest and the lowest recommendation of the last so many seconds.

A workload is lowered no further than the highest recommendation inside its scale-down window, and raised no
further than the lowest inside its scale-up window (the rule of the HorizontalPodAutoscaler, KEP-853). Kept
over timestamps, not over counted periods, so that a slow or stopped loop does not stretch a window. Only
entries that can still be the extreme are kept: at most one per distinct count.

A window is begun with what runs: a controller that has just started therefore cannot lower anything until it
has watched one full window.
"""

from __future__ import annotations

from dataclasses import dataclass

Entries = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """``peaks`` fall and ``troughs`` rise from the oldest entry to the newest: (at_seconds, replicas)."""

    peaks: Entries
    troughs: Entries

    @classmethod
    def begun_with(cls, replicas: int, now: float) -> Windows:
        """Start both windows as if ``replicas`` had just been recommended."""
        return cls(((now, replicas),), ((now, replicas),))

    def seen(self, replicas: int, now: float, *, lower_seconds: float, raise_seconds: float) -> Windows:
        """Add a recommendation made ``now`` and forget what is older than each window's length."""
        newest = (now, replicas)
        peaks = [e for e in self.peaks if e[0] > now - lower_seconds and e[1] > replicas]
        troughs = [e for e in self.troughs if e[0] > now - raise_seconds and e[1] < replicas]
        return Windows((*peaks, newest), (*troughs, newest))

    @property
    def newest(self) -> int:
        """The newest recommendation."""
        return self.peaks[-1][1]

    @property
    def highest(self) -> int:
        """The highest recommendation still inside the scale-down window."""
        return self.peaks[0][1]

    @property
    def lowest(self) -> int:
        """The lowest recommendation still inside the scale-up window."""
        return self.troughs[0][1]

    def lower_free_at(self, lower_seconds: float) -> float:
        """When the entry that holds the count up will have left the scale-down window."""
        return self.peaks[0][0] + lower_seconds

    def raise_free_at(self, raise_seconds: float) -> float:
        """When the entry that holds the count down will have left the scale-up window."""
        return self.troughs[0][0] + raise_seconds
