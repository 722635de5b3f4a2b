"""Replicas of a streaming consumer, from how far it lags behind.

    load = (arrivals + max(0, lag − tolerated) / drain seconds) / rate of one replica      [replicas]

Arrivals and lag are messages of the whole group. What one replica consumes is the policy's, or is learned:
while more waits than is tolerated every replica is busy, so what the group consumes then, over its ready
replicas, is its rate; at other times that is a lower bound. Until it is known, ``perReplica`` messages of
lag count as one replica, as KEDA's ``lagThreshold`` does. More replicas than partitions would idle: the
partitions bound the count. Missing is not zero: without a lag nothing is decided (``decide`` holds), and a
part that is missing raises nothing and lowers nothing. Pure; does not ask for anything
(``metrics.streams``).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from autoscaler import reasons
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.sizing import Load
from autoscaler.state import State
from cluster.lag_policy import Lag
from metrics.samples import NoData
from metrics.streams import StreamLag

_LEARNED_SHARE: Final = 0.2


def sized_by_lag(policy: Lag, lag: StreamLag, signals: Signals, state: State) -> tuple[Load, State]:
    """Return the load in replicas, and the state that has learned from this look."""
    tolerated = policy.per_replica * max(1, signals.ready)
    state = _learned(policy, lag, tolerated, signals, state)
    rate = policy.messages_per_second or state.stream_rate
    behind = max(0.0, lag.messages - tolerated)
    if rate is None:
        load = lag.messages / policy.per_replica
        how = f"at {policy.per_replica:.4g} a replica until its rate is known"
    else:
        arrivals = lag.arrivals
        coming = 0.0 if isinstance(arrivals, NoData) else arrivals
        load = (coming + behind / policy.drain_seconds) / rate
        how = f"{coming:.4g} a second coming, {rate:.4g} a second a replica"
        if isinstance(arrivals, NoData):
            # Nobody tells what comes: what runs may be needed for it.
            load = max(load, float(signals.current) if behind <= 0.0 else signals.current + behind / rate)
    bound = policy.partitions or lag.partitions
    sentence = f"{lag.messages:.4g} messages of lag, {how}"
    if bound and load > bound:
        load, sentence = float(bound), f"{sentence}; {bound} partitions"
    return Load(load, load, 0.0, rate or policy.per_replica, sentence), state


def woken_by_lag(policy: Lag, signals: Signals, state: State, *, most: int) -> tuple[int, Reason]:
    """Return the count to wake to from zero (0: stay), at most ``most`` and what can be placed."""
    lag = signals.stream
    if isinstance(lag, NoData):
        return 0, Reason(reasons.ZERO_NEEDS_QUEUE, f"0 replicas, and the lag is not known: {lag.reason}")
    if lag.messages <= 0.0:
        return 0, Reason(reasons.STEADY, "0 replicas, and nothing lags")
    rate = policy.messages_per_second or state.stream_rate
    share = policy.per_replica if rate is None else policy.drain_seconds * rate
    needed = max(1, math.ceil(lag.messages / share))
    bound = policy.partitions or lag.partitions
    needed = min(needed, most, bound or needed)
    sentence = f"{lag.messages:.4g} messages lag and need {needed}"
    if isinstance(signals.placeable, int) and signals.placeable < needed:
        needed, sentence = max(0, signals.placeable), f"{sentence}, {signals.placeable} can be placed"
        if needed == 0:
            return 0, Reason(reasons.NOT_PLACEABLE, sentence)
    return needed, Reason(reasons.QUEUE_OUTSIDE, sentence)


def _learned(policy: Lag, lag: StreamLag, tolerated: float, signals: Signals, state: State) -> State:
    if policy.messages_per_second is not None or isinstance(lag.consumed, NoData):
        return state
    # Pods that have just become ready have consumed nothing of the last minute.
    if signals.ready <= 0 or signals.starting or lag.consumed <= 0.0:
        return state
    sample, known = lag.consumed / signals.ready, state.stream_rate
    if lag.messages > tolerated:
        rate = sample if known is None else known + _LEARNED_SHARE * (sample - known)
    else:
        rate = known if known is not None and known >= sample else sample
        if known is None:
            return state
    return replace(state, stream_rate=rate)
