"""How far one change may go, and how soon the next may follow.

Up: at most the larger of a percentage and a number of replicas. While the replicas of the last raise are
still on their way (for one cold start at most), a further raise is allowed only if in-flight has grown since,
and only by what the growth is worth: the shortfall that was seen has been answered already, and asking for it
again at every look is how start-up time turns into an overshoot to the maximum (kubernetes#78761, ray#18925).

Down: at most the larger of the two again, then a pause in which the survivors' load can be seen.
"""

from __future__ import annotations

import math
from typing import Final

from autoscaler import reasons
from autoscaler.capacity import load_in_replicas, replicas_for
from autoscaler.reasons import Reason
from autoscaler.state import Raise

# Several scrapes at the usual 15 s; a shorter scale-down window shortens the pause with it.
LOWER_PAUSE_SECONDS: Final = 60.0


def step_up_to(current: int, percent: float, replicas: int) -> int:
    """Return the highest count that one raise may reach."""
    return current + max(math.ceil(current * percent / 100.0), replicas, 1)


def step_down_to(current: int, percent: float, replicas: int) -> int:
    """Return the lowest count that one lowering may reach."""
    return max(0, current - max(math.floor(current * percent / 100.0), replicas, 1))


def raise_limit(
    *,
    current: int,
    ready: int,
    in_flight: float,
    per_replica: float | None,
    headroom: float,
    tolerance: float,
    last_raise: Raise | None,
    cold_start_seconds: float,
    now: float,
) -> tuple[int, Reason] | None:
    """Return the count that replicas still starting allow, with the reason; None when none starts."""
    if last_raise is None or ready >= current:
        return None
    ago = now - last_raise.at_seconds
    if ago >= cold_start_seconds:
        return None
    growth = in_flight - last_raise.in_flight
    awaited = (
        f"raised {ago:.0f} s ago, {current - ready} of {current} replicas are not ready, "
        f"a start takes about {cold_start_seconds:.0f} s"
    )
    if per_replica is None or growth <= last_raise.in_flight * tolerance:
        return current, Reason(reasons.COLD_START_WAIT, f"{awaited}, and in-flight has not grown: waiting")
    worth = replicas_for(load_in_replicas(growth, per_replica, headroom))
    return current + worth, Reason(
        reasons.COLD_START_WAIT, f"{awaited}: only the growth of in-flight by {growth:.4g} is answered"
    )


def lower_pause(last_lower_seconds: float | None, window_seconds: float, now: float) -> float:
    """Return how many seconds are left of the pause after the last lowering; 0 or less when it is over."""
    if last_lower_seconds is None:
        return 0.0
    return last_lower_seconds + min(LOWER_PAUSE_SECONDS, window_seconds) - now
