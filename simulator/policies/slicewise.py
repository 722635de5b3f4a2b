"""Slicewise: the product's own placement cost, with prices re-solved on the live state every few hundred
arrivals.

All decisions are made by ``scheduler.packing``; this file only feeds it. The expected mix is that of the
pod list (as FGD knows its target workload), scaled to what is free. Nothing here depends on which list it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.packing.node_columns import FreeNodes, KnownFilling
from scheduler.packing.share_cost import DUAL, GRADIENT, LEVEL_MILLI, level, placing_cost
from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.share_prices import (
    DEFAULT_SCENARIOS,
    Scenario,
    SharePrices,
    solve_share_prices,
)
from scheduler.packing.shares import ShareClass, ShareOffers
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus, first_best

RESOLVE_EVERY = 400
"""Arrivals between two solves of the prices, at most."""
SHRINK = 0.9
"""Solve earlier once the free GPUs are down to this part of what they were: the scarcer, the faster
prices move.
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
    ) -> None:
        self.epoch = 0
        self._gradient = ShareGradient(target, state.models)
        self._offers = ShareOffers(demand, state.models)
        self._every = resolve_every
        self._scenarios = tuple(scenarios)
        self._dual, self._gradient_weight, self._level_milli = dual_weight, gradient_weight, level_milli
        self._shrink = shrink
        self._arrived = 0
        self._free_when_solved = 0
        self._known: frozenset[KnownFilling] = frozenset()
        self._prices: SharePrices = self._solved(state)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        self._arrived += 1
        shrunk = state.free_milli < self._shrink * self._free_when_solved
        if self._arrived >= self._every or (shrunk and self._arrived >= _FEWEST_ARRIVALS):
            self._prices = self._solved(state)
            self.epoch += 1

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
        prices = solve_share_prices(
            self._offers,
            FreeNodes(state.model, state.cpu, state.gpu_free),
            scenarios=self._scenarios,
            known=self._known,
        )
        self._known |= prices.fillings
        return prices
