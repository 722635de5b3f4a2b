"""Why a replica count was chosen: a CamelCase code for machines, a sentence for people.

A decision carries its reasons in order of weight: the first is the one that settled the count, the rest are
what else bore on it. The code ends up as the reason of an Event and as a metric label, so the set is closed
and listed here. Codes fall into a few classes; a change of class is what is worth an Event when the count
itself does not move.

Does not decide anything and does not write Events (``controller`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

IN_FLIGHT_NEEDS_MORE: Final = "InFlightNeedsMore"
IN_FLIGHT_NEEDS_FEWER: Final = "InFlightNeedsFewer"
LATENCY_NEEDS_MORE: Final = "LatencyNeedsMore"
GPU_NEEDS_MORE: Final = "GpuNeedsMore"
FALLBACK: Final = "FallbackReplicas"

STEADY: Final = "Steady"
WITHIN_TOLERANCE: Final = "WithinTolerance"
SURVIVORS_TOO_FEW: Final = "SurvivorsTooFew"
STABILISING: Final = "Stabilising"
COLD_START_WAIT: Final = "ColdStartWait"
STEP_WAIT: Final = "StepWait"
LATENCY_FORBIDS_FEWER: Final = "LatencyForbidsFewer"
LATENCY_UNKNOWN: Final = "LatencyUnknown"
LATENCY_WAITS: Final = "LatencyWaits"
GPU_FORBIDS_FEWER: Final = "GpuForbidsFewer"
GPU_UNKNOWN: Final = "GpuUnknown"
SILENT_PODS: Final = "SilentPods"

STEP_LIMITED: Final = "StepLimited"
AT_MINIMUM: Final = "AtMinimum"
AT_MAXIMUM: Final = "AtMaximum"
ZERO_NEEDS_QUEUE: Final = "ScaleToZeroNeedsQueue"
LATENCY_BEYOND_REPLICAS: Final = "LatencyBeyondReplicas"

METRICS_MISSING: Final = "MetricsMissing"
NO_READY_REPLICA: Final = "NoReadyReplica"
UNSCHEDULABLE: Final = "ReplicasUnschedulable"
NOT_PLACEABLE: Final = "NotPlaceable"
OTHER_WRITER: Final = "OtherWriter"
QUEUE_OUTSIDE: Final = "QueueOutside"
PANIC: Final = "Panic"
TURNING: Final = "TurningTooOften"
PAUSED: Final = "Paused"
CHEAPER_VARIANT: Final = "CheaperVariant"


class ReasonClass(StrEnum):
    """The kinds of situation a workload can be in; a change of kind is told as an Event."""

    SCALING = "scaling"
    HOLDING = "holding"
    BOUNDED = "bounded"
    BLIND = "blind"
    UNPLACEABLE = "unplaceable"
    PAUSED = "paused"


_CLASSES: Final[dict[str, ReasonClass]] = {
    IN_FLIGHT_NEEDS_MORE: ReasonClass.SCALING,
    IN_FLIGHT_NEEDS_FEWER: ReasonClass.SCALING,
    LATENCY_NEEDS_MORE: ReasonClass.SCALING,
    GPU_NEEDS_MORE: ReasonClass.SCALING,
    STEADY: ReasonClass.HOLDING,
    WITHIN_TOLERANCE: ReasonClass.HOLDING,
    SURVIVORS_TOO_FEW: ReasonClass.HOLDING,
    STABILISING: ReasonClass.HOLDING,
    COLD_START_WAIT: ReasonClass.HOLDING,
    STEP_WAIT: ReasonClass.HOLDING,
    LATENCY_FORBIDS_FEWER: ReasonClass.HOLDING,
    LATENCY_UNKNOWN: ReasonClass.HOLDING,
    LATENCY_WAITS: ReasonClass.HOLDING,
    GPU_FORBIDS_FEWER: ReasonClass.HOLDING,
    GPU_UNKNOWN: ReasonClass.HOLDING,
    SILENT_PODS: ReasonClass.HOLDING,
    STEP_LIMITED: ReasonClass.HOLDING,
    AT_MINIMUM: ReasonClass.HOLDING,
    ZERO_NEEDS_QUEUE: ReasonClass.HOLDING,
    AT_MAXIMUM: ReasonClass.BOUNDED,
    LATENCY_BEYOND_REPLICAS: ReasonClass.BOUNDED,
    FALLBACK: ReasonClass.BLIND,
    METRICS_MISSING: ReasonClass.BLIND,
    NO_READY_REPLICA: ReasonClass.BLIND,
    UNSCHEDULABLE: ReasonClass.UNPLACEABLE,
    NOT_PLACEABLE: ReasonClass.UNPLACEABLE,
    OTHER_WRITER: ReasonClass.PAUSED,
    QUEUE_OUTSIDE: ReasonClass.SCALING,
    PANIC: ReasonClass.HOLDING,
    TURNING: ReasonClass.HOLDING,
    PAUSED: ReasonClass.PAUSED,
    CHEAPER_VARIANT: ReasonClass.SCALING,
}

CODES: Final = tuple(_CLASSES)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: ``code`` is one of this module's constants, ``sentence`` names the numbers."""

    code: str
    sentence: str

    @property
    def reason_class(self) -> ReasonClass:
        """The kind of situation that the code belongs to."""
        return _CLASSES[self.code]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a secondary signal says: it may ask for more, and forbid fewer; it can never ask for fewer."""

    raise_to: int | None = None
    forbids_lowering: bool = False
    reasons: tuple[Reason, ...] = ()
