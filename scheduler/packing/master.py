"""The master LP of the packing prices: maximise the value of the demand served, over known fillings of the
free capacity.

    max  Σ_c value_c x_c + v Σ_q y_q     value_c = Σ_d n_dc v_dm,  v_dm = money per hour of one request of
                                         class d on model m
    s.t. Σ_{c of group g} x_c ≤ count_g              dual μ_g: what one more GPU (or node) in that state earns
         Σ_{c on host q} need_c x_c + y_q ≤ free_q   dual π_q: price of the CPU (memory) of the nodes q
         Σ_c n_dc x_c ≤ D_d                          dual λ_d: what one more request of class d would earn
         Σ_q y_q ≤ CPU that pods without a GPU ask for
         x, y ≥ 0

A group is a set of identical GPU or node states (``supply``) on hosts that are about equally short of CPU and
memory; a column is one filling of it. The nodes of a host pool share their CPU here, a relaxation: what one
node may do with its own is for the tables to say (``host_tables``). Pods without a GPU are served first
(``v`` is high), since nobody can refuse them.

The net price of a class is p_dm = v_dm − λ_d: what is earned by the space, CPU and memory that can serve it.
Columns are generated where the knapsack under p − π·need (``columns``) beats μ_g; when none does, the
restricted LP is optimal over all fillings and V = μ. Solved with OR-Tools' GLOP, deterministic, re-solved
from its last basis when columns are added or demand changes.
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
    GpuTables,
    Ints,
    ModelClasses,
    NodeTables,
    gpu_tables,
    node_tables,
)

GroupKind = Literal["gpu", "node", "whole", "static"]
_IMPROVES = 1e-7
_CLOSED = 1e-8
_PRICE_DIGITS = 9
_SCALE: Floats = np.array([1000.0, 1024.0])
"""Host rows are in cores and GiB inside the LP: GLOP then meets numbers of one size."""
NO_HOST = -1


@dataclass(frozen=True, slots=True)
class Group:
    """Identical states: ``state`` is the occupied mask (gpu), the number of free GPUs (node, whole) or 0
    (static). ``host``: the pool whose CPU and memory its fillings take, NO_HOST where there is plenty.
    """

    kind: GroupKind
    model: str
    state: int
    profile: str
    count: int
    host: int = NO_HOST

    @property
    def key(self) -> tuple[str, str, int, str]:
        return (self.kind, self.model, self.state, self.profile)


@dataclass(frozen=True, slots=True)
class Hosts:
    """CPU and memory beside the GPUs. ``free`` [pools, 2] milli-CPU and MiB; ``need`` [classes, 2] of one
    request; ``others`` what pods without a GPU ask for at a demand of one, ``value`` of a milli-CPU to them.
    """

    free: Floats
    need: Floats
    others: tuple[float, float] = (0.0, 0.0)
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Tables:
    """The knapsacks of one model, a price vector a row."""

    gpu: GpuTables
    node: NodeTables
    whole: NodeTables


def knapsacks(
    offers: Mapping[str, ModelClasses], prices: Mapping[str, Floats], max_gpus: int
) -> dict[str, Tables]:
    """Solve V and W of every model under its net class prices [b, classes]."""
    solved = {}
    for name, offer in offers.items():
        gpu = gpu_tables(offer, prices[name])
        node = node_tables(offer, prices[name], gpu, max_gpus)
        solved[name] = Tables(gpu, node, node_tables(offer, prices[name], None, max_gpus))
    return solved


@dataclass(frozen=True, slots=True)
class _Alike:
    """The groups of one model and kind as arrays: positions, states, hosts; ``profile`` of static ones."""

    model: str
    kind: GroupKind
    profile: str
    positions: Ints
    states: Ints
    hosts: Ints


def _alike(groups: Sequence[Group]) -> dict[str, list[_Alike]]:
    found: dict[tuple[str, GroupKind, str], list[int]] = {}
    for position, group in enumerate(groups):
        found.setdefault((group.model, group.kind, group.profile), []).append(position)
    by_model: dict[str, list[_Alike]] = {}
    for (model, kind, profile), members in found.items():
        by_model.setdefault(model, []).append(
            _Alike(
                model,
                kind,
                profile,
                np.array(members, dtype=np.int64),
                np.array([groups[position].state for position in members], dtype=np.int64),
                np.array([groups[position].host for position in members], dtype=np.int64),
            )
        )
    return by_model


class Master:
    """The restricted master LP; it only ever gains columns."""

    def __init__(
        self,
        groups: Sequence[Group],
        offers: Mapping[str, ModelClasses],
        values: Mapping[str, Floats],
        hosts: Hosts | None = None,
        gap: float = _CLOSED,
    ):
        """``gap``: stop once the bound is this near, as a share of it."""
        self.groups = groups
        self._gap = gap
        self._offers = offers
        self._values = values  # per model: v_dm over class indices
        self._solver: Any = pywraplp.Solver.CreateSolver("GLOP")
        self._solver.Objective().SetMaximization()
        classes = len(next(iter(values.values()))) if values else 0
        self._supply = [self._solver.Constraint(0.0, float(group.count)) for group in groups]
        self._demand = [self._solver.Constraint(0.0, 0.0) for _ in range(classes)]
        self._columns: list[set[Filling]] = [set() for _ in groups]
        self._counts = np.array([group.count for group in groups], dtype=np.float64)
        self._hosts = hosts
        self._capacity = self._host_rows(hosts) if hosts is not None else []
        self._alike = _alike(groups)
        self._free: Floats = np.zeros((0, 2))
        self._others = 0.0
        self.multipliers: Floats = np.zeros(classes)  # λ, the last optimal one
        self.objective = 0.0
        self.upper_bound = 0.0
        self.rounds = 0

    def _host_rows(self, hosts: Hosts) -> list[list[Any]]:
        solver = self._solver
        free = (hosts.free / _SCALE).tolist()
        rows = [[solver.Constraint(0.0, limit) for limit in pool] for pool in free]
        self._wanted = solver.Constraint(0.0, 0.0)
        cpu, memory = hosts.others
        if cpu > 0.0:
            for pool in rows:
                served = solver.NumVar(0.0, solver.infinity(), "")
                pool[0].SetCoefficient(served, 1.0)
                pool[1].SetCoefficient(served, memory / cpu * _SCALE[0] / _SCALE[1])
                self._wanted.SetCoefficient(served, 1.0)
                solver.Objective().SetCoefficient(served, hosts.value * _SCALE[0])
        return rows

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
        host = self.groups[group].host
        if self._hosts is not None and host >= 0:
            need = self._hosts.need
            for row, resource in zip(self._capacity[host], (0, 1), strict=True):
                taken = float(sum(number * need[index, resource] for index, number in filling))
                taken /= _SCALE[resource]
                if taken:
                    row.SetCoefficient(column, taken)
        self._solver.Objective().SetCoefficient(
            column, float(sum(number * value[index] for index, number in filling))
        )
        return True

    def columns(self) -> dict[tuple[str, str, int, str], tuple[Filling, ...]]:
        """Every column by its group's key, for the next solve to start from."""
        merged: dict[tuple[str, str, int, str], dict[Filling, None]] = {}
        for group, found in zip(self.groups, self._columns, strict=True):
            if found:
                merged.setdefault(group.key, {}).update(dict.fromkeys(sorted(found)))
        return {key: tuple(found) for key, found in merged.items()}

    def elapsed_seconds(self) -> float:
        return float(self._solver.wall_time()) / 1000.0

    def solve(
        self,
        demand: Floats,
        max_gpus: int,
        deadline_seconds: float,
        *,
        usable: float = 1.0,
        others: float = 0.0,
        max_rounds: int = 200,
    ) -> bool:
        """Generate columns for one demand until none improves; False when stopped by the deadline or the
        solver.

        ``usable``: the part of the CPU and memory that may be used. ``others``: multiple of what pods without
        a GPU ask for. The multipliers of the last LP stay valid prices when stopped early: the knapsack bound
        is only less tight.
        """
        self._set(demand, usable, others)
        for _ in range(max_rounds):
            left = deadline_seconds - self.elapsed_seconds()
            if left <= 0.0:
                return False
            if np.isfinite(left):
                self._solver.SetTimeLimit(max(1, int(left * 1000)))
            if self._solver.Solve() != pywraplp.Solver.OPTIMAL:
                return False
            self.rounds += 1
            self.objective = float(self._solver.Objective().Value())
            self.multipliers = _duals(self._demand)
            if not self._generate(demand, max_gpus):
                return True
        return False

    def _set(self, demand: Floats, usable: float, others: float) -> None:
        for constraint, bound in zip(self._demand, demand, strict=True):
            constraint.SetBounds(0.0, float(bound))
        if self._hosts is None:
            return
        self._free = self._hosts.free * usable
        self._others = self._hosts.others[0] * others
        for pool, limits in zip(self._capacity, (self._free / _SCALE).tolist(), strict=True):
            for row, limit in zip(pool, limits, strict=True):
                row.SetBounds(0.0, limit)
        self._wanted.SetBounds(0.0, self._others / _SCALE[0])

    def _generate(self, demand: Floats, max_gpus: int) -> bool:
        """Add the columns that improve; False when there are none, or too little is left to gain."""
        rents = _duals(self._supply)
        bound = float(self.multipliers @ demand)
        host_prices = np.zeros((0, 2))
        need = np.zeros((len(self.multipliers), 2))
        if self._hosts is not None:
            need = self._hosts.need
            host_prices = np.array([_duals(pool) for pool in self._capacity]).reshape(-1, 2) / _SCALE
            used = host_prices > 0.0
            bound += float((host_prices[used] * self._free[used]).sum())
            bound += max(0.0, float(self._wanted.dual_value())) * self._others / _SCALE[0]
        # One more row answers for the groups without a host (-1).
        host_prices = np.vstack([host_prices, np.zeros((1, 2))])
        better: list[tuple[int, GroupKind, Tables, Ints, int]] = []
        for name, parts in self._alike.items():
            net = np.maximum(0.0, self._values[name] - self.multipliers)
            row_of_host, charges = _distinct(host_prices, parts, need)
            price = net - charges
            tables = knapsacks({name: self._offers[name]}, {name: price}, max_gpus)[name]
            for part in parts:
                rows = row_of_host[part.hosts]
                static = _static_class(part, self._offers[name], price)
                worth = _worth(part, tables, rows, price, static)
                bound += float(self._counts[part.positions] @ worth)
                improves = worth > rents[part.positions] + _IMPROVES * np.maximum(1.0, worth)
                better.extend(
                    (int(part.positions[at]), part.kind, tables, static, int(rows[at]))
                    for at in np.flatnonzero(improves).tolist()
                )
        self.upper_bound = bound
        if bound - self.objective <= self._gap * bound:
            return False
        grew = False
        for position, kind, tables, static, row in better:
            grew |= self.add(position, best_filling(kind, self.groups[position].state, tables, static, row))
        return grew


def _duals(rows: Sequence[Any]) -> Floats:
    return np.array([max(0.0, float(row.dual_value())) for row in rows], dtype=np.float64)


def _distinct(host_prices: Floats, parts: Sequence[_Alike], need: Floats) -> tuple[Ints, Floats]:
    """Which price row each host sees, and what CPU and memory cost each class there [rows, classes]."""
    hosts = np.unique(np.concatenate([part.hosts for part in parts]))
    distinct, row = np.unique(host_prices[hosts].round(_PRICE_DIGITS), axis=0, return_inverse=True)
    row_of_host = np.zeros(len(host_prices), dtype=np.int64)
    row_of_host[hosts] = row.reshape(-1)
    return row_of_host, distinct @ need.T


def _worth(part: _Alike, tables: Tables, rows: Ints, price: Floats, static: Ints) -> Floats:
    """What one member of each group can earn under the prices its tables were solved for."""
    found: Floats
    if part.kind == "gpu":
        found = tables.gpu.values[rows, part.states]
    elif part.kind == "node":
        found = tables.node.values[rows, part.states]
    elif part.kind == "whole":
        found = tables.whole.values[rows, part.states]
    else:
        found = np.maximum(0.0, np.where(static >= 0, price[np.arange(len(price)), static], 0.0))[rows]
    return found


def best_filling(kind: GroupKind, state: int, tables: Tables, static: Ints, row: int) -> Filling:
    """The filling that earns the most on one member of a group, under price row ``row``."""
    if kind == "gpu":
        return tables.gpu.filling(state, row)
    if kind == "node":
        return tables.node.filling(state, row)
    if kind == "whole":
        return tables.whole.filling(state, row)
    return ((int(static[row]), 1),) if static[row] >= 0 else ()


def _static_class(part: _Alike, offer: ModelClasses, price: Floats) -> Ints:
    """The dearest class that a fixed instance serves, by price row; -1 where it serves none."""
    members = instance_classes(offer, part.profile) if part.kind == "static" else ()
    if not members:
        return np.full(len(price), -1, dtype=np.int64)
    found = np.array(members, dtype=np.int64)
    winner: Ints = found[price[:, found].argmax(axis=1)]
    return winner


def instance_classes(offer: ModelClasses, profile: str) -> tuple[int, ...]:
    """The classes that an instance of a fixed MIG layout serves."""
    served = {
        index
        for row, placement in enumerate(offer.geometry.placements)
        if placement.profile == profile
        for index in offer.by_placement[row]
    }
    return tuple(sorted(served))
