"""What a plan is asked for and what it answers: waiting pods, nodes and prices in merged form.

Pods that ask for the same on the same terms are one *shape*; nodes that are equal in hardware, state, room
and prices are one *node class* with a count. A *filling* is the sequence of shapes that one node of a class
takes beyond what runs there. The price of a filling is

    Σ other[shape]  +  worth(state before) − worth(state after)
    worth(state) = Σ GPUs worth[mask] + Σ pools free[number of entirely free GPUs]

``worth`` holds the product's tables (dual × V − gradient × hourly price × F, see ``scheduler.scoring``): the
fragmentation term depends on the state alone, so along any sequence it telescopes and a filling has one
price. ``other`` is the sum of the remaining terms for one pod on a node of that class as it stands now
(carbon and links are not re-priced inside a filling).

Priorities are *levels*, 0 the lowest; a plan places as many pods as it can, the highest level first, then
costs least. A gang is placed whole or not at all. A quota caps the GPU equivalents of everything under it;
ResourceQuota acts at admission, so the product passes none today.

Plain values that msgspec sends over a pipe. Units: money per hour; scalars in whatever unit both sides use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dra.nvlink import Topology

WHOLE = -1
MEDIA = 1 << 15
"""Marks a mask on whose GPU this plan has given the one media engine away (grids have at most 12 units)."""
NO_QUOTA = -1

Filling: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A MIG profile by name; ``media``: at most one such instance a GPU."""

    name: str
    media: bool = False


@dataclass(frozen=True, slots=True)
class GpuValue:
    """Money per hour a GPU of one model and hourly price is worth by occupied mask; [0] is that of the empty
    one beside what the pool counts.
    """

    units: int
    worth: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The placements of one GPU as its driver published them: (profile, start, size) in that order."""

    placements: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU position of a node: which table values it, which order cuts it (-1: never cut), which pool of
    free GPUs it counts to, and whether it is offered whole.
    """

    value: int
    order: int
    pool: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Need:
    """What one pod of a shape takes on nodes of one kind: ``steps`` (profile or WHOLE, count) in the order of
    its requests, ``scalars`` (index, amount), ``gpus`` the positions it accepts (bits), ``linked``: whole
    GPUs must be joined by NVLink.
    """

    steps: tuple[tuple[int, int], ...] = ()
    scalars: tuple[tuple[int, int], ...] = ()
    gpus: int = 0xFFFF
    linked: bool = False


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Hardware of a node. ``pools``: worth of F free GPUs, one table a pool; ``best_links``: several whole
    GPUs are given as the best-linked free set, not the first ones; ``needs`` by shape, None where it can
    never run; ``turns``: by profile the GPUs in the order in which first-fit comes to them, where that is not
    by position.
    """

    gpus: tuple[Gpu, ...]
    pools: tuple[tuple[float, ...], ...]
    needs: tuple[Need | None, ...]
    topology: Topology | None = None
    best_links: bool = False
    turns: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeClass:
    """``count`` equal nodes: masks by GPU, free scalars, and ``other``: money per hour by shape, None where
    the shape may not run.
    """

    kind: int
    masks: tuple[int, ...]
    scalars: tuple[int, ...]
    other: tuple[float | None, ...]
    count: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """``count`` equal single pods of one level."""

    shape: int
    level: int
    count: int
    quota: int = NO_QUOTA


@dataclass(frozen=True, slots=True)
class Gang:
    """Pods that run together or not at all: (shape, count) each."""

    members: tuple[tuple[int, int], ...]
    level: int
    quota: int = NO_QUOTA

    @property
    def size(self) -> int:
        """Pods in it."""
        return sum(count for _, count in self.members)


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """Everything a plan follows from. ``gpus``: GPU equivalents of one pod by shape (quotas, order of
    filling); ``quotas``: GPU equivalents left under each.
    """

    profiles: tuple[Profile, ...]
    values: tuple[GpuValue, ...]
    orders: tuple[Order, ...]
    kinds: tuple[NodeKind, ...]
    nodes: tuple[NodeClass, ...]
    gpus: tuple[float, ...]
    wanted: tuple[Wanted, ...]
    gangs: tuple[Gang, ...] = ()
    quotas: tuple[float, ...] = ()

    @property
    def shapes(self) -> int:
        """How many shapes there are."""
        return len(self.gpus)

    @property
    def levels(self) -> int:
        """How many priority levels there are."""
        return 1 + max([e.level for e in self.wanted] + [g.level for g in self.gangs], default=0)

    def demand(self) -> list[int]:
        """Pods asked for by shape, gangs included."""
        total = [0] * self.shapes
        for entry in self.wanted:
            total[entry.shape] += entry.count
        for gang in self.gangs:
            for shape, count in gang.members:
                total[shape] += count
        return total


@dataclass(frozen=True, slots=True)
class Used:
    """``count`` nodes of class ``node`` take ``filling``, in that order, for ``price`` each."""

    node: int
    filling: Filling
    price: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Placing:
    """A plan without its proof: fillings in use, single pods placed by entry of ``wanted``, gangs placed by
    entry of ``gangs``.
    """

    used: tuple[Used, ...]
    singles: tuple[int, ...]
    gangs: tuple[bool, ...]

    @property
    def price(self) -> float:
        """Money per hour of everything placed."""
        return sum(use.price * use.count for use in self.used)

    def placed(self, problem: PlanProblem) -> tuple[int, ...]:
        """Pods placed by level, the highest level first (so that tuples compare lexicographically)."""
        counts = [0] * problem.levels
        for entry, number in zip(problem.wanted, self.singles, strict=True):
            counts[entry.level] += number
        for gang, chosen in zip(problem.gangs, self.gangs, strict=True):
            counts[gang.level] += gang.size * chosen
        return tuple(reversed(counts))


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """The best plan found and how far from the best it can be.

    ``objective`` = Σ placed level weight − price, ``bound`` ≥ the objective of every plan; ``placed_bound``
    and ``price_bound``: the same by level counts (highest first, lexicographic) and for the price at these
    counts (−inf where not proved). ``rounds`` of column generation, ``columns`` made.
    """

    placing: Placing
    objective: float
    bound: float
    placed: tuple[int, ...]
    placed_bound: tuple[int, ...]
    price: float
    price_bound: float
    greedy_objective: float
    greedy_price: float
    greedy_placed: tuple[int, ...]
    rounds: int
    columns: int
    status: str

    @property
    def gap_percent(self) -> float:
        """Distance of the objective to its bound, in percent of the bound."""
        return 100.0 * max(0.0, self.bound - self.objective) / max(abs(self.bound), 1e-9)

    @property
    def price_gap_percent(self) -> float:
        """Distance of the price to its bound, in percent of the price."""
        return 100.0 * max(0.0, self.price - self.price_bound) / max(abs(self.price), 1e-9)


def better(problem: PlanProblem, one: Placing, other: Placing) -> bool:
    """Whether ``one`` places more by priority, or as much for less money."""
    ours, theirs = one.placed(problem), other.placed(problem)
    return ours > theirs or (ours == theirs and one.price < other.price - 1e-9)
