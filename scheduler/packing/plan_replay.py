"""What one more pod does to a node: the devices that first-fit will really give, and the money.

The walk is that of ``scheduler.prediction`` for one node: requests in order; a whole GPU is the first
entirely free one (or, where the device plugin looks for links, the best-linked free set); a MIG instance
takes, on the first GPU with room, the first free placement in published order. No backtracking: a pod that
only a search could place counts as not fitting, and is left to the scheduler. Results are kept by state,
since states come again and again. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dra.nvlink import Topology, best_set, set_bandwidth
from scheduler.packing.plan_problem import MEDIA, WHOLE, Filling, Need, NodeKind, PlanProblem

Masks = tuple[int, ...]
_NONE = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """A node of a class after a filling: masks, free scalars, and the price of what was placed."""

    masks: Masks
    scalars: tuple[int, ...]
    price: float


@dataclass(slots=True)
class Replay:
    """First-fit over the kinds of nodes of one problem."""

    problem: PlanProblem
    taken: list[list[npt.NDArray[np.int64]]] = field(init=False)
    _placed: dict[tuple[int, int, Masks], Masks | None] = field(default_factory=dict)
    _worth: dict[tuple[int, Masks], float] = field(default_factory=dict)
    _linked: dict[tuple[int, int, int], tuple[int, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.taken = [self._tables(index) for index in range(len(self.problem.orders))]

    def _tables(self, order: int) -> list[npt.NDArray[np.int64]]:
        """By profile, int64[states]: the units that first-fit takes, 0 where none fits."""
        placements = self.problem.orders[order].placements
        units = max((start + size for _, start, size in placements), default=0)
        masks = np.arange(1 << units, dtype=np.int64)
        tables = []
        for profile in range(len(self.problem.profiles)):
            table = np.zeros(len(masks), dtype=np.int64)
            for own, start, size in reversed(placements):
                if own == profile:
                    bits = ((1 << size) - 1) << start
                    table[masks & bits == 0] = bits
            tables.append(table)
        return tables

    def units_taken(self, order: int, profile: int, mask: int) -> int:
        """Units of the placement that first-fit takes on a GPU, 0 where none fits."""
        if order < 0 or (self.problem.profiles[profile].media and mask & MEDIA):
            return _NONE
        table = self.taken[order][profile]
        plain = mask & ~MEDIA
        return int(table[plain]) if plain < len(table) else _NONE

    def place(self, kind: int, shape: int, masks: Masks) -> Masks | None:
        """The masks after one pod of the shape, None where it does not fit (scalars aside)."""
        key = (kind, shape, masks)
        if key not in self._placed:
            need = self.problem.kinds[kind].needs[shape]
            self._placed[key] = (
                None if need is None else self._walk(self.problem.kinds[kind], kind, need, masks)
            )
        return self._placed[key]

    def worth(self, kind: int, masks: Masks) -> float:
        """What the node's free space is worth, money per hour."""
        key = (kind, masks)
        found = self._worth.get(key)
        if found is None:
            hardware = self.problem.kinds[kind]
            free = [0] * len(hardware.pools)
            found = 0.0
            for gpu, mask in zip(hardware.gpus, masks, strict=True):
                value = self.problem.values[gpu.value]
                found += value.worth[mask & ((1 << value.units) - 1)]
                if mask == 0:
                    free[gpu.pool] += 1
            found += sum(table[count] for table, count in zip(hardware.pools, free, strict=True))
            self._worth[key] = found
        return found

    def start(self, node: int) -> Filled:
        """A node of the class with nothing added."""
        found = self.problem.nodes[node]
        return Filled(found.masks, found.scalars, 0.0)

    def add(self, node: int, filled: Filled, shape: int) -> Filled | None:
        """One more pod; None where it does not fit or may not run."""
        found = self.problem.nodes[node]
        other = found.other[shape]
        if other is None:
            return None
        need = self.problem.kinds[found.kind].needs[shape]
        if need is None:
            return None
        scalars = filled.scalars
        if need.scalars:
            left = list(scalars)
            for index, amount in need.scalars:
                left[index] -= amount
                if left[index] < 0:
                    return None
            scalars = tuple(left)
        masks = self.place(found.kind, shape, filled.masks)
        if masks is None:
            return None
        lost = self.worth(found.kind, filled.masks) - self.worth(found.kind, masks)
        return Filled(masks, scalars, filled.price + lost + other)

    def fill(self, node: int, wanted: Filling) -> tuple[Filling, Filled]:
        """Place the shapes in the order given, leaving out those that do not fit (and, once one did not,
        further ones of its shape).
        """
        filled, kept, full = self.start(node), [], set()
        for shape in wanted:
            if shape in full:
                continue
            after = self.add(node, filled, shape)
            if after is None:
                full.add(shape)
            else:
                filled = after
                kept.append(shape)
        return tuple(kept), filled

    def _walk(self, hardware: NodeKind, kind: int, need: Need, masks: Masks) -> Masks | None:
        after = list(masks)
        for step, count in need.steps:
            if step == WHOLE:
                free = sum(
                    1 << index
                    for index, gpu in enumerate(hardware.gpus)
                    if after[index] == 0 and gpu.whole and need.gpus >> index & 1
                )
                chosen = self._chosen(hardware, kind, need, free, count, alone=len(need.steps) == 1)
                if chosen == 0:
                    return None
                for index, gpu in enumerate(hardware.gpus):
                    if chosen >> index & 1:
                        after[index] = (1 << self.problem.values[gpu.value].units) - 1
                continue
            media = MEDIA if self.problem.profiles[step].media else 0
            positions = (hardware.turns[step] if hardware.turns else ()) or range(len(hardware.gpus))
            for _ in range(count):
                for index in positions:
                    if not need.gpus >> index & 1:
                        continue
                    bits = self.units_taken(hardware.gpus[index].order, step, after[index])
                    if bits:
                        after[index] |= bits | media
                        break
                else:
                    return None
        return tuple(after)

    def _chosen(
        self, hardware: NodeKind, kind: int, need: Need, free: int, count: int, *, alone: bool
    ) -> int:
        """Bits of the whole GPUs that are given, 0 where too few are free or NVLink is missing."""
        if free.bit_count() < count:
            return 0
        topology = hardware.topology
        if topology is None or count < 2:
            return 0 if need.linked and count > 1 else _lowest(free, count)
        best = hardware.best_links and alone
        if not best and not need.linked:
            return _lowest(free, count)
        key = (kind, free, count)
        if key not in self._linked:
            self._linked[key] = _set(topology, free, count, best)
        chosen, linked = self._linked[key]
        return chosen if linked or not need.linked else 0


def _set(topology: Topology, free: int, count: int, best: bool) -> tuple[int, bool]:
    found = best_set(topology, free, count) if best else None
    chosen = _lowest(free, count) if found is None else found
    return chosen, set_bandwidth(topology, chosen) > topology.pcie_gigabytes_per_second * 1.0001


def _lowest(bits: int, count: int) -> int:
    kept = 0
    for _ in range(count):
        low = bits & -bits
        kept |= low
        bits ^= low
    return kept
