"""GPU utilisation: a guard on lowering, and on request a reason for one more replica.

A utilisation is a duty cycle: it saturates long before a server is full and does not measure how much work is
done, so it never sizes a workload. Busy GPUs forbid lowering. ``scaleUpAbove``, when set, asks for one
replica at a time with the same patience as latency. Values are shares 0..1 in the unit the reader of DCGM has
already settled (per GPU off MIG, per instance on MIG).
"""

from __future__ import annotations

from autoscaler import reasons
from autoscaler.latency import settling_seconds
from autoscaler.reasons import Opinion, Reason
from autoscaler.signals import Signals
from autoscaler.state import Raise
from metrics.samples import NoData


def gpu_opinion(
    signals: Signals,
    *,
    lower_below: float | None,
    raise_above: float | None,
    settle_seconds: float,
    last_raise: Raise | None,
    now: float,
) -> Opinion:
    """Judge the mean utilisation (share 0..1) of the workload's GPUs against the guard's two thresholds."""
    share = signals.gpu_utilisation
    if isinstance(share, NoData):
        if lower_below is None or signals.idle:
            return Opinion()
        sentence = f"GPU utilisation is unknown ({share.reason}): its guard does not allow fewer replicas"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.GPU_UNKNOWN, sentence),))
    settled = not signals.starting and settling_seconds(last_raise, settle_seconds, now) <= 0
    if raise_above is not None and share > raise_above and settled and signals.in_flight != 0.0:
        sentence = f"GPU utilisation is {share:.0%}, above {raise_above:.0%}: one more replica"
        return Opinion(signals.current + 1, True, (Reason(reasons.GPU_NEEDS_MORE, sentence),))
    if lower_below is not None and share >= lower_below:
        sentence = f"GPU utilisation is {share:.0%}, not below {lower_below:.0%}: not lowering"
        return Opinion(forbids_lowering=True, reasons=(Reason(reasons.GPU_FORBIDS_FEWER, sentence),))
    return Opinion()
