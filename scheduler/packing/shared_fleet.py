"""GPUs in shared mode (time-slicing, MPS) as the share LP sees them, and what a replica taken there costs.

One code prices them here and in the packing study (``share_prices``, ``share_gradient``; ``kubectl slicewise
simulate packing`` runs the same functions over fractions of any size). What the live product sees of
fractions:

- **covered**: replicas of the device plugin, ``nvidia.com/gpu.shared`` or ``nvidia.com/gpu`` on nodes that
  share without renaming, and shares of GPUs that a DRA driver tells one by one (KEP-5075,
  ``dra.shared_gpus``). A replica of a GPU with R of them is a share of 1/R of that GPU, rounded down to 1 %.
  Replicas of one kind are alike and serve shared pods only: one costs its net price, the same on every node
  with CPU to spare, more where the pod's CPU is what other replicas would need.
- **not covered**: which GPU a replica lies on (a node's free replicas are taken to fill GPUs one after the
  other, which is what first-fit does under DRA and values them the same elsewhere); memory of the node; GPUs
  of several sizes of share on one node (their mean is taken); fractions of other device plugins (HAMi,
  Volcano, gpu-share), whose resources are none of ours. A node that offers whole GPUs beside replicas has the
  CPU counted for the whole ones.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.packing.mix import Expected
from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import SharePrices, solve_share_prices
from scheduler.packing.shares import MILLI, Floats, Ints, ShareClass, ShareOffers

MIN_NODE_GPUS = 16
_STEP_MILLI = 10
PLENTY_MILLI = 10**9
"""Free CPU of a node where nobody counts it: no price notices a limit."""

Kind = tuple[str, int]  # GPU model, replicas a GPU


@dataclass(frozen=True, slots=True)
class SharedNodes:
    """Nodes with shared GPUs as columns: ``kind`` [n] into ``kinds``, ``cpu`` milli-CPU free, ``free``
    replicas.
    """

    kinds: tuple[Kind, ...]
    kind: Ints
    cpu: Ints
    free: Ints


@dataclass(frozen=True, slots=True)
class SharedTables:
    """The solved prices of all kinds of shared GPUs."""

    kinds: tuple[Kind, ...]
    prices: SharePrices
    gradient: ShareGradient

    @property
    def most_gpus(self) -> int:
        """Free GPUs of one node up to which the tables go; more are worth the same each."""
        return int(self.prices.whole.shape[1]) - 1

    def cost_milli(
        self, nodes: SharedNodes, replicas: Ints, cpu_milli: Ints, dual: float, gradient: float
    ) -> Floats:
        """float64[n] milli-GPU that a pod's ``replicas`` [n] and ``cpu_milli`` [n] cost on each node, as
        ``share_cost`` puts V and F together. Rubbish where it does not fit. ``nodes.kinds``: those of the
        tables.
        """
        most = np.array([kind[1] for kind in nodes.kinds], dtype=np.int64)[nodes.kind] * self.most_gpus
        nodes = SharedNodes(nodes.kinds, nodes.kind, nodes.cpu, np.minimum(nodes.free, most))
        before = free_nodes(nodes)
        cpu, free = np.maximum(0, nodes.cpu - cpu_milli), np.maximum(0, nodes.free - replicas)
        taken = SharedNodes(nodes.kinds, nodes.kind, cpu, free)
        after = free_nodes(taken, before.gpu_free.shape[1])
        lost = self.prices.node_value(before) - self.prices.node_value(after)
        growth = self.gradient.of(after.model, after.cpu, after.gpu_free)
        growth = growth - self.gradient.of(before.model, before.cpu, before.gpu_free)
        result: Floats = dual * lost + gradient * growth
        return result


def solve_shared(nodes: SharedNodes, expected: Sequence[Expected], time_limit_seconds: float) -> SharedTables:
    """Price the shared GPUs for the ``shared`` classes of ``expected``, or else for pods of one replica."""
    wanted = [item for item in expected if item.cls.kind == "shared" and item.count > 0.0]
    total = sum(item.count for item in wanted)
    names = [_name(kind) for kind in nodes.kinds]
    classes = [
        ShareClass(1, replica_milli(kind[1]), item.cls.cpu_milli, (_name(kind),), item.count / total)
        for kind in nodes.kinds
        for item in wanted
        if item.cls.allows(kind[0])
    ] or [ShareClass(1, replica_milli(kind[1]), 0, (_name(kind),)) for kind in nodes.kinds]
    offers = ShareOffers(classes, names)
    # Wide enough for GPUs that are free later and were not when the prices were solved.
    free = free_nodes(nodes, MIN_NODE_GPUS)
    prices = solve_share_prices(offers, free, time_limit_seconds=time_limit_seconds)
    return SharedTables(nodes.kinds, prices, ShareGradient(classes, names))


def replica_milli(replicas: int) -> int:
    """The share of a GPU that one of its replicas is, in whole steps of the tables."""
    return max(_STEP_MILLI, MILLI // max(1, replicas) // _STEP_MILLI * _STEP_MILLI)


def replicas_per_gpu(total: Ints, gpus: Ints) -> Ints:
    """How many replicas stand for one GPU of nodes with ``total`` replicas of ``gpus`` GPUs."""
    result: Ints = -(-total // np.maximum(1, gpus))
    return result


def free_nodes(nodes: SharedNodes, width: int = 0) -> FreeNodes:
    """The nodes as the share LP has them: free replicas fill GPUs one after the other. ``width``: at least
    so many GPUs a node.
    """
    per_gpu = np.array([kind[1] for kind in nodes.kinds] or [1], dtype=np.int64)[nodes.kind]
    unit = np.array([replica_milli(kind[1]) for kind in nodes.kinds] or [MILLI], dtype=np.int64)[nodes.kind]
    width = max(width, int((-(-nodes.free // per_gpu)).max(initial=1)))
    left = nodes.free[:, None] - np.arange(width) * per_gpu[:, None]
    free = np.where(left >= per_gpu[:, None], MILLI, np.maximum(left, 0) * unit[:, None])
    return FreeNodes(nodes.kind, nodes.cpu, free.astype(np.int64))


def _name(kind: Kind) -> str:
    return f"{kind[0]}/{kind[1]}"
