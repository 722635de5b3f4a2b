"""What ``tune`` may change in an autoscaling policy, and within which bounds.

Only values that say how carefully to follow the load. What states a wish or a limit (objective, bounds of the
replicas, cold start, outage) stays as the user wrote it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.autoscaling_policy import AutoscalingPolicy

_LEAST_SHARE, _MOST_SHARE = 0.6, 1.15


@dataclass(frozen=True, slots=True)
class Knob:
    """A policy value by its dotted path, searched from ``low`` to ``high`` (by factors with ``log``)."""

    path: str
    low: float
    high: float
    log: bool = False


_BY_OBJECTIVE = (
    Knob("slo.learningRate", 0.05, 1.0, log=True),
    Knob("slo.leastHeadroom", 0.0, 1.5),
)
_BY_SHARE = (Knob("scaleDown.margin", 0.0, 0.4),)
_ALWAYS = (
    Knob("scaleUp.tolerance", 0.0, 0.15),
    Knob("scaleDown.tolerance", 0.01, 0.3),
    Knob("scaleDown.stabilisationSeconds", 60.0, 1800.0, log=True),
)


def knobs_of(policy: AutoscalingPolicy) -> tuple[Knob, ...]:
    """The knobs of ``policy``; what one replica carries only where the policy gives it."""
    own = _BY_SHARE if policy.slo is None else _BY_OBJECTIVE
    if policy.in_flight is None:
        return (*own, *_ALWAYS)
    given = policy.in_flight.per_replica
    return (*own, *_ALWAYS, Knob("inFlight.perReplica", _LEAST_SHARE * given, _MOST_SHARE * given))


def value_of(policy: AutoscalingPolicy, knob: Knob) -> float:
    """What the policy has there now, kept within the knob's bounds."""
    found: Any = policy.model_dump(by_alias=True)
    for key in knob.path.split("."):
        found = found[key]
    return min(knob.high, max(knob.low, float(found)))


def changed(policy: AutoscalingPolicy, values: Mapping[str, float]) -> AutoscalingPolicy:
    """``policy`` with ``values`` by dotted path, each to three significant digits (nobody reads more)."""
    document: dict[str, Any] = policy.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for path, value in values.items():
        *sections, last = path.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = float(f"{value:.3g}")
    return AutoscalingPolicy.model_validate(document)
