"""How much a node could earn at most under given pod prices, and the filling that would earn it.

The pricing problem of column generation, relaxed so that it can be solved exactly for all node classes at
once (numpy): pods may choose the GPU freely, but on a GPU each MIG instance takes the placement that
first-fit takes there (``plan_replay``), and whole GPUs are counted, not named. Three layers:

    H(mask)   best of one partly used GPU: max(worth[mask], max_p price_p + H(mask | taken_p(mask)))
    T(F)      best of F entirely free GPUs of one pool: leave them free, open one for MIG, or give k away
    whole knapsack  the same by each scalar (CPU, memory, pods), fractional; the smaller of both bounds holds

Everything a real node can do is allowed here, so the value is an upper bound for every filling; the filling
read off the tables is replayed by first-fit and priced as it really turns out. With ``money`` False all
worths and other prices are nil: then it bounds how many pods fit at all. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.packing.plan_lanes import Lanes, lanes_of
from scheduler.packing.plan_problem import MEDIA, PlanProblem
from scheduler.packing.plan_replay import Replay

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_LOW = -1e30
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Earned:
    """float64[classes] ``most``: the most one node of each class can earn (≥ 0), with what is needed to read
    the fillings.
    """

    most: Floats
    profile_shape: Ints
    gpu_choice: list[npt.NDArray[np.int8]]
    first_choice: list[Ints]
    open_choice: Ints
    whole_shape: Ints
    pool_choice: Ints


class Relaxation:
    """The relaxed pricing problem of one plan."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._problem: PlanProblem = replay.problem
        self.lanes: Lanes = lanes_of(replay)
        self._demand = np.array(self._problem.demand(), dtype=np.float64)

    def earn(self, prices: Floats, *, money: bool = True) -> Earned:
        """Solve for pod prices by shape (money per pod)."""
        lanes = self.lanes
        value = np.where(lanes.runs, prices[None, :] - (lanes.other if money else 0.0), _LOW)
        cut, profile_shape = _best_parts(value, lanes.cut_share)
        whole, whole_shape = _best_parts(value, lanes.whole_share)
        most = np.zeros(len(self._problem.nodes))
        gpu_choice, best = [], []
        for table in lanes.tables:
            worth = table.worth if money else np.zeros_like(table.worth)
            found, choice = _cut_gpus(worth[table.value], cut[table.group], table.steps)
            gpu_choice.append(choice)
            best.append(found)
            part = table.partial
            gain = found[part.cell, part.mask] - worth[table.value[part.cell], part.mask]
            np.add.at(most, part.node, gain * part.count)
        opened, open_choice, first_choice = self._open(cut, best, money)
        pool, pool_choice = self._pools(whole, opened, money)
        np.add.at(most, lanes.pool_node, pool)
        most += self._counted(value)
        most = np.minimum(most, self._scalars(value, money))
        most = np.maximum(most, 0.0)
        return Earned(most, profile_shape, gpu_choice, first_choice, open_choice, whole_shape, pool_choice)

    def filling(self, earned: Earned, node: int) -> Counter[int]:
        """The multiset of shapes behind ``earned.most`` of one class, as far as whole pods of it exist."""
        lanes, parts = self.lanes, Counter[tuple[int, int]]()
        group = int(lanes.group[node])
        for table_index, cell, mask, count in lanes.partials[node]:
            taken = self._trace(earned, table_index, cell, mask)
            for profile, number in taken.items():
                parts[profile, int(earned.profile_shape[group, profile])] += number * count
        for pool in lanes.pools_of[node]:
            free = int(lanes.pool_free[pool])
            while free > 0:
                size = int(earned.pool_choice[pool, free])
                if size == 0:
                    break
                if size > 0:
                    shape = int(earned.whole_shape[group, size])
                    parts[-1, shape] += size
                    free -= size
                    continue
                table_index, cell = lanes.pool_opens[pool][int(earned.open_choice[pool])]
                for profile, number in self._trace(earned, table_index, cell, 0, opened=True).items():
                    parts[profile, int(earned.profile_shape[group, profile])] += number
                free -= 1
        kind = self._problem.nodes[node].kind
        found: Counter[int] = Counter()
        for (_, shape), number in parts.items():
            need = self._problem.kinds[kind].needs[shape]
            if need is not None and number:
                found[shape] = max(found[shape], -(-number // max(1, sum(count for _, count in need.steps))))
        for shape in lanes.counted[group]:
            found[shape] = int(self._demand[shape])
        return Counter({shape: min(n, int(self._demand[shape])) for shape, n in found.items() if n > 0})

    def _trace(
        self, earned: Earned, table_index: int, cell: int, mask: int, *, opened: bool = False
    ) -> Counter[int]:
        table, taken = self.lanes.tables[table_index], Counter[int]()
        choice = earned.gpu_choice[table_index]
        profile = int(earned.first_choice[table_index][cell] if opened else choice[cell, mask])
        while profile >= 0:
            bits = int(table.taken[table.order[cell], profile, mask & ~MEDIA])
            if not bits:
                break
            taken[profile] += 1
            mask |= bits
            profile = int(choice[cell, mask])
        return taken

    def _open(self, cut: Floats, best: list[Floats], money: bool) -> tuple[Floats, Ints, list[Ints]]:
        """float64[pools]: what opening one free GPU for MIG earns at most, which of the pool's cells that
        is, and the first profile by cell.
        """
        lanes = self.lanes
        gain = np.full(len(lanes.pool_node), _LOW)
        which = np.zeros(len(lanes.pool_node), dtype=np.int64)
        per_table, profiles = [], []
        for table, found in zip(lanes.tables, best, strict=True):
            first = table.taken[table.order][:, :, 0]
            row = np.arange(len(table.order))[:, None]
            after = np.where(first > 0, cut[table.group] + found[row, first], _LOW)
            start = table.worth[table.value, 0] if money else 0.0
            per_table.append(after.max(axis=1, initial=_LOW) - start)
            none = np.full(len(after), -1, dtype=np.int64)
            profiles.append(after.argmax(axis=1) if after.shape[1] else none)
        for pool, opens in enumerate(lanes.pool_opens):
            for index, (table_index, cell) in enumerate(opens):
                if per_table[table_index][cell] > gain[pool]:
                    gain[pool], which[pool] = per_table[table_index][cell], index
        return gain, which, profiles

    def _pools(self, whole: Floats, opened: Floats, money: bool) -> tuple[Floats, Ints]:
        lanes = self.lanes
        free_worth = lanes.pool_worth if money else np.zeros_like(lanes.pool_worth)
        used_up = lanes.pool_used_up if money else np.zeros_like(lanes.pool_used_up)
        pools, width = free_worth.shape
        best = free_worth.copy()
        choice = np.zeros((pools, width), dtype=np.int64)
        gives = whole[lanes.group[lanes.pool_node]]
        sizes = np.arange(gives.shape[1])
        split = lanes.pool_split
        if split.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                single = np.where(sizes > 0, gives / np.maximum(sizes, 1), _LOW).max(axis=1)
            gives = gives.copy()
            gives[split] = _LOW
            gives[split, 1] = single[split]
        for free in range(1, width):
            for size in range(1, min(free, gives.shape[1] - 1) + 1):
                found = best[:, free - size] + gives[:, size] + size * used_up
                up = found > best[:, free] + _EPSILON
                best[up, free], choice[up, free] = found[up], size
            found = best[:, free - 1] + opened
            up = found > best[:, free] + _EPSILON
            best[up, free], choice[up, free] = found[up], -1
        every = np.arange(pools)
        return best[every, lanes.pool_free] - free_worth[every, lanes.pool_free], choice

    def _counted(self, value: Floats) -> Floats:
        """Fixed MIG instances and shared replicas: shapes that take scalars alone, the best of each
        scalar.
        """
        lanes = self.lanes
        total = np.zeros(len(self._problem.nodes))
        for shape, index, amounts in lanes.counted_by:
            worth = np.maximum(value[lanes.group, shape], 0.0)
            room = lanes.scalars[:, index] / np.maximum(amounts, 1)
            total += np.where(amounts > 0, worth * np.minimum(np.floor(room), self._demand[shape]), 0.0)
        return total

    def _scalars(self, value: Floats, money: bool) -> Floats:
        """The fractional knapsack by each scalar, where it may run out; infinite elsewhere."""
        lanes = self.lanes
        most = np.full(len(self._problem.nodes), np.inf)
        for index, rows in enumerate(lanes.tight):
            if not rows.size:
                continue
            group = lanes.group[rows]
            amount = lanes.amounts[group, :, index]
            worth = np.maximum(value[group], 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = np.where(amount > 0, worth / np.maximum(amount, 1), np.where(worth > 0, np.inf, 0.0))
            order = np.argsort(-rate, axis=1, kind="stable")
            need = np.take_along_axis(amount, order, axis=1) * self._demand[order]
            before = np.cumsum(need, axis=1) - need
            room = np.clip(lanes.scalars[rows, index, None] - before, 0.0, need)
            share = np.where(need > 0, room / np.maximum(need, 1e-12), 1.0)
            gain = np.take_along_axis(worth, order, axis=1) * self._demand[order] * share
            most[rows] = np.minimum(most[rows], gain.sum(axis=1))
        return most + (lanes.slack if money else 0.0)


def _best_parts(value: Floats, share: Floats) -> tuple[Floats, Ints]:
    """float64[groups, parts] the best value of one part over the shapes, and the shape; ``share``: [groups,
    shapes, parts] of a pod's value that one part carries, 0 where it takes no such part.
    """
    worth = np.where(share > 0, value[:, :, None] * share, _LOW)
    if worth.shape[1] == 0:
        return np.full((worth.shape[0], worth.shape[2]), _LOW), np.zeros(worth.shape[::2], dtype=np.int64)
    shape = worth.argmax(axis=1)
    return np.take_along_axis(worth, shape[:, None, :], axis=1)[:, 0, :], shape


def _cut_gpus(
    worth: Floats, cut: Floats, steps: tuple[tuple[Ints, int, Ints], ...]
) -> tuple[Floats, npt.NDArray[np.int8]]:
    """H by cell and mask, fullest masks first, and which profile comes next (-1: none). ``worth`` [cells,
    states] and ``cut`` [cells, profiles] by cell.
    """
    cells, states = worth.shape
    best = np.full((cells, states + 1), _LOW)
    best[:, :states] = worth
    flat = best.reshape(-1)
    choice = np.full((cells, states), -1, dtype=np.int8)
    for masks, profile, after in steps:
        found = flat[after] + cut[:, profile, None]
        here = best[:, masks]
        up = found > here + _EPSILON
        if up.any():
            best[:, masks] = np.where(up, found, here)
            choice[:, masks] = np.where(up, profile, choice[:, masks])
    return best, choice
