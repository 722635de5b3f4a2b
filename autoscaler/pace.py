"""When the next round of the control loop begins: a period after the last one, or sooner at news of a burst.

    soonest = begin of the last round + max(LEAST_PAUSE_SECONDS, its seconds / EARLY_SHARE)

Who asks the pods (``scrape``) nudges when their load has left what the last round saw, so that a burst waits
for a pod's next turn and not for a period besides. An early round costs as much as any other: with the bound
above, early rounds take at most ``EARLY_SHARE`` of the time. At a thousand workloads a round takes so long
that the period is over first, and nothing is gained or lost; at a hundred the next round may begin at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import sqrt
from typing import Final

from autoscaler.merge_loads import contradict

EARLY_SHARE: Final = 0.1
LEAST_PAUSE_SECONDS: Final = 0.1


def is_burst(in_flight: float, at_last_round: float, holds: float | None) -> bool:
    """Whether so many requests in flight are worth a round of their own: more than the pods asked serve at a
    time (``holds``; None: not stated) where the last round saw room, else more than the last round saw; by
    more than chance explains.
    """
    if in_flight <= at_last_round or (holds is not None and in_flight <= holds):
        return False
    if holds is not None and at_last_round <= holds:
        return in_flight > holds + sqrt(holds)
    return contradict(in_flight, at_last_round)


class Pace:
    """Waits between rounds. ``nudge`` may come from any thread, ``wait`` from the one that runs rounds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news = threading.Event()

    def nudge(self) -> None:
        """Do not wait for the period, as far as the bound allows; news during a round count for the next."""
        self._news.set()

    def wait(self, stop: threading.Event, began: float, period_seconds: float) -> None:
        """Wait until the next round is due, after one that ``began`` then and has just ended.

        Returns when ``stop`` is set; who sets it nudges as well, or the wait may take the rest of the period.
        """
        now = self._clock()
        due = began + period_seconds
        soonest = began + max(LEAST_PAUSE_SECONDS, (now - began) / EARLY_SHARE)
        if not stop.wait(max(0.0, min(soonest, due) - now)):
            self._news.wait(max(0.0, due - self._clock()))
        self._news.clear()
