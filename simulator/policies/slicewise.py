"""Slicewise: the product's own placement cost, with prices re-solved on the live state every few hundred
arrivals, and earlier when free GPUs or rooms for pods of several GPUs shrink.

Duals are marginal: while there are more whole nodes than pods of eight GPUs to come, one fewer costs nothing,
and single GPUs are taken on them as anywhere else. Only a solve made before they run out can say that they
are short, and as pods stay, one that comes too late mends nothing.

All decisions are made by ``scheduler.packing``; this file only feeds it. The expected mix is that of the
pod list (as FGD knows its target workload), scaled to what is free. Nothing here depends on which list it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.node_columns import FreeNodes, KnownFilling
from scheduler.packing.share_cost import DUAL, GRADIENT, LEVEL_MILLI, level, placing_cost
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import (
    DEFAULT_SCENARIOS,
    Scenario,
    SharePrices,
    solve_share_prices,
)
from scheduler.packing.shares import MILLI, ShareClass, ShareOffers
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus, first_best

RESOLVE_EVERY = 400
"""Arrivals between two solves of the prices, at most."""
SHRINK = 0.9
"""Solve earlier once the free GPUs are down to this part of what they were (the scarcer, the faster prices
move), or the rooms for pods of some size: how many of them the entirely free GPUs of nodes could hold.
"""
_FEWEST_ARRIVALS = 25


class Slicewise:
    name = "slicewise"

    def __init__(
        self,
        state: ClusterState,
        target: Sequence[ShareClass],
        demand: Sequence[ShareClass],
        *,
        resolve_every: int = RESOLVE_EVERY,
        shrink: float = SHRINK,
        scenarios: Sequence[Scenario] = DEFAULT_SCENARIOS,
        dual_weight: float = DUAL,
        gradient_weight: float = GRADIENT,
        level_milli: float = LEVEL_MILLI,
        watch_rooms: bool = True,
    ) -> None:
        self.epoch = 0
        sizes = {item.gpus for item in demand if item.gpus > 1} if watch_rooms else set()
        self._sizes = np.array(sorted(sizes), dtype=np.int64)
        self._gradient = ShareGradient(target, state.models)
        self._offers = ShareOffers(demand, state.models)
        self._every = resolve_every
        self._scenarios = tuple(scenarios)
        self._dual, self._gradient_weight, self._level_milli = dual_weight, gradient_weight, level_milli
        self._shrink = shrink
        self._arrived = 0
        self._free_when_solved = 0
        self._rooms_when_solved = np.zeros(len(self._sizes), dtype=np.int64)
        self._known: frozenset[KnownFilling] = frozenset()
        self._prices: SharePrices = self._solved(state)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        self._arrived += 1
        if self._arrived >= self._every or (self._arrived >= _FEWEST_ARRIVALS and self._shrunk(state)):
            self._prices = self._solved(state)
            self.epoch += 1

    def _shrunk(self, state: ClusterState) -> bool:
        """Whether free GPUs, or the rooms for pods of several GPUs, are much fewer than at the last solve."""
        if state.free_milli < self._shrink * self._free_when_solved:
            return True
        return bool((self._rooms(state) < self._shrink * self._rooms_when_solved).any())

    def _rooms(self, state: ClusterState) -> Gpus:
        """int64[sizes]: how many pods of so many GPUs the entirely free GPUs of nodes could hold."""
        whole = (state.gpu_free == MILLI).sum(axis=1)
        found: Gpus = (whole[:, None] // self._sizes).sum(axis=0)
        return found

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        nodes = FreeNodes(state.model[rows], state.cpu[rows], state.gpu_free[rows])
        pod = ShareClass(shape.gpus, shape.gpu_milli, shape.cpu_milli, shape.models)
        cost, gpus = placing_cost(
            self._prices,
            self._gradient,
            nodes,
            pod,
            dual_weight=self._dual,
            gradient_weight=self._gradient_weight,
        )
        return level(cost, self._level_milli)[:, None], gpus

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def _solved(self, state: ClusterState) -> SharePrices:
        self._arrived = 0
        self._free_when_solved = state.free_milli
        self._rooms_when_solved = self._rooms(state)
        prices = solve_share_prices(
            self._offers,
            FreeNodes(state.model, state.cpu, state.gpu_free),
            scenarios=self._scenarios,
            known=self._known,
        )
        self._known |= prices.fillings
        return prices
