"""How fast pods may be evicted: so many in any hour, and a pause for pods whose eviction was refused.

Values in, values out: times are passed in. The count starts anew with each leader, so a change of leaders may
spend an hour's evictions twice at most.
"""

from __future__ import annotations

from collections import deque

HOUR_SECONDS = 3600.0
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 1800.0


class Pace:
    """Evictions of the last hour and pods that are left alone for now."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._pauses: dict[str, tuple[float, float, str]] = {}

    def left(self, now: float, per_hour: int) -> int:
        """How many evictions the hour still allows."""
        while self._times and self._times[0] <= now - HOUR_SECONDS:
            self._times.popleft()
        return max(0, per_hour - len(self._times))

    def evicted(self, now: float) -> None:
        """Note one eviction."""
        self._times.append(now)

    def refused(self, uid: str, now: float, reason: str, retry_after_seconds: float | None = None) -> None:
        """Leave a pod alone for a while, twice as long each time."""
        _, last, _ = self._pauses.get(uid, (0.0, 0.0, ""))
        pause = min(max(FIRST_PAUSE_SECONDS, 2.0 * last, retry_after_seconds or 0.0), LONGEST_PAUSE_SECONDS)
        self._pauses[uid] = (now + pause, pause, reason)

    def paused(self, now: float) -> dict[str, str]:
        """The pods left alone now, each with the reason."""
        return {uid: reason for uid, (until, _, reason) in self._pauses.items() if until > now}

    def forget(self, alive: set[str]) -> None:
        """Drop what is known of pods that are gone."""
        self._pauses = {uid: pause for uid, pause in self._pauses.items() if uid in alive}
