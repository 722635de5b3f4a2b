"""What a decision hands to the next one about the same workload.

All of it can be lost: a controller that starts with no state begins its windows with what runs and is merely
slower to lower. ``headroom`` is the share of spare capacity added to the load; it is fixed here and is the
one value that a learner of the service level objective would steer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoscaler.windows import Windows


@dataclass(frozen=True, slots=True)
class Raise:
    """The last raise: when, and how much was in flight then (the shortfall it answered)."""

    at_seconds: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class State:
    """Timestamps are seconds of the clock that ``decide`` is given."""

    windows: Windows
    headroom: float = 0.0
    last_raise: Raise | None = None
    last_lower_seconds: float | None = None
    blind_since_seconds: float | None = None

    def without_change(self, before: State | None) -> State:
        """This state when the change did not happen: what was seen stays, what was done does not."""
        if before is None:
            return replace(self, last_raise=None, last_lower_seconds=None)
        return replace(self, last_raise=before.last_raise, last_lower_seconds=before.last_lower_seconds)

    @classmethod
    def begun(cls, current: int, now: float) -> State:
        """The state of a workload seen for the first time (or again after a restart)."""
        return cls(Windows.begun_with(current, now))
