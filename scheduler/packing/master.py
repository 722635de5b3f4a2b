"""The master LP of the packing prices: maximise the value of the demand served, over known fillings of the
free capacity.

    max  Σ_c value_c x_c     value_c = Σ_d n_dc v_dm,  v_dm = money per hour of one request of class d on
         model m
    s.t. Σ_{c of group g} x_c ≤ count_g     dual μ_g: what one more GPU (or node) in that state would earn
         Σ_c n_dc x_c ≤ D_d                 dual λ_d: what one more request of class d would earn
         x ≥ 0

A group is a set of identical GPU or node states (``supply``), a column one filling of it. The net price of a
class is p_dm = v_dm − λ_d: what is earned by space that can serve it. Columns are generated where the
knapsack under p (``columns``) beats μ_g; when none does, the restricted LP is optimal over all fillings and V
= μ. Solved with OR-Tools' GLOP, deterministic, re-solved from its last basis when columns are added or demand
changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ortools.linear_solver import pywraplp

from scheduler.packing.columns import (
    Filling,
    Floats,
    GpuTable,
    ModelClasses,
    NodeTable,
    gpu_table,
    node_table,
)

GroupKind = Literal["gpu", "node", "whole", "static"]
_IMPROVES = 1e-7


@dataclass(frozen=True, slots=True)
class Group:
    """Identical states: ``state`` is the occupied mask (gpu), the number of free GPUs (node, whole) or 0
    (static).
    """

    kind: GroupKind
    model: str
    state: int
    profile: str
    count: int

    @property
    def key(self) -> tuple[str, str, int, str]:
        return (self.kind, self.model, self.state, self.profile)


@dataclass(frozen=True, slots=True)
class Tables:
    """The knapsack of one model under one set of prices."""

    gpu: GpuTable
    node: NodeTable
    whole: NodeTable


def knapsacks(
    offers: Mapping[str, ModelClasses], prices: Mapping[str, Floats], max_gpus: int
) -> dict[str, Tables]:
    """Solve V and W of every model under its net class prices."""
    solved = {}
    for name, offer in offers.items():
        gpu = gpu_table(offer, prices[name])
        node = node_table(offer, prices[name], gpu, max_gpus)
        solved[name] = Tables(gpu, node, node_table(offer, prices[name], None, max_gpus))
    return solved


class Master:
    """The restricted master LP; it only ever gains columns."""

    def __init__(
        self, groups: Sequence[Group], offers: Mapping[str, ModelClasses], values: Mapping[str, Floats]
    ):
        self.groups = groups
        self._offers = offers
        self._values = values  # per model: v_dm over class indices
        self._solver: Any = pywraplp.Solver.CreateSolver("GLOP")
        self._solver.Objective().SetMaximization()
        classes = len(next(iter(values.values()))) if values else 0
        self._supply = [self._solver.Constraint(0.0, float(group.count)) for group in groups]
        self._demand = [self._solver.Constraint(0.0, 0.0) for _ in range(classes)]
        self._columns: list[set[Filling]] = [set() for _ in groups]
        self.multipliers: Floats = np.zeros(classes)  # λ, the last optimal one
        self.objective = 0.0
        self.upper_bound = 0.0
        self.rounds = 0

    def add(self, group: int, filling: Filling) -> bool:
        """Add one column; False when it is empty or already there."""
        if not filling or filling in self._columns[group]:
            return False
        self._columns[group].add(filling)
        value = self._values[self.groups[group].model]
        column = self._solver.NumVar(0.0, self._solver.infinity(), "")
        self._supply[group].SetCoefficient(column, 1.0)
        for index, number in filling:
            self._demand[index].SetCoefficient(column, float(number))
        self._solver.Objective().SetCoefficient(
            column, float(sum(number * value[index] for index, number in filling))
        )
        return True

    def columns(self) -> dict[tuple[str, str, int, str], tuple[Filling, ...]]:
        """Every column by its group's key, for the next solve to start from."""
        return {
            group.key: tuple(sorted(found))
            for group, found in zip(self.groups, self._columns, strict=True)
            if found
        }

    def elapsed_seconds(self) -> float:
        return float(self._solver.wall_time()) / 1000.0

    def solve(self, demand: Floats, max_gpus: int, deadline_seconds: float, max_rounds: int = 200) -> bool:
        """Generate columns for one demand until none improves; False when stopped by the deadline or the
        solver.

        The multipliers of the last LP stay valid prices when stopped early: the knapsack bound is only less
        tight.
        """
        for constraint, bound in zip(self._demand, demand, strict=True):
            constraint.SetBounds(0.0, float(bound))
        for _ in range(max_rounds):
            left = deadline_seconds - self.elapsed_seconds()
            if left <= 0.0:
                return False
            self._solver.SetTimeLimit(max(1, int(left * 1000)))
            if self._solver.Solve() != pywraplp.Solver.OPTIMAL:
                return False
            self.rounds += 1
            self.objective = float(self._solver.Objective().Value())
            self.multipliers = np.array(
                [max(0.0, row.dual_value()) for row in self._demand], dtype=np.float64
            )
            rents = [max(0.0, row.dual_value()) for row in self._supply]
            if not self._generate(demand, rents, max_gpus):
                return True
        return False

    def _generate(self, demand: Floats, rents: Sequence[float], max_gpus: int) -> bool:
        prices = {name: np.maximum(0.0, value - self.multipliers) for name, value in self._values.items()}
        tables = knapsacks(self._offers, prices, max_gpus)
        bound = float(self.multipliers @ demand)
        added = False
        for index, (group, rent) in enumerate(zip(self.groups, rents, strict=True)):
            worth = group_value(group, tables[group.model], self._offers[group.model], prices[group.model])
            bound += group.count * worth
            if worth > rent + _IMPROVES * max(1.0, worth):
                filling = best_filling(
                    group, tables[group.model], self._offers[group.model], prices[group.model]
                )
                added |= self.add(index, filling)
        self.upper_bound = bound
        return added


def group_value(group: Group, tables: Tables, offer: ModelClasses, price: Floats) -> float:
    """What one member of the group can earn under the prices its tables were solved for."""
    if group.kind == "gpu":
        return float(tables.gpu.values[group.state])
    if group.kind == "node":
        return float(tables.node.values[group.state])
    if group.kind == "whole":
        return float(tables.whole.values[group.state])
    index = _static_class(group, offer, price)
    return float(price[index]) if index >= 0 else 0.0


def best_filling(group: Group, tables: Tables, offer: ModelClasses, price: Floats) -> Filling:
    """The filling that earns :func:`group_value`."""
    if group.kind == "gpu":
        return tables.gpu.filling(group.state)
    if group.kind == "node":
        return tables.node.filling(group.state)
    if group.kind == "whole":
        return tables.whole.filling(group.state)
    index = _static_class(group, offer, price)
    return ((index, 1),) if index >= 0 else ()


def _static_class(group: Group, offer: ModelClasses, price: Floats) -> int:
    served = {
        index
        for row, placement in enumerate(offer.geometry.placements)
        if placement.profile == group.profile
        for index in offer.by_placement[row]
    }
    return max(served, key=lambda index: (price[index], -index), default=-1)
