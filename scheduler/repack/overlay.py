"""The scene as it will be after the moves decided so far. Mutable within one plan; ``fork`` to try.

Rooms are kept twice: ``now`` has every pod where it is, with successors and waiters already counted on their
new places; ``later`` has the evicted ones gone. A destination must fit in ``now``: a successor may come
before the old pod has left, so no place is counted free that is not. A waiter must fit in ``later``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cluster.disruption import BudgetKey
from scheduler.demand import Demand
from scheduler.first_fit import Room
from scheduler.repack.resources import NOTHING, Resources
from scheduler.repack.scene import Mover, Scene


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
        for key in mover.budgets:
            self.allowed[key] = self.allowed.get(key, 0) - 1
        self._left[mover.node] = self._left.get(mover.node, frozenset()) | {mover.uid}
        self._released[mover.node] = self._released.get(mover.node, NOTHING) + mover.resources
        self.touched.add(mover.node)

    def finished(self, mover: Mover) -> None:
        """Count the pod as gone: what follows happens after its move."""
        self._done[mover.node] = self._done.get(mover.node, frozenset()) | {mover.uid}

    def _free_now(self, node: str) -> Resources:
        movers = self.scene.movers
        free = self.scene.free.get(node, NOTHING) - self._promised.get(node, NOTHING)
        for uid in self._done.get(node, ()):
            free = free + movers[uid].resources
        return free
