"""The start of every plan: pods in queue order, each on the cheapest node, as the prices alone decide.

Levels from the highest down, within a level gangs and singles in the order given; a gang whose members do not
all fit leaves no trace. Equal nodes stay merged until one of them is used. This is the price-only planner of
``scheduler.planner.plan`` in the plan's own terms; ``extend`` continues any plan the same way, so that a plan
never leaves room for a pod that still fits. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduler.packing.plan_problem import NO_QUOTA, Filling, Placing, PlanProblem, Used
from scheduler.packing.plan_replay import Filled, Replay


@dataclass(slots=True)
class _Cell:
    """Nodes of one class in one state: ``count`` untouched ones, or one that has taken a filling."""

    node: int
    filling: Filling
    state: Filled
    count: int


@dataclass(slots=True)
class _Offers:
    """The price of one more pod of a shape on every cell, kept until the cell changes."""

    prices: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


_NEVER = float("inf")


class GreedyPacker:
    """Cells of nodes, filled pod by pod. Ties go to the earlier cell."""

    def __init__(self, replay: Replay, used: Iterable[Used] = ()) -> None:
        self._replay = replay
        problem = replay.problem
        self._problem = problem
        self._left = [node.count for node in problem.nodes]
        self._cells: list[_Cell] = []
        self._quotas = list(problem.quotas)
        for use in used:
            _, state = replay.fill(use.node, use.filling)
            for _ in range(use.count):
                self._cells.append(_Cell(use.node, use.filling, state, 1))
            self._left[use.node] -= use.count
        for index, count in enumerate(self._left):
            if count > 0:
                self._cells.append(_Cell(index, (), replay.start(index), count))
        self._versions = [0] * len(self._cells)
        self._offers = [_Offers() for _ in range(problem.shapes)]

    def charge(self, quota: int, gpus: float) -> bool:
        """Take GPU equivalents off a quota; False where too little is left."""
        if quota == NO_QUOTA:
            return True
        if self._quotas[quota] < gpus - 1e-9:
            return False
        self._quotas[quota] -= gpus
        return True

    def place(self, shape: int) -> bool:
        """Put one pod where it is cheapest; False where it fits nowhere."""
        best, _ = self.cheapest(shape)
        if best < 0:
            return False
        self._put(best, shape)
        return True

    def cheapest(self, shape: int) -> tuple[int, float]:
        """The cell where one more pod is cheapest (-1: none), and its price there."""
        offers = self._offers[shape]
        while len(offers.prices) < len(self._cells):
            offers.prices.append(_NEVER)
            offers.versions.append(-1)
        best, lowest = -1, _NEVER
        versions, prices = self._versions, offers.prices
        for index, seen in enumerate(offers.versions):
            if seen != versions[index]:
                cell = self._cells[index]
                after = self._replay.add(cell.node, cell.state, shape) if cell.count else None
                prices[index] = _NEVER if after is None else after.price - cell.state.price
                offers.versions[index] = versions[index]
            if prices[index] < lowest - 1e-9:
                best, lowest = index, prices[index]
        return best, lowest

    def place_gang(self, members: Iterable[tuple[int, int]]) -> bool:
        """Place all or nothing, the largest pods first."""
        saved = [(cell.filling, cell.state, cell.count) for cell in self._cells]
        order = sorted(members, key=lambda member: (-self._problem.gpus[member[0]], member[0]))
        for shape, count in order:
            for _ in range(count):
                if not self.place(shape):
                    self._restore(saved)
                    return False
        return True

    def used(self) -> tuple[Used, ...]:
        """The fillings in use, equal ones merged."""
        merged: dict[tuple[int, Filling], tuple[float, int]] = {}
        for cell in self._cells:
            if cell.filling and cell.count:
                price, count = merged.get((cell.node, cell.filling), (cell.state.price, 0))
                merged[cell.node, cell.filling] = (price, count + cell.count)
        return tuple(Used(node, filling, *rest) for (node, filling), rest in sorted(merged.items()))

    def _put(self, index: int, shape: int) -> None:
        cell = self._cells[index]
        after = self._replay.add(cell.node, cell.state, shape)
        assert after is not None
        if cell.filling or cell.count == 1:
            cell.filling, cell.state = (*cell.filling, shape), after
        else:
            cell.count -= 1
            self._cells.append(_Cell(cell.node, (shape,), after, 1))
            self._versions.append(0)
        self._versions[index] += 1

    def _restore(self, saved: list[tuple[Filling, Filled, int]]) -> None:
        for index, cell in enumerate(self._cells):
            if index < len(saved):
                cell.filling, cell.state, cell.count = saved[index]
            else:
                cell.count = 0
            self._versions[index] += 1


def greedy(replay: Replay) -> tuple[Placing, list[float]]:
    """Plan by price alone; also what one more pod of each shape would cost then (infinite: no room)."""
    packer, placing = _extended(replay, None)
    return placing, [packer.cheapest(shape)[1] for shape in range(replay.problem.shapes)]


def extend(replay: Replay, start: Placing) -> Placing:
    """Place what ``start`` leaves waiting, by price; nothing that is placed moves."""
    return _extended(replay, start)[1]


def _extended(replay: Replay, start: Placing | None) -> tuple[GreedyPacker, Placing]:
    problem = replay.problem
    packer = GreedyPacker(replay, start.used if start is not None else ())
    singles = list(start.singles) if start is not None else [0] * len(problem.wanted)
    gangs = list(start.gangs) if start is not None else [False] * len(problem.gangs)
    for entry, number in zip(problem.wanted, singles, strict=True):
        packer.charge(entry.quota, number * problem.gpus[entry.shape])
    for gang, chosen in zip(problem.gangs, gangs, strict=True):
        if chosen:
            packer.charge(gang.quota, gang_gpus(problem, gang.members))
    for level in reversed(range(problem.levels)):
        _gangs(packer, problem, level, gangs)
        _singles(packer, problem, level, singles)
    return packer, Placing(packer.used(), tuple(singles), tuple(gangs))


def gang_gpus(problem: PlanProblem, members: Iterable[tuple[int, int]]) -> float:
    """GPU equivalents of a gang."""
    return sum(problem.gpus[shape] * count for shape, count in members)


def _gangs(packer: GreedyPacker, problem: PlanProblem, level: int, chosen: list[bool]) -> None:
    for index, gang in enumerate(problem.gangs):
        if gang.level != level or chosen[index]:
            continue
        gpus = gang_gpus(problem, gang.members)
        if packer.charge(gang.quota, gpus):
            chosen[index] = packer.place_gang(gang.members)
            if not chosen[index]:
                packer.charge(gang.quota, -gpus)


def _singles(packer: GreedyPacker, problem: PlanProblem, level: int, placed: list[int]) -> None:
    for index, entry in enumerate(problem.wanted):
        if entry.level != level:
            continue
        while placed[index] < entry.count and packer.charge(entry.quota, problem.gpus[entry.shape]):
            if not packer.place(entry.shape):
                packer.charge(entry.quota, -problem.gpus[entry.shape])
                break
            placed[index] += 1
