"""p95 latency: may ask for one more replica and may forbid fewer; alone it never asks for fewer.

Latency answers replicas non-linearly and late: a histogram counts finished requests only, so the p95 of the
last minute describes the load of a minute or more ago. Hence small steps of feedback (HeteroScale,
arXiv:2508.19559, splits its signals the same way): one replica at a time, and after any raise a wait until
its replicas serve and a whole latency window has passed over them.

More replicas cannot cure a latency that comes from the model itself. A raise for latency alone therefore
stops where the replicas would be loaded to less than ``LEAST_USEFUL_LOAD`` of their share, and says so.
"""

from __future__ import annotations

from typing import Final

from autoscaler import reasons
from autoscaler.reasons import Opinion, Reason
from autoscaler.signals import Signals
from autoscaler.state import Raise
from metrics.samples import NoData

# Below a quarter of its in-flight share a server is no longer queueing; chosen, not measured.
LEAST_USEFUL_LOAD: Final = 0.25


def latency_opinion(
    signals: Signals,
    *,
    target_seconds: float,
    window_seconds: float,
    raise_tolerance: float,
    lower_tolerance: float,
    load: float,
    last_raise: Raise | None,
    cold_start_seconds: float,
    now: float,
) -> Opinion:
    """Judge the p95 against its target; ``load`` is the in-flight load in replicas (inf: unknown)."""
    p95 = signals.p95_seconds
    if isinstance(p95, NoData):
        if signals.idle:
            return Opinion()
        sentence = f"p95 latency is unknown while there is traffic ({p95.reason}): not lowering"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.LATENCY_UNKNOWN, sentence),))
    against = f"p95 latency is {p95:.3g} s against a target of {target_seconds:.3g} s"
    if p95 <= target_seconds * (1.0 + raise_tolerance):
        if p95 <= target_seconds * (1.0 - lower_tolerance) or signals.idle:
            return Opinion()
        sentence = f"{against}: too close to lower"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.LATENCY_FORBIDS_FEWER, sentence),))
    wanted = signals.current + 1
    if load < wanted * LEAST_USEFUL_LOAD:
        lightly = f"less than {LEAST_USEFUL_LOAD:.0%} of their in-flight share"
        sentence = f"{against}, but the replicas would hold {lightly}: more of them would not help"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.LATENCY_BEYOND_REPLICAS, sentence),))
    settles_in = settling_seconds(last_raise, cold_start_seconds + window_seconds, now)
    if signals.starting or settles_in > 0:
        sentence = f"{against}, but it does not yet show the replicas of the last raise: waiting"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.LATENCY_WAITS, sentence),))
    sentence = f"{against}: one more replica"
    return Opinion(wanted, True, (Reason(reasons.LATENCY_NEEDS_MORE, sentence),))


def settling_seconds(last_raise: Raise | None, settle_seconds: float, now: float) -> float:
    """Return how long until ``settle_seconds`` have passed since the last raise; 0 or less when they have."""
    if last_raise is None:
        return 0.0
    return last_raise.at_seconds + settle_seconds - now
