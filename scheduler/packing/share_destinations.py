"""What a pod of each kind would cost on each node, kept from one search for moves to the next.

A search asks for the same few hundred kinds of pods on nodes of which only a few have changed since the last
one. ``Destinations`` compares the free state with the one it saw before and prices only rows that changed,
and all of them once the prices change. What it answers is exactly what pricing everything anew would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_cost import DUAL, GRADIENT, placing_cost
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import SharePrices
from scheduler.packing.shares import MILLI, Floats, Ints, ShareClass


@dataclass(frozen=True, slots=True)
class Kind:
    """What pods of one kind need: their class, and memory."""

    need: ShareClass
    memory_mib: int = 0

    @property
    def shared(self) -> bool:
        return self.need.gpus == 1 and self.need.gpu_milli < MILLI


@dataclass(frozen=True, slots=True)
class Pricing:
    """What a placement costs, as in ``placing_cost``."""

    prices: SharePrices
    gradient: ShareGradient
    dual_weight: float = DUAL
    gradient_weight: float = GRADIENT

    def cost(self, nodes: FreeNodes, need: ShareClass) -> tuple[Floats, Ints]:
        return placing_cost(
            self.prices,
            self.gradient,
            nodes,
            need,
            dual_weight=self.dual_weight,
            gradient_weight=self.gradient_weight,
        )

    def worth(self, nodes: FreeNodes) -> Floats:
        """float64[n]: what free space is worth, in the unit of ``cost``."""
        fragments = self.gradient.of(nodes.model, nodes.cpu, nodes.gpu_free)
        result: Floats = self.dual_weight * self.prices.node_value(nodes) - self.gradient_weight * fragments
        return result


class _Kept:
    def __init__(self, size: int) -> None:
        self.cost: Floats = np.full(size, np.inf)
        self.gpus: Ints = np.zeros(size, dtype=np.int64)
        self.seen = 0


class Destinations:
    """Costs by kind for one sequence of states of the same nodes; ``see`` tells it the present one."""

    def __init__(self, kinds: Sequence[Kind], models: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self.allowed: NDArray[np.bool_] = np.array(
            [[kind.need.allows(name) for name in models] for kind in kinds], dtype=np.bool_
        ).reshape(len(kinds), len(models))
        self._kept: dict[int, _Kept] = {}
        self._pricing: Pricing | None = None
        self._nodes: FreeNodes | None = None
        self._memory: Ints = np.zeros(0, dtype=np.int64)
        self._changed: Ints = np.zeros(0, dtype=np.int64)
        self._clock = 0

    def see(self, pricing: Pricing, nodes: FreeNodes, memory_mib: Ints) -> None:
        """Take over the present state (a copy of it) and prices."""
        self._clock += 1
        known = self._pricing
        if known is None or known.prices is not pricing.prices or self._nodes is None:
            self._kept.clear()
            self._changed = np.full(len(nodes.model), self._clock, dtype=np.int64)
        else:
            other = (self._nodes.cpu != nodes.cpu) | (self._memory != memory_mib)
            other |= (self._nodes.gpu_free != nodes.gpu_free).any(axis=1)
            self._changed[other] = self._clock
        self._pricing = pricing
        self._nodes = FreeNodes(nodes.model, nodes.cpu.copy(), nodes.gpu_free.copy())
        self._memory = memory_mib.copy()

    def of(self, kind: int) -> tuple[Floats, Ints]:
        """Cost [n], infinite where the kind does not fit, and the GPU of a share [n]: copies, the caller's
        own. Raises ValueError before any state was seen.
        """
        nodes, pricing = self._nodes, self._pricing
        if nodes is None or pricing is None:
            raise ValueError("got a question for costs before any state, expected see() first")
        kept = self._kept.get(kind)
        if kept is None:
            kept = self._kept[kind] = _Kept(len(nodes.model))
        rows = np.flatnonzero(self._changed > kept.seen)
        if rows.size:
            need = self.kinds[kind].need
            fits = (
                (nodes.cpu[rows] >= need.cpu_milli)
                & (self._memory[rows] >= self.kinds[kind].memory_mib)
                & self.allowed[kind][nodes.model[rows]]
            )
            if need.gpus:
                fits &= (nodes.gpu_free[rows] >= need.gpu_milli).sum(axis=1) >= need.gpus
            kept.cost[rows] = np.inf
            rows = rows[fits]
            if rows.size:
                asked = FreeNodes(nodes.model[rows], nodes.cpu[rows], nodes.gpu_free[rows])
                kept.cost[rows], kept.gpus[rows] = pricing.cost(asked, need)
        kept.seen = self._clock
        return kept.cost.copy(), kept.gpus.copy()
