"""The few nodes worth asking kube-scheduler about further: the cheapest, and the cheapest of every zone.

An extender's filter may answer with fewer nodes than can run the pod; what it leaves out is neither scored
by kube-scheduler nor sent to prioritize (``findNodesThatPassExtenders`` in pkg/scheduler). At 1,000 nodes
that saves a second message of 1,000 names, its answer, and the scoring of all of them by every plugin. The
ranks decide anyway: among scores of other plugins, one step of ours outweighs a preference, so that nodes
far down the list are never taken.

A pod that states preferences of its own (preferred affinity, ``ScheduleAnyway`` spread) gets the whole list,
since the node it prefers may be dear. For the spread that kube-scheduler adds by default the cheapest node
of every zone stays on the list.

A pod that nothing spreads may get one node, chosen here as prioritize would (``extender.oneNode``): a list of
one is neither scored nor ranked. Nothing is lost by it when that node fails later in the cycle, for
kube-scheduler never tries the second of a list; the pod comes again either way. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.wire import Pod

_DECIMALS = 9
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def states_preferences(pod: Pod) -> bool:
    """Whether the pod says which of the nodes that can run it it would rather have."""
    affinity: Mapping[str, Any] = pod.spec.affinity or {}
    if any((affinity.get(kind) or {}).get(_PREFERRED) for kind in affinity):
        return True
    return any(rule.get("whenUnsatisfiable") != "DoNotSchedule" for rule in pod.spec.topology_spread)


def price_decides(pod: Pod, one_node: str) -> bool:
    """Whether the cheapest node is the answer: ``one_node`` (``extender.oneNode``) says for which pods.

    ``unspread``: kube-scheduler's default spread looks at the pods of a Service, ReplicaSet or StatefulSet;
    of pods with a controller only those of a Job are surely none.
    """
    if one_node == "never" or states_preferences(pod):
        return False
    kinds = {owner.kind for owner in pod.metadata.owner_references if owner.controller}
    return one_node == "always" or kinds <= {"Job"}


def shortlist(prices: NDArray[np.float64], zones: NDArray[np.int32], most: int) -> NDArray[np.int64] | None:
    """Ascending positions of the ``most`` cheapest, the first of equals, and of the cheapest of each zone.

    ``prices``: float64[k] money per hour, infinite where the pod does not fit; ``zones``: int32[k], -1 for
    none. None when there is nothing to shorten: at most ``most`` of them, or none with a finite price.
    """
    finite = np.flatnonzero(np.isfinite(prices))
    if len(prices) <= most or not finite.size:
        return None
    if finite.size <= most:
        return finite
    found = np.round(prices[finite], _DECIMALS)
    edge = np.partition(found, most - 1)[most - 1]
    below = np.flatnonzero(found < edge)
    chosen = [below, np.flatnonzero(found == edge)[: most - below.size]]
    own = zones[finite]
    for zone in np.flatnonzero(np.bincount(own + 1)).tolist():
        members = np.flatnonzero(own == zone - 1)
        chosen.append(members[[found[members].argmin()]])
    positions: NDArray[np.int64] = finite[np.unique(np.concatenate(chosen))]
    return positions
