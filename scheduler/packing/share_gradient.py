"""Fragmentation Gradient Descent's measure F on GPUs cut anywhere, vectorised over nodes.

Weng et al. (USENIX ATC'23), as published in code: with target workload M of shapes m with popularity p_m,

    F_n(M) = Σ_m p_m F_n(m),   F_n(m) = Σ_g free_g                       if node n cannot run m, or m asks
    for no GPU
                                      = Σ_g free_g · [free_g < milli_m]   otherwise.

Hence F = Σ_g free_g − Σ_m p_m [n runs m] Σ_g free_g [free_g ≥ milli_m], and the shapes collapse: the CPU
asked for matters only through the share of popularity with at most the node's free CPU, a step function per
GPU demand. Memory plays no part, as in the original. Pure; F on the MIG grid is
``scheduler.packing.gradient``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.shares import MILLI, Floats, Ints, ShareClass

_SHIFT = 32


class ShareGradient:
    """F for one target workload over the GPU models of a cluster; a class's ``count`` is its popularity,
    and all counts should add up to one.
    """

    def __init__(self, target: Sequence[ShareClass], models: Sequence[str]) -> None:
        demands = sorted({(item.gpu_milli, item.gpus) for item in target if item.gpus})
        index = {demand: position for position, demand in enumerate(demands)}
        self._thresholds: Ints = np.unique(np.array([item.cpu_milli for item in target], dtype=np.int64))
        # popular[model, k, d]: popularity of demand d among shapes with CPU at most threshold k - 1
        popular = np.zeros((len(models), len(self._thresholds) + 1, max(1, len(demands))))
        for item in target:
            if item.gpus:
                at = int(np.searchsorted(self._thresholds, item.cpu_milli)) + 1
                for model, name in enumerate(models):
                    if item.allows(name):
                        popular[model, at:, index[item.gpu_milli, item.gpus]] += item.count
        self._popular = popular
        milli = np.array([demand[0] for demand in demands] or [MILLI + 1], dtype=np.int64)
        self._count = np.array([demand[1] for demand in demands] or [1], dtype=np.int64)
        free = np.arange(MILLI + 1, dtype=np.int64)[:, None]
        self._serves = (free >= milli).astype(np.int64)  # [free, d]
        self._usable = free * self._serves
        # Both in one number, so that one gather and one sum serve: GPUs above, their milli below.
        self._packed = (self._serves << _SHIFT) + self._usable

    def of(self, model: Ints, cpu: Ints, free: Ints) -> Floats:
        """F in milli-GPU of rows with ``model`` [r], free ``cpu`` [r] and ``free`` GPU milli [r, g]."""
        packed = self._packed[free[:, 0]]
        for gpu in range(1, free.shape[1]):
            packed += self._packed[free[:, gpu]]
        serves, usable = packed >> _SHIFT, packed & ((1 << _SHIFT) - 1)
        result: Floats = free.sum(axis=1) - self._useful(model, cpu, serves, usable)
        return result

    def after_share(self, model: Ints, cpu: Ints, free: Ints, gpu_milli: int) -> Floats:
        """F [r, g] after taking ``gpu_milli`` from each GPU in turn, ``cpu`` being what is left then; rubbish
        where the GPU has less.
        """
        rest = np.maximum(free - gpu_milli, 0)
        serves = self._serves[free].sum(axis=1)[:, None] - self._serves[free] + self._serves[rest]
        usable = self._usable[free].sum(axis=1)[:, None] - self._usable[free] + self._usable[rest]
        total = free.sum(axis=1)[:, None] - gpu_milli
        result: Floats = total - self._useful(model, cpu, serves, usable)
        return result

    def _useful(self, model: Ints, cpu: Ints, serves: Ints, usable: Ints) -> Floats:
        popular = self._popular[model, np.searchsorted(self._thresholds, cpu, side="right")]
        counted = np.where(serves >= self._count, usable, 0)
        if counted.ndim == 3:
            per_gpu: Floats = np.einsum("rgd,rd->rg", counted, popular)
            return per_gpu
        per_node: Floats = np.einsum("rd,rd->r", counted, popular)
        return per_node
