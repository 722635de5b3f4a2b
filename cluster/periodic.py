"""A thread that does one thing again and again until it is stopped.

The thread outlives any error of its work: it is logged, and the next turn comes after the usual pause. What
is worth more than a line in the log (a metric, a status) is the work's own business. The thread is a daemon
and never keeps the process alive. It keeps to no beat: the pause follows the work, however long that took.

One interpreter runs one thread at a time, so a turn takes its time from whatever else the process does. Where
something else must be quick, turns may ``yield_to`` its ``Gate``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 5.0
FRESH_SECONDS: Final = 1.0


class Gate:
    """Shut while something urgent runs, again and again. Safe to use from several threads."""

    def __init__(
        self, longest_seconds: float = LONGEST_WAIT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Who waits at it goes on after ``longest_seconds``, whatever became of what is urgent."""
        self._longest_seconds, self._clock = longest_seconds, clock
        self._changed = threading.Condition()
        self._shut, self._opened_at = False, float("-inf")

    def hold(self) -> None:
        """Shut it."""
        with self._changed:
            self._shut = True

    def release(self) -> None:
        """Open it."""
        with self._changed:
            self._shut, self._opened_at = False, self._clock()
            self._changed.notify_all()

    def wait(self, *, fresh: bool = False) -> None:
        """Return when it is open; ``fresh``: when it has just been opened, so that work of seconds is done
        before it is shut again. One that nobody has used for long is as good.
        """
        with self._changed:
            age = self._clock() - self._opened_at
            if not self._shut and not (fresh and FRESH_SECONDS < age <= self._longest_seconds):
                return
            self._changed.wait(self._longest_seconds)


class Periodic:
    """To be inherited by whoever owns such a thread; one thread an object, started once."""

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        period_seconds: float,
        *,
        if_failed: str,
        at_once: bool = False,
    ) -> None:
        """``if_failed``: what the log says beside the error. ``at_once``: the first turn comes with ``start``
        and not a period later.
        """
        self._work, self._period_seconds = work, period_seconds
        self._if_failed, self._at_once = if_failed, at_once
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._gate: Gate | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def yield_to(self, gate: Gate) -> None:
        """Begin no turn while ``gate`` is shut. Before ``start``."""
        self._gate = gate

    def give_way(self, *, fresh: bool = False) -> None:
        """Wait at the gate: before each turn, and in long work, ``fresh``, before each of its steps."""
        if self._gate is not None and not self._stopping.is_set():
            self._gate.wait(fresh=fresh)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def nudge(self) -> None:
        """Do not wait for the period: the next turn comes now, or right after the one that runs."""
        self._woken.set()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """End the thread and wait for the turn that runs, at most for the timeout. Safe to call twice, and
        without ``start``.
        """
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        if not self._at_once:
            self._woken.wait(self._period_seconds)
        while True:
            # Before the work: what changes while it runs is not missed.
            self._woken.clear()
            self.give_way()
            if self._stopping.is_set():
                return
            try:
                self._work()
            except Exception:
                log.exception("%s", self._if_failed)
            self._woken.wait(self._period_seconds)
