"""The room that the live fleet has for copies of a pod, handed out copy by copy.

The scheduler's own answers throughout: which nodes admit the pod (``planner.admission``), which of them can
take it now and at what price (the decider's vectors: refusals, NVLink, carbon class, CPU and memory, room
held for others), and where the node's allocator puts each further copy (``repack.holding``: first-fit with
the allocator's backtracking, so a MIG geometry fills here as it will there). The cheapest node is filled
first, then the next: how many copies fit in all does not depend on the order, what is left for others does.

Reads under the fleet's lock and writes nothing: what is taken is remembered here alone. Pods whose place
depends on other pods (affinity, spread) are not counted; nor are volumes, ports and quotas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.placeable import ReplicaShape
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.first_fit import Room
from scheduler.host_needs import UNLIMITED
from scheduler.planner.admission import Constraints
from scheduler.repack.holding import Holding, holding
from scheduler.scoring.nvlink import link_need

Floats: TypeAlias = NDArray[np.float64]
Admitted: TypeAlias = Callable[[Constraints], NDArray[np.bool_]]


@dataclass(slots=True)
class _Node:
    """A node that copies were put on: who holds what, what was added, CPU and memory left."""

    holding: Holding
    cpu_milli: int
    memory_mib: int
    added: list[Room] = field(default_factory=list)

    def settle(self, demand: Demand, *, linked: bool) -> bool:
        """Take room for one copy; say whether there was any."""
        if self.cpu_milli < demand.cpu_milli or self.memory_mib < demand.memory_mib:
            return False
        taken = self.holding.settle(self.holding.room(added=self.added), demand, linked=linked)
        if taken is None:
            return False
        self.added.append(taken)
        if self.cpu_milli != UNLIMITED:
            self.cpu_milli -= demand.cpu_milli
        if self.memory_mib != UNLIMITED:
            self.memory_mib -= demand.memory_mib
        return True


class FreeRoom:
    """See the module docstring. To be made, used and dropped while the fleet's lock is held."""

    def __init__(self, decider: Decider, admitted: Admitted) -> None:
        """``admitted``: bool[rows], the nodes that pods of given constraints may use at all."""
        self._decider, self._admitted = decider, admitted
        self._columns = decider.fleet.view()
        self._policy = decider.world().policy
        self._prices: dict[tuple[Demand, Constraints], Floats] = {}
        self._nodes: dict[int, _Node | None] = {}

    def take(self, shape: ReplicaShape, most: int) -> int:
        """See ``placeable.Room``."""
        prices = self._prices_of(shape)
        linked = link_need(shape.demand, self._policy) == "required"
        taken = 0
        while taken < most and len(prices):
            row = int(np.argmin(prices))
            if not np.isfinite(prices[row]):
                break
            node = self._node(row)
            while taken < most and node is not None and node.settle(shape.demand, linked=linked):
                taken += 1
            if taken < most:
                prices[row] = np.inf  # full for this shape, for the rest of the round
        return taken

    def _prices_of(self, shape: ReplicaShape) -> Floats:
        key = (shape.demand, shape.constraints)
        if key not in self._prices:
            prices = self._decider.prices(shape.demand)
            self._prices[key] = np.where(self._admitted(shape.constraints)[: len(prices)], prices, np.inf)
        return self._prices[key]

    def _node(self, row: int) -> _Node | None:
        if row not in self._nodes:
            self._nodes[row] = self._read(row)
        return self._nodes[row]

    def _read(self, row: int) -> _Node | None:
        fleet = self._decider.fleet
        layout = fleet.layout(fleet.names[row])
        if layout is None:
            return None
        held = holding(layout.inventory, layout.site, fleet.facts)
        return _Node(held, int(self._columns.cpu_free[row]), int(self._columns.memory_free[row]))
