"""Whether the taints of a device keep a request away (KEP-5055).

Only NoSchedule and NoExecute matter to allocation; None informs. Follows ``ToleratesTaint`` of
k8s.io/dynamic-resource-allocation 1.36: an empty effect or key of a toleration matches all. How long a
NoExecute taint is tolerated is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from dra.resource_api import DeviceTaint, DeviceToleration


def tolerated(taints: Sequence[DeviceTaint], tolerations: Sequence[DeviceToleration]) -> bool:
    """True when every taint that prevents allocation is tolerated."""
    return all(
        taint.effect not in ("NoSchedule", "NoExecute") or any(_tolerates(t, taint) for t in tolerations)
        for taint in taints
    )


def _tolerates(toleration: DeviceToleration, taint: DeviceTaint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        return toleration.value == taint.value
    return toleration.operator == "Exists"
