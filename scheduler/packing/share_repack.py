"""Which placed pods to move, and where to, so that the free space of shared GPUs is worth more.

A move is judged by the same cost as a placement (``scheduler.packing.share_cost``), in milli-GPU:

    gain = cost of putting the pod back where it is − cost of putting it at the new place

since cost is value destroyed and both places are priced by the same duals. ``improving_moves`` takes the
moves that gain most, each on nodes that no earlier move of the same call has touched, so that gains add up.
``room_for`` finds the fewest moves after which a given pod fits somewhere, and of those the ones that cost
least.

Every move is made to fit at the moment it is carried out, with the pod still at its old place (reservation
first), in the order given. Nothing is ever evicted without a new place. Which pods may be moved at all, how
many and how often is the caller's matter. Memory is respected but not priced. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_destinations import Destinations, Kind, Pricing
from scheduler.packing.shares import MILLI, Floats, Ints

__all__ = ["Kind", "Move", "PlacedPods", "Pricing", "Repacker"]

_MOST_VICTIMS = 3


@dataclass(frozen=True, slots=True)
class Move:
    """``pod`` is the caller's number of it. GPUs are indices on the node."""

    pod: int
    from_row: int
    from_gpus: tuple[int, ...]
    to_row: int
    to_gpus: tuple[int, ...]
    gain_milli: float


@dataclass(frozen=True, slots=True)
class PlacedPods:
    """The pods that may be moved, as columns: the caller's number ``pod`` [p], index ``kind`` [p] into the
    kinds, ``row`` [p], and ``gpus`` bool[p, g], the GPUs it has.
    """

    pod: Ints
    kind: Ints
    row: Ints
    gpus: NDArray[np.bool_]


class Repacker:
    """One search on a copy of the free state; moves found are carried out on the copy at once."""

    def __init__(
        self,
        pricing: Pricing,
        kinds: Sequence[Kind],
        nodes: FreeNodes,
        memory_mib: Ints,
        placed: PlacedPods,
        destinations: Destinations | None = None,
    ) -> None:
        """``destinations``: that of earlier searches with the same ``kinds``, to be quicker."""
        self._pricing, self._kinds, self._placed = pricing, tuple(kinds), placed
        self._model, self._cpu = nodes.model, nodes.cpu.copy()
        self._free, self._memory = nodes.gpu_free.copy(), memory_mib.copy()
        self._destinations = destinations or Destinations(kinds, pricing.prices.models)
        self._destinations.see(pricing, nodes, memory_mib)
        self._allowed = self._destinations.allowed
        self._need_cpu: Ints = np.array([kind.need.cpu_milli for kind in kinds], dtype=np.int64)
        self._need_memory: Ints = np.array([kind.memory_mib for kind in kinds], dtype=np.int64)
        self._milli: Ints = np.array([kind.need.gpu_milli for kind in kinds], dtype=np.int64)
        self._costs: dict[int, tuple[Floats, Ints]] = {}
        self._touched = np.zeros(len(self._model), dtype=np.bool_)
        self._given: Floats | None = None

    def improving_moves(self, most: int, least_gain_milli: float) -> list[Move]:
        """At most ``most`` moves that gain at least ``least_gain_milli`` (of ``cost``) each, best first."""
        given, there = self._gain_of_leaving(), np.full(len(self._placed.pod), np.inf)
        for kind in np.unique(self._placed.kind[given >= least_gain_milli]).tolist():
            pods = np.flatnonzero(self._placed.kind == kind)
            there[pods] = self._cost_elsewhere(kind, self._placed.row[pods])
        gains = given - there
        moves: list[Move] = []
        for pod in np.argsort(-gains, kind="stable").tolist():
            if len(moves) >= most or gains[pod] < least_gain_milli:
                break
            old = int(self._placed.row[pod])
            if self._touched[old]:
                continue
            cost, row = self._cheapest(int(self._placed.kind[pod]), old)
            gain = float(given[pod]) - cost
            if row >= 0 and gain >= least_gain_milli:
                moves.append(self._carry_out(pod, row, gain))
        return moves

    def room_for(self, kind: int, most: int) -> list[Move]:
        """The fewest moves, at most ``most``, after which a pod of ``kind`` fits on some node, at the least
        cost. None if there are no such, or if the pod is smaller than what moves and space would cost.
        """
        given = self._gain_of_leaving()
        lost = np.full(len(self._placed.pod), np.inf)
        for other in np.unique(self._placed.kind).tolist():
            pods = np.flatnonzero(self._placed.kind == other)
            lost[pods] = self._cost_elsewhere(other, self._placed.row[pods]) - given[pods]
        alone = np.flatnonzero(np.isfinite(lost) & self._fits_without(kind, np.arange(len(lost))[:, None]))
        if most < 1:
            return []
        drawn = alone[:, None] if alone.size else self._sets(kind, lost, most)
        if not len(drawn):
            return []
        total = lost[drawn].sum(axis=1) + self._cost_without(kind, drawn)
        best = int(total.argmin())
        earned = self._pricing.dual_weight * self._kinds[kind].need.total_gpu_milli
        return self._moved(tuple(drawn[best].tolist())) if total[best] <= earned else []

    def _cost_without(self, kind: int, victims: Ints) -> Floats:
        """Cost [s] of placing ``kind`` where the pods ``victims`` [s, v] have left."""
        placed, kinds = self._placed, self._placed.kind[victims]
        row = placed.row[victims[:, 0]]
        back = np.where(placed.gpus[victims], self._milli[kinds][:, :, None], 0).sum(axis=1)
        cpu = self._cpu[row] + self._need_cpu[kinds].sum(axis=1)
        nodes = FreeNodes(self._model[row], cpu, self._free[row] + back)
        return self._pricing.cost(nodes, self._kinds[kind].need)[0]

    def _sets(self, kind: int, lost: Floats, most: int) -> Ints:
        """Int [s, v]: the smallest sets, of two pods or more, that would make room: pods of one GPU, or of a
        node for a pod of several GPUs; those that are cheapest to move first.
        """
        need = self._kinds[kind].need
        movable = np.flatnonzero(np.isfinite(lost))
        movable = movable[self._allowed[kind][self._model[self._placed.row[movable]]]]
        at: dict[tuple[int, int], list[int]] = {}
        for pod in movable[np.argsort(lost[movable], kind="stable")].tolist():
            where = int(self._placed.row[pod])
            gpus = [-1] if need.gpus != 1 else np.flatnonzero(self._placed.gpus[pod]).tolist()
            for gpu in gpus:
                at.setdefault((where, gpu), []).append(pod)
        for size in range(2, min(most, _MOST_VICTIMS if need.gpus == 1 else most) + 1):
            sets = np.array([pods[:size] for pods in at.values() if len(pods) >= size], dtype=np.int64)
            if sets.size:
                sets = sets[self._fits_without(kind, sets)]
            if sets.size:
                return sets
        return np.zeros((0, 0), dtype=np.int64)

    def _fits_without(self, kind: int, victims: Ints) -> NDArray[np.bool_]:
        """bool[s]: whether ``kind`` fits on the node of the pods ``victims`` [s, v] once they have left."""
        placed, need = self._placed, self._kinds[kind].need
        row, kinds = placed.row[victims[:, 0]], placed.kind[victims]
        fits: NDArray[np.bool_] = (
            (self._cpu[row] + self._need_cpu[kinds].sum(axis=1) >= need.cpu_milli)
            & (self._memory[row] + self._need_memory[kinds].sum(axis=1) >= self._need_memory[kind])
            & self._allowed[kind][self._model[row]]
        )
        if need.gpus:
            back = np.where(placed.gpus[victims], self._milli[kinds][:, :, None], 0).sum(axis=1)
            fits &= (self._free[row] + back >= need.gpu_milli).sum(axis=1) >= need.gpus
        return fits

    def _moved(self, victims: tuple[int, ...]) -> list[Move]:
        """Carry out moves of one node's pods to elsewhere; none at all if one of them finds no place left."""
        held, moves = int(self._placed.row[victims[0]]), []
        for pod in victims:
            kind = int(self._placed.kind[pod])
            cost, row = self._cheapest(kind, held)
            if row < 0:
                return []
            self._touched[held] = False
            moves.append(self._carry_out(pod, row, -cost))
        return moves

    def _gain_of_leaving(self) -> Floats:
        if self._given is None:
            placed = self._placed
            row = placed.row
            free = self._free[row] + np.where(placed.gpus, self._milli[placed.kind][:, None], 0)
            without = FreeNodes(self._model[row], self._cpu[row] + self._need_cpu[placed.kind], free)
            now = self._pricing.worth(FreeNodes(self._model, self._cpu, self._free))
            self._given = self._pricing.worth(without) - now[row]
        return self._given

    def _cost_of(self, kind: int) -> tuple[Floats, Ints]:
        """Cost [n], infinite where the kind does not fit or a move of this call was, and the GPU of a share
        [n].
        """
        if kind not in self._costs:
            cost, gpus = self._destinations.of(kind)
            cost[self._touched] = np.inf
            self._costs[kind] = (cost, gpus)
        return self._costs[kind]

    def _cheapest(self, kind: int, but: int) -> tuple[float, int]:
        cost, _ = self._cost_of(kind)
        here = cost[but]
        cost[but] = np.inf
        row = int(cost.argmin())
        found = float(cost[row])
        cost[but] = here
        return (found, row) if np.isfinite(found) else (np.inf, -1)

    def _cost_elsewhere(self, kind: int, rows: Ints) -> Floats:
        """Cost [r] of the cheapest place but on each of ``rows``."""
        cost, _ = self._cost_of(kind)
        first = int(cost.argmin())
        best = float(cost[first])
        cost[first] = np.inf
        second = float(cost.min())
        cost[first] = best
        return np.where(rows == first, second, best)

    def _carry_out(self, pod: int, row: int, gain: float) -> Move:
        placed = self._placed
        kind, old = int(placed.kind[pod]), int(placed.row[pod])
        need = self._kinds[kind].need
        before = tuple(np.flatnonzero(placed.gpus[pod]).tolist())
        if self._kinds[kind].shared:
            gpus: tuple[int, ...] = (int(self._costs[kind][1][row]),)
        else:
            gpus = tuple(np.flatnonzero(self._free[row] == MILLI)[: need.gpus].tolist())
        for at, sign, taken in ((row, -1, gpus), (old, 1, before)):
            self._cpu[at] += sign * need.cpu_milli
            self._memory[at] += sign * int(self._need_memory[kind])
            for gpu in taken:
                self._free[at, gpu] += sign * need.gpu_milli
            self._touched[at] = True
        for cost, _ in self._costs.values():
            cost[[row, old]] = np.inf
        return Move(int(placed.pod[pod]), old, before, row, gpus, gain)
