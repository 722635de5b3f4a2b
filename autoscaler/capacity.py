"""In-flight requests to replicas: the primary term.

    load   = in_flight * (1 + headroom) / per_replica                      [replicas, a real number]
    raise  : ceil(load)                       when load > current * (1 + tolerance)
    lower  : ceil(load * (1 + margin))        when load < current * (1 - tolerance)

The sum over pods, never a mean of means; independent of how many pods are ready (the ``AverageValue`` form of
the HorizontalPodAutoscaler). Lowering asks whether the survivors hold the whole load with a margin, which is
what stops N -> N-1 -> N. Ready pods that do not report count as empty when raising and as full when lowering,
as the HorizontalPodAutoscaler does, so that missing numbers never cause a change.
"""

from __future__ import annotations

import math

# Keeps 3 * 0.1 / 0.1 from asking for a fourth replica.
_ROUNDING = 1e-9


def load_in_replicas(in_flight: float, per_replica: float, headroom: float) -> float:
    """Return how many full replicas the requests in flight, with headroom, are worth."""
    return in_flight * (1.0 + headroom) / per_replica


def replicas_for(load: float) -> int:
    """Return the whole replicas that hold ``load``."""
    return max(0, math.ceil(load - _ROUNDING))


def survivors_for(load: float, margin: float) -> int:
    """Return the fewest replicas that hold ``load`` with ``margin`` (a share) to spare."""
    return replicas_for(load * (1.0 + margin))


def above(load: float, current: int, tolerance: float) -> bool:
    """Tell whether ``load`` exceeds what runs by more than ``tolerance`` (a share)."""
    return load > current * (1.0 + tolerance) + _ROUNDING


def below(load: float, current: int, tolerance: float) -> bool:
    """Tell whether ``load`` falls short of what runs by more than ``tolerance`` (a share)."""
    return load < current * (1.0 - tolerance) - _ROUNDING
