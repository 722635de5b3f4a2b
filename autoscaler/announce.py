"""Which decisions are news, and the words for them.

An Event is written when the count changes, or when the kind of situation changes to one a person should know
of: numbers are missing, a bound or the fleet stands in the way, autoscaling is paused. Staying put for an
ordinary reason is not news; it is in the metrics. Pure: ``cluster.events`` writes and limits.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler import reasons
from autoscaler.decide import Decision
from autoscaler.reasons import ReasonClass
from cluster import event_reasons


@dataclass(frozen=True, slots=True)
class Announcement:
    """An Event about the target, ready to be recorded."""

    reason: str
    note: str
    type: str


def announcement(current: int, decision: Decision, before: ReasonClass | None) -> Announcement | None:
    """Return the news in ``decision``; ``before`` is the class of the last decision, None for the first."""
    first = decision.reasons[0]
    why = "; ".join(reason.sentence for reason in decision.reasons)
    if decision.replicas != current:
        note = f"{current} -> {decision.replicas} replicas: {why}"
        if first.code == reasons.FALLBACK:
            return Announcement(event_reasons.SCALING_FALLBACK, note, event_reasons.WARNING)
        up = decision.replicas > current
        return Announcement(
            event_reasons.SCALED_UP if up else event_reasons.SCALED_DOWN, note, event_reasons.NORMAL
        )
    if first.reason_class == before or first.code == reasons.NO_READY_REPLICA:
        return None
    note = f"kept at {current}: {why}"
    if first.reason_class in (ReasonClass.BOUNDED, ReasonClass.UNPLACEABLE):
        return Announcement(event_reasons.SCALING_LIMITED, note, event_reasons.WARNING)
    if first.reason_class is ReasonClass.BLIND:
        return Announcement(event_reasons.SCALING_HELD, note, event_reasons.WARNING)
    if first.reason_class is ReasonClass.PAUSED:
        return Announcement(event_reasons.SCALING_HELD, note, event_reasons.NORMAL)
    return None
