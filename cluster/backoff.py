"""Growing pauses with jitter: each pause is drawn evenly from half to all of a doubling limit.

Pure but for the random generator that is passed in. "Equal jitter" keeps many clients from returning in
step after an outage, and still guarantees half of the pause.
"""

from __future__ import annotations

import random


class Backoff:
    """Pauses in seconds: about first, 2·first, 4·first, … never above ``most_seconds``."""

    def __init__(self, first_seconds: float, most_seconds: float, jitter: random.Random) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._jitter = jitter
        self._limit = first_seconds

    def next_seconds(self) -> float:
        """Return the next pause and double the limit."""
        limit = self._limit
        self._limit = min(self._most, limit * 2)
        return limit * self._jitter.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._limit = self._first
