"""The cost of placing a pod on nodes with shared GPUs: space destroyed for the expected demand.

    cost = dual × (V(before) − V(after)) + gradient × (F(after) − F(before))      in milli-GPU

V is ``share_prices``, F Fragmentation Gradient Descent's measure (``share_gradient``). V knows what space
is worth; F knows what actually fits, which prices as means do not. The default weights are those of the
policy (``prices.fragmentationDual`` 6, ``prices.fragmentationGradient`` 1).

A share goes to the GPU where it costs least, whole GPUs to the lowest free ones. Costs are compared in
coarse levels (``level``): see there why. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import SharePrices
from scheduler.packing.shares import MILLI, Floats, Ints, ShareClass

DUAL = 6.0
GRADIENT = 1.0
LEVEL_MILLI = 3000.0


def placing_cost(
    prices: SharePrices,
    gradient: ShareGradient,
    nodes: FreeNodes,
    pod: ShareClass,
    *,
    dual_weight: float = DUAL,
    gradient_weight: float = GRADIENT,
) -> tuple[Floats, Ints]:
    """float64[n] milli-GPU, and int64[n], the GPU of a share (0 otherwise); rubbish where the pod does
    not fit.
    """
    model, free = nodes.model, nodes.gpu_free
    left = nodes.cpu - pod.cpu_milli
    value = prices.node_value(nodes)
    before = gradient.of(model, nodes.cpu, free)
    if pod.gpus == 1 and pod.gpu_milli < MILLI:
        row, gpu = np.nonzero(_worth_trying(free, pod.gpu_milli))
        rest = free[row]
        rest[np.arange(len(row)), gpu] -= pod.gpu_milli
        lost = value[row] - prices.node_value(FreeNodes(model[row], left[row], rest))
        growth = gradient.of(model[row], left[row], rest) - before[row]
        cost = np.full(free.shape, np.inf)
        # Rounded: of GPUs that differ by arithmetic only, the lowest.
        cost[row, gpu] = np.round(dual_weight * lost + gradient_weight * growth, 3)
        gpus = cost.argmin(axis=1)
        return cost[np.arange(len(model)), gpus], gpus
    if pod.gpus:
        whole = free == MILLI
        free = np.where(whole & (whole.cumsum(axis=1) <= pod.gpus), 0, free)
    lost = value - prices.node_value(FreeNodes(model, left, free))
    growth = gradient.of(model, left, free) - before
    return dual_weight * lost + gradient_weight * growth, np.zeros(len(model), dtype=np.int64)


def _worth_trying(free: Ints, gpu_milli: int) -> NDArray[np.bool_]:
    """bool[n, g]: GPUs that a share fits on, of those with the same room on a node only the lowest."""
    tried: NDArray[np.bool_] = free >= gpu_milli
    for gpu in range(1, free.shape[1]):
        tried[:, gpu] &= (free[:, :gpu] != free[:, gpu : gpu + 1]).all(axis=1)
    return tried


def level(cost: Floats, scale_milli: float = LEVEL_MILLI) -> Floats:
    """Whole levels of a cost, 0..100, more is better: int(100 · sigmoid(−cost / scale)), about 0.12 GPU a
    level.

    Two costs that differ by less than what the next re-solve would change should not scatter pods over
    nodes. Within a level a *fixed* order of nodes decides: it fills some nodes and keeps others whole,
    which is worth more than the exact difference: ``python -m benchmarks.packing_study --variants
    now,exact,random-ties`` compares the three.
    """
    return np.floor(100.0 / (1.0 + np.exp(np.clip(np.round(cost, 3) / scale_milli, -500.0, 500.0))))
