"""What an actuator other than us did with our advice, taken into the state as if we had done it.

With ``actuator: advise`` nobody knows beforehand when HPA or KEDA sets the advised count, or whether it goes
the whole way. What is seen between two looks tells: a count that rose is a raise that answers the need of the
last advice, one that fell is a lowering. So start-up waits and the count of turns hold for what really
happened, not for what was advised. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from autoscaler.shaping import recent_turns
from autoscaler.signals import Signals
from autoscaler.state import Raise, State
from metrics.samples import NoData


def followed(state: State, advised: Signals, current: int, now: float) -> State:
    """Return ``state`` when ``current`` replicas are asked for now.

    ``advised`` are the signals of the last advice; ``now`` is of the clock of ``decide``.
    """
    if current > advised.current:
        in_flight = 0.0 if isinstance(advised.in_flight, NoData) else advised.in_flight
        return replace(state, last_raise=Raise(now, in_flight))
    if current < advised.current:
        turns = recent_turns(state, now)
        return replace(state, last_lower_seconds=now, turns_seconds=(*turns, now) if state.rising else turns)
    return state
