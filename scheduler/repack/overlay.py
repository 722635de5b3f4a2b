"""The scene as it will be after the moves decided so far. Mutable within one plan; ``fork`` to try.

Rooms are kept twice: ``now`` has every pod where it is, with successors and waiters already counted on their
new places; ``later`` has the evicted ones gone. A destination must fit in ``now``: a successor may come
before the old pod has left, so no place is counted free that is not. A waiter must fit in ``later``.

On-demand floors (``scheduler.on_demand``): a successor is planned as the scheduler will judge it. Where its
workload would otherwise stand below its floor it may go to lasting nodes only, and where those have no room
the pod is not moved. Successors that are still to come count for no floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cluster.disruption import BudgetKey
from scheduler.demand import Demand
from scheduler.first_fit import Room
from scheduler.repack.resources import NOTHING, Resources
from scheduler.repack.scene import Mover, Scene, Waiter


class Overlay:
    """See the module docstring."""

    def __init__(self, scene: Scene, evictions: int) -> None:
        self.scene = scene
        self.evictions = evictions
        self.moved: set[str] = set()
        # Without a budget, a workload spares half of its pods at once, but at least one.
        size = Counter(mover.owner for mover in scene.movers.values())
        self._spare = {owner: max(1, count // 2) for owner, count in size.items()}
        self.allowed = dict(scene.allowed)
        self._kept = dict(scene.kept)
        self._row = {name: row for row, name in enumerate(scene.names)}
        self._stays = np.array([name not in scene.interruptible for name in scene.names], dtype=np.bool_)
        self.touched: set[str] = set()
        self._added: dict[str, tuple[Room, ...]] = {}
        self._promised: dict[str, Resources] = {}
        self._left: dict[str, frozenset[str]] = {}
        self._released: dict[str, Resources] = {}
        self._done: dict[str, frozenset[str]] = {}

    def fork(self) -> Overlay:
        """An independent copy."""
        copy = Overlay.__new__(Overlay)
        copy.scene, copy.evictions = self.scene, self.evictions
        copy.moved, copy.touched = set(self.moved), set(self.touched)
        copy.allowed, copy._spare = dict(self.allowed), dict(self._spare)
        copy._kept, copy._row, copy._stays = dict(self._kept), self._row, self._stays
        copy._added, copy._promised = dict(self._added), dict(self._promised)
        copy._left, copy._released = dict(self._left), dict(self._released)
        copy._done = dict(self._done)
        return copy

    # --- questions ----------------------------------------------------------------------------------------

    def may_move(self, mover: Mover | None) -> bool:
        """Whether the pod may be evicted at all, by what has been decided so far."""
        if mover is None or mover.why_not is not None or mover.uid in self.moved:
            return False
        if mover.budgets:
            # The Eviction API refuses a pod under several budgets.
            return len(mover.budgets) == 1 and self.allowed.get(mover.budgets[0], 0) > 0
        return self._spare[mover.owner] > 0

    def spared(self, movers: Iterable[Mover]) -> bool:
        """Whether budgets, and workloads without one, can spare all of these at once."""
        budgets: Counter[BudgetKey] = Counter()
        owners: Counter[str] = Counter()
        for mover in movers:
            if mover.budgets:
                budgets.update(mover.budgets)
            else:
                owners[mover.owner] += 1
        return all(count <= self.allowed.get(key, 0) for key, count in budgets.items()) and all(
            count <= self._spare[owner] for owner, count in owners.items()
        )

    def demand(self, pod: Mover | Waiter) -> Demand:
        """What is asked of the pod's next node: for a mover, what its successor will ask for."""
        if isinstance(pod, Waiter) or not pod.floored or pod.owner not in self._kept:
            return pod.demand
        short = self._kept[pod.owner].without(self._lasting(pod)).short
        return replace(pod.demand, on_demand=True) if short else pod.demand

    def usable(self, pod: Mover | Waiter) -> NDArray[np.bool_]:
        """bool[rows]: which nodes may be the pod's next, whether or not they have room."""
        admitted = self.scene.admitted(pod.constraints)
        return admitted & self._stays if self.demand(pod).on_demand else admitted

    def may_use(self, pod: Mover | Waiter, node: str) -> bool:
        """The same of one node."""
        return node in self._row and bool(self.usable(pod)[self._row[node]])

    def keeps_floors(self, movers: Iterable[Mover]) -> bool:
        """Whether all of these could go without a new place, and no workload be short of its floor then."""
        gone: Counter[str] = Counter()
        for mover in movers:
            if mover.floored and self._lasting(mover):
                gone[mover.owner] += 1
        return not any(
            self._kept[owner].without(count).short for owner, count in gone.items() if owner in self._kept
        )

    def place_now(self, node: str, demand: Demand, resources: Resources, *, linked: bool) -> Room | None:
        """The room that a successor would take on the node as it is, None where it does not fit."""
        holding = self.scene.holdings.get(node)
        if holding is None or not self._free_now(node).covers(resources):
            return None
        room = holding.room(self._done.get(node, frozenset()), self._added.get(node, ()))
        return holding.settle(room, demand, linked=linked)

    def place_later(
        self,
        node: str,
        demand: Demand,
        resources: Resources,
        leaving: frozenset[str] = frozenset(),
        *,
        linked: bool,
    ) -> Room | None:
        """The same once everyone evicted, and ``leaving``, has left."""
        holding = self.scene.holdings.get(node)
        if holding is None:
            return None
        movers = self.scene.movers
        known = self._left.get(node, frozenset())
        freed = self._free_now(node) + self._released.get(node, NOTHING)
        for uid in leaving - known:
            freed = freed + movers[uid].resources
        if not freed.covers(resources):
            return None
        return holding.settle(holding.room(known | leaving, self._added.get(node, ())), demand, linked=linked)

    # --- decisions ----------------------------------------------------------------------------------------

    def take(self, node: str, room: Room, resources: Resources) -> None:
        """Count room as taken from now on."""
        self._added[node] = (*self._added.get(node, ()), room)
        self._promised[node] = self._promised.get(node, NOTHING) + resources
        self.touched.add(node)

    def evict(self, mover: Mover) -> None:
        """Count the pod as leaving."""
        self.evictions -= 1
        self.moved.add(mover.uid)
        self._spare[mover.owner] -= 1
        if mover.floored and mover.owner in self._kept:
            self._kept[mover.owner] = self._kept[mover.owner].without(self._lasting(mover))
        for key in mover.budgets:
            self.allowed[key] = self.allowed.get(key, 0) - 1
        self._left[mover.node] = self._left.get(mover.node, frozenset()) | {mover.uid}
        self._released[mover.node] = self._released.get(mover.node, NOTHING) + mover.resources
        self.touched.add(mover.node)

    def finished(self, mover: Mover) -> None:
        """Count the pod as gone: what follows happens after its move."""
        self._done[mover.node] = self._done.get(mover.node, frozenset()) | {mover.uid}

    def _lasting(self, mover: Mover) -> int:
        """1 where the pod stands on a node that nobody takes away, else 0."""
        return int(mover.node not in self.scene.interruptible)

    def _free_now(self, node: str) -> Resources:
        movers = self.scene.movers
        free = self.scene.free.get(node, NOTHING) - self._promised.get(node, NOTHING)
        for uid in self._done.get(node, ()):
            free = free + movers[uid].resources
        return free
