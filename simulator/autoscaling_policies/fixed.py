"""The two ends of the scale: a number that never changes, and one that knows the future.

``Static``: a share of the most that is ever needed. ``Clairvoyant``: knows the demand one start-up ahead,
so at every moment it has what is needed now and will be needed by the time a replica asked for now would
serve: max of needed over [t, t + start-up + period], times its margin. No autoscaler can provide the same
service for less without letting requests wait.
"""

from __future__ import annotations

import numpy as np

from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_policy import Bounds, Seen, clamped, whole
from simulator.autoscaling_trace import Floats

CLAIRVOYANT_PERIOD_SECONDS = 5.0


class Static:
    """``share`` of ``peak`` (requests in service a run) over the slots, for ever."""

    period_seconds = 3600.0
    scrape_seconds = 3600.0
    direct = True

    def __init__(self, bounds: Bounds, share: Floats, peak: Floats) -> None:
        self.replicas = clamped(whole(share * peak / bounds.slots), bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        return self.replicas

    def restarted(self) -> None:
        return None


class Clairvoyant:
    """``margin`` times what will be needed; ``rows`` is the seed of a run, ``startup_seconds`` its lead."""

    period_seconds = CLAIRVOYANT_PERIOD_SECONDS
    # It looks at no metrics.
    scrape_seconds = 3600.0
    direct = True

    def __init__(
        self, bounds: Bounds, margin: Floats, demand: Demand, rows: Ints, startup_seconds: Floats
    ) -> None:
        self._bounds, self._margin, self._rows = bounds, margin, rows
        self._step_seconds = demand.step_seconds
        self._leads, self._lead = np.unique(startup_seconds, return_inverse=True)
        self._ahead = [
            highest_ahead(demand.needed, round((lead + self.period_seconds) / demand.step_seconds))
            for lead in self._leads.tolist()
        ]

    def decide(self, seen: Seen, now: float) -> Ints:
        step = min(round(now / self._step_seconds), len(self._ahead[0]) - 1)
        needed = np.array([ahead[step] for ahead in self._ahead])[self._lead, self._rows]
        return clamped(whole(self._margin * needed / self._bounds.slots), self._bounds)

    def restarted(self) -> None:
        return None


def highest_ahead(values: Floats, steps: int) -> Floats:
    """The highest of each row and the ``steps`` rows after it (fewer at the end)."""
    highest, width = values.copy(), 1
    while width < steps + 1:
        by = min(width, steps + 1 - width)
        highest[: -by or None] = np.maximum(highest[: -by or None], highest[by:])
        width += by
    return highest
