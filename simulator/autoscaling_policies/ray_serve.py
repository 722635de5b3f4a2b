"""Ray Serve's autoscaling: ongoing requests, delays counted in agreeing looks.

    desired = current · (total/(target·current)), rounded up; acted on after 30 s (up) or 600 s (down) in
    which every look agreed on the direction; a look without a change starts the count again

Counts ongoing and queued requests, against the replicas that are meant to run. Default target 2. The looks
are 10 s apart here (its metrics arrive so often; its loop turns every 0.1 s), averaged over its look-back
of 30 s. Follows ray/serve/autoscaling_policy.py. Factors (``upscaling_factor``, ``downscaling_factor``) are
1 as shipped.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen, clamped, whole
from simulator.autoscaling_trace import Floats

LOOK_SECONDS, LOOK_BACK_SECONDS = 10.0, 30.0
UP_DELAY_SECONDS, DOWN_DELAY_SECONDS = 30.0, 600.0
DEFAULT_TARGET = 2.0


class RayServe:
    """``target`` ongoing requests a replica."""

    period_seconds = LOOK_SECONDS
    scrape_seconds = LOOK_SECONDS
    direct = True

    def __init__(self, bounds: Bounds, target: Floats) -> None:
        self._bounds, self._target = bounds, target
        self._samples: deque[Floats] = deque(maxlen=int(LOOK_BACK_SECONDS / LOOK_SECONDS))
        self._agreed = np.zeros(len(target), dtype=np.int64)

    def decide(self, seen: Seen, now: float) -> Ints:
        if not np.isfinite(seen.metrics.in_flight).all():
            return seen.current
        self._samples.append(seen.metrics.in_flight)
        total = np.add.reduce(list(self._samples)) / len(self._samples)
        desired = clamped(whole(total / self._target), self._bounds)
        direction = np.sign(desired - seen.current)
        same = (np.sign(self._agreed) == direction) & (direction != 0)
        self._agreed = np.where(same, self._agreed + direction, direction)
        up = self._agreed > UP_DELAY_SECONDS / LOOK_SECONDS
        down = -self._agreed > DOWN_DELAY_SECONDS / LOOK_SECONDS
        act = up | down
        self._agreed = np.where(act, 0, self._agreed)
        return np.where(act, desired, seen.current)

    def restarted(self) -> None:
        self._samples.clear()
        self._agreed = np.zeros_like(self._agreed)
