"""Which running pods may be moved at all, and why the others may not.

A pod is moved only when someone makes it anew (a ReplicaSet, StatefulSet or ReplicationController owns it;
other owners, Jobs among them, only where the pod says ``slicewise.io/repack: allow``: their work may be lost
or their group restarted), when it is not a node's own (mirror and DaemonSet pods), not of the system
(kube-system, system priority classes), not of a gang, has run long enough for a move to be worth it, and
neither opted out (``slicewise.io/repack: never``, on the pod) nor lies under a budget that allows no
disruption. Budgets are checked per move in ``plan``. Pods that need other pods near or far are left: whether
their new place holds depends on who is there. Pure.

A waiting pod never moves one of higher priority. Equals may be moved: they get their new place first.
"""

from __future__ import annotations

from cluster.times import unix_seconds
from scheduler.repack.census import Resident

NEVER, ALLOW = "never", "allow"
REMADE_BY = frozenset({"ReplicaSet", "StatefulSet", "ReplicationController"})
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
# Lowest value of the built-in classes system-cluster-critical and system-node-critical.
SYSTEM_PRIORITY = 2_000_000_000


def why_not(pod: Resident, now: float, min_age_seconds: float) -> str | None:
    """Why the pod may not be moved, or None. ``now``: Unix seconds."""
    if not pod.node or pod.terminating:
        return "is not running"
    if pod.namespace in SYSTEM_NAMESPACES or pod.priority >= SYSTEM_PRIORITY:
        return "belongs to the system"
    if pod.mirror or (pod.owner is not None and pod.owner.kind in ("DaemonSet", "Node")):
        return "belongs to its node"
    if pod.wish == NEVER:
        return "opts out (slicewise.io/repack: never)"
    if pod.owner is None:
        return "has no controller that would make it anew"
    if pod.wish != ALLOW:
        if pod.owner.kind not in REMADE_BY:
            return f"is of a {pod.owner.kind}, whose work may be lost (slicewise.io/repack: allow permits it)"
        if pod.gang:
            return "is one of a gang (slicewise.io/repack: allow permits it)"
    if pod.constraints.depends_on_pods:
        return "requires pods near or far from it"
    age = now - seconds_of(pod.started or pod.created)
    if age < min_age_seconds:
        return f"has run for {age:.0f} s, less than {min_age_seconds:.0f}"
    return None


def is_protected(pod: Resident) -> bool:
    """Whether the pod may not even be preempted: the system's and the nodes' own."""
    return (
        not pod.node
        or pod.terminating
        or pod.mirror
        or pod.namespace in SYSTEM_NAMESPACES
        or pod.priority >= SYSTEM_PRIORITY
    )


def seconds_of(time: str) -> float:
    """RFC 3339 as Unix seconds; what cannot be read is long ago."""
    return unix_seconds(time) or 0.0
