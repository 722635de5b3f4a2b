"""What no policy can beat: an upper bound on the GPUs that the arrived pods can fill, by column generation.

The LP of ``scheduler.packing.node_columns`` over the empty cluster, with the pods that have arrived as
demand and no limit by CPU, memory or arrival order: pods may be left out, cut in parts and moved. So it
also bounds policies that migrate. GPU models and the number of GPUs of a node count: a pod of eight GPUs
cannot use nodes of two. It is loose where CPU strands GPUs, and where pods that fit must be taken as they
come: an optimum would refuse shares of 810 milli early, which no scheduler may do.

The value returned is the dual bound of the last LP (Farley 1990), valid even if column generation was
stopped. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.node_columns import FreeNodes, NodeMaster, group_nodes
from scheduler.packing.shares import ShareClass, ShareOffers
from simulator.cluster_state import ClusterState
from simulator.openb import NodeShape, PodShape, arrived_percent

_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Bound:
    """``unallocated_percent`` of all GPUs is the least any policy can leave; ``converged``: the LP was
    solved out.
    """

    unallocated_percent: float
    converged: bool
    rounds: int


def bound(
    nodes: Sequence[NodeShape],
    shapes: Sequence[PodShape],
    order: NDArray[np.int64],
    *,
    percent: int = 100,
) -> Bound:
    """Bound the run of ``order`` where the GPUs asked for round to ``percent`` of those there are.

    A run reports its mean over the arrivals there, so this is the mean of the bounds of at most eight of
    them, evenly spaced; where there are none, as in small clusters, of those at the last percent before.
    """
    state = ClusterState(nodes)
    rounded = np.rint(arrived_percent(shapes, order, state.capacity_milli))
    before = rounded[rounded <= percent]
    if not before.size:
        return Bound(100.0, converged=True, rounds=0)
    arrivals = np.flatnonzero(rounded == before[-1])
    picked = arrivals[np.unique(np.linspace(0, arrivals.size - 1, _SAMPLES).round().astype(np.int64))]
    found = [
        bound_of(state, [shapes[index] for index in order[: last + 1].tolist()]) for last in picked.tolist()
    ]
    return Bound(
        float(np.mean([item.unallocated_percent for item in found])),
        all(item.converged for item in found),
        sum(item.rounds for item in found),
    )


def bound_of(state: ClusterState, pods: Sequence[PodShape]) -> Bound:
    """Bound what ``pods`` can fill of a cluster's free GPUs."""
    counts: dict[tuple[int, int, tuple[str, ...]], int] = {}
    for pod in pods:
        if pod.gpus:
            key = (pod.gpus, pod.gpu_milli, pod.models)
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return Bound(100.0, converged=True, rounds=0)
    classes = [
        ShareClass(gpus, milli, 0, models, float(count))
        for (gpus, milli, models), count in sorted(counts.items())
    ]
    offers = ShareOffers(classes, state.models)
    # CPU does not bind, so nodes differ by model and number of free GPUs only.
    groups = group_nodes(FreeNodes(state.model, np.zeros_like(state.cpu), state.gpu_free), offers)
    demand = np.array([item.count for item in classes], dtype=np.float64)
    master = NodeMaster(offers, groups, cpu_binds=False)
    converged = master.solve(demand)
    used = min(master.upper_bound_milli, float(demand @ offers.size_milli))
    free = float(state.gpu_free.sum())
    return Bound(100.0 * (free - min(used, free)) / state.capacity_milli, converged, master.rounds)
