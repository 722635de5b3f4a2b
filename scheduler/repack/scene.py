"""What the repacker is given: nodes with their holds, pods with what a move of them costs, who waits, prices.

Everything is a value but ``prices`` and ``admitted``, which are looked up when they are needed (a vector over
all nodes for one demand or one set of constraints) and give the same answer throughout one plan.

Money: a move costs ``cold start seconds / 3600 × GPUs × gpu_hour + evictionCost``; a waiting pod that runs
earns ``GPUs × gpu_hour`` an hour; a pod that stands dear saves the difference of its prices. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster.disruption import BudgetKey
from scheduler.demand import Demand
from scheduler.on_demand import Kept
from scheduler.planner.admission import Constraints
from scheduler.repack.holding import Holding
from scheduler.repack.resources import Resources


@dataclass(frozen=True, slots=True)
class Mover:
    """A running GPU pod. ``cost``: money that moving it loses once. ``why_not``: why it may not be moved;
    ``protected``: not even be preempted.

    ``owner``: UID of its controller; ``budgets``: the PodDisruptionBudgets over it; ``linked``: its GPUs must
    be joined by NVLink; ``floored``: its workload has an on-demand floor (``scheduler.on_demand``).
    """

    uid: str
    namespace: str
    name: str
    node: str
    priority: int
    demand: Demand
    resources: Resources
    constraints: Constraints
    cost: float
    owner: str
    budgets: tuple[BudgetKey, ...] = ()
    why_not: str | None = None
    protected: bool = False
    linked: bool = False
    floored: bool = False

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Waiter:
    """A GPU pod that no node can take. ``value_per_hour``: what it earns once it runs; ``preempts``: whether
    it may have pods of lower priority evicted.
    """

    uid: str
    namespace: str
    name: str
    priority: int
    demand: Demand
    resources: Resources
    constraints: Constraints
    value_per_hour: float
    created: str = ""
    linked: bool = False
    preempts: bool = False

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment of the cluster. ``names``: node by row, as in the vectors that ``prices`` (money per hour,
    infinite where the demand does not fit now) and ``admitted`` (whether the node may be used) return.
    ``stay``: the price of a pod where it stands, for those that are looked at for saving money.
    ``interruptible``: nodes that may be taken away; ``kept``: by owner, how its on-demand floor stands.
    """

    names: tuple[str, ...]
    holdings: Mapping[str, Holding]
    free: Mapping[str, Resources]
    movers: Mapping[str, Mover]
    waiters: tuple[Waiter, ...]
    prices: Callable[[Demand], NDArray[np.float64]]
    admitted: Callable[[Constraints], NDArray[np.bool_]]
    allowed: Mapping[BudgetKey, int] = field(default_factory=dict)
    stay: Mapping[str, float] = field(default_factory=dict)
    interruptible: frozenset[str] = frozenset()
    kept: Mapping[str, Kept] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """``evictions``: how many the hourly limit still allows; ``concurrent``: at once; ``horizon_hours``: in
    which a move must pay back; ``preempt``: whether pods of lower priority may be evicted without a new place
    for a pod that asks by resource claim.
    """

    evictions: int
    concurrent: int
    horizon_hours: float
    preempt: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Evict ``pod``; ``target`` has room for its successor now (``wave`` 0), or once the moves of the waves
    before are done; an empty target is preemption, without a new place. ``waiter``: whom it makes room for,
    None when it pays for itself by ``gain_per_hour``.
    """

    pod: Mover
    target: str
    wave: int
    cost: float
    gain_per_hour: float
    why: str
    waiter: Waiter | None = None

    @property
    def source(self) -> str:
        """Where the pod runs now."""
        return self.pod.node


@dataclass(frozen=True, slots=True)
class Relief:
    """The moves after which ``waiter`` fits on ``node``."""

    waiter: Waiter
    node: str
    moves: tuple[Move, ...]

    @property
    def cost(self) -> float:
        """Money that the moves lose once."""
        return sum(move.cost for move in self.moves)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A waiting pod that moving others does not help, and why."""

    waiter: Waiter
    reason: str


@dataclass(frozen=True, slots=True)
class RepackPlan:
    """What to do, in order: ``reliefs`` for waiting pods by priority, then moves that pay for themselves."""

    reliefs: tuple[Relief, ...] = ()
    savings: tuple[Move, ...] = ()
    unmet: tuple[Unmet, ...] = ()

    @property
    def moves(self) -> tuple[Move, ...]:
        """All moves, in an order in which each has its new place before the pod is evicted."""
        return (*(move for relief in self.reliefs for move in relief.moves), *self.savings)
