"""What to do when the signal that sizes a workload cannot be read: keep what runs.

Never lower on missing data, never below the minimum. After ``fallbackAfterSeconds`` without numbers go to the
larger of what runs and ``fallbackReplicas``: an outage may cost money, it may not cost the service. A
workload with no ready replica has no numbers by nature; that is waiting, not an outage, and starts no clock.
"""

from __future__ import annotations

from dataclasses import replace

from autoscaler import reasons
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.state import State
from metrics.samples import NoData


def hold(
    signals: Signals,
    missing: NoData,
    state: State,
    *,
    fallback_replicas: int | None,
    fallback_after_seconds: float,
    now: float,
) -> tuple[int, tuple[Reason, ...], State]:
    """Return the count to keep (not yet bounded), why, and the state that remembers since when."""
    current = signals.current
    if signals.ready == 0:
        pods = f"{signals.starting} starting, {signals.unschedulable} unschedulable"
        sentence = f"no replica is ready ({pods}), so there is nothing to measure: keeping {current}"
        return (
            current,
            (Reason(reasons.NO_READY_REPLICA, sentence),),
            replace(state, blind_since_seconds=None),
        )
    since = now if state.blind_since_seconds is None else state.blind_since_seconds
    state = replace(state, blind_since_seconds=since)
    blind = f"{_name(missing, signals)} is unknown for {now - since:.0f} s ({missing.reason})"
    if (
        fallback_replicas is not None
        and now - since >= fallback_after_seconds
        and fallback_replicas > current
    ):
        sentence = f"{blind}: raising to the fallback of {fallback_replicas}"
        return fallback_replicas, (Reason(reasons.FALLBACK, sentence),), state
    return current, (Reason(reasons.METRICS_MISSING, f"{blind}: keeping {current}"),), state


def _name(missing: NoData, signals: Signals) -> str:
    """What the policy sizes the workload by: that which is missing."""
    if missing is signals.stream:
        return "the lag"
    return "in-flight" if missing is signals.in_flight else "p95 latency"
