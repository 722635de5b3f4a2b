"""Where the time of a control round goes: each moment of it belongs to one phase.

    scales       policies, and the scale of every target
    pods         whose pods there are, which server runs, whom the direct scrape asks
    prometheus   until its answers are here and read
    decisions    signals joined by pod, each workload decided as if there were room for all
    room         the fleet asked for those that would grow
    outcome      decided with that room, told in metrics and Events, writes handed out
    writes       until the last write was answered
    memory       what was learned is handed to its store, and what the round has made is let go

A round that takes longer than its period makes every decision late, so that is said, with the phases that
took the time: once, and again after a round in time. Decides nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

log = logging.getLogger(__name__)

Phase: TypeAlias = Literal["scales", "pods", "prometheus", "decisions", "room", "outcome", "writes", "memory"]
_WORTH_TELLING: Final = 0.05


class RoundTimes:
    """Used by the thread of the rounds; ``last`` may be read by any."""

    def __init__(
        self,
        entered: Callable[[Phase], None] = lambda _phase: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``entered`` is called at the beginning of each phase."""
        self.last: Mapping[str, float] = {}
        self._entered, self._clock = entered, clock
        self._seconds: dict[str, float] = {}
        self._phase: Phase | None = None
        self._since = 0.0
        self._slow = False

    def begin(self) -> None:
        """A round begins; what an earlier one, broken off, has left is dropped."""
        self._seconds, self._phase = {}, None

    def enter(self, phase: Phase) -> None:
        """From here on the time is that of ``phase``; one may be entered several times a round."""
        self._close()
        self._phase = phase
        self._entered(phase)

    def end(self, period_seconds: float) -> Mapping[str, float]:
        """The round is over: seconds by phase, also kept as ``last``. One that took longer than its period is
        logged.
        """
        self._close()
        self._phase = None
        self.last = self._seconds
        if (slow := self._too_slow(period_seconds)) is not None:
            log.warning("%s", slow)
        return self.last

    def _too_slow(self, period_seconds: float) -> str | None:
        """What to say of the last round, unless the one before was too slow as well."""
        seconds = sum(self.last.values())
        before, self._slow = self._slow, seconds > period_seconds
        if before or not self._slow:
            return None
        parts = sorted(self.last.items(), key=lambda part: -part[1])
        told = ", ".join(f"{phase} {took:.2f} s" for phase, took in parts if took > _WORTH_TELLING * seconds)
        return f"a round took {seconds:.2f} s, its period is {period_seconds:g} s: {told}"

    def _close(self) -> None:
        now = self._clock()
        if self._phase is not None:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since = now
