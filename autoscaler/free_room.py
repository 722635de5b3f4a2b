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
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.placeable import ReplicaShape
from dra.shared_gpus import plus
from scheduler.decider import Decider
from scheduler.demand import Demand, GpuRequest
from scheduler.first_fit import Room
from scheduler.host_needs import UNLIMITED
from scheduler.planner.admission import Constraints
from scheduler.repack.holding import Holding, holding
from scheduler.scoring.nvlink import link_need

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Admitted: TypeAlias = Callable[[Constraints], Flags]
Kept: TypeAlias = dict[int, tuple[int, Holding, Room]]
"""By row: when it last changed, the node without its holds, and what is taken on it."""


@dataclass(frozen=True, slots=True)
class _Need:
    """What decides whether a copy fits on a node that admits it; demands that cost differently may share
    it. ``linked``: its whole GPUs must be joined by NVLink.
    """

    requests: tuple[GpuRequest, ...]
    models: frozenset[str] | None
    linked: bool
    cpu_milli: int
    memory_mib: int


@dataclass(slots=True)
class _Node:
    """A node that copies are put on, with what is taken on it by now."""

    holding: Holding
    room: Room
    cpu_milli: int
    memory_mib: int

    def settle(self, demand: Demand, need: _Need) -> bool:
        """Take room for one copy; say whether there was any."""
        if self.cpu_milli < need.cpu_milli or self.memory_mib < need.memory_mib:
            return False
        taken = self.holding.settle(self.room, demand, linked=need.linked)
        if taken is None:
            return False
        self.room = joined(self.room, taken)
        if self.cpu_milli != UNLIMITED:
            self.cpu_milli -= need.cpu_milli
        if self.memory_mib != UNLIMITED:
            self.memory_mib -= need.memory_mib
        return True


class FreeRoom:
    """See the module docstring. To be made, used and dropped while the fleet's lock is held."""

    def __init__(self, decider: Decider, admitted: Admitted, kept: Kept | None = None) -> None:
        """``admitted``: bool[rows], the nodes that pods of given constraints may use at all. ``kept``: nodes
        as they were read, for the next one to be made: most have not changed by then.
        """
        self._decider, self._admitted = decider, admitted
        self._kept: Kept = {} if kept is None else kept
        self._columns = decider.fleet.view()
        self._policy = decider.world().policy
        self._prices: dict[tuple[Demand, Constraints], Floats] = {}
        self._full: dict[_Need, Flags] = {}
        self._nodes: dict[int, _Node | None] = {}

    def take(self, shape: ReplicaShape, most: int) -> int:
        """See ``placeable.Room``."""
        demand, prices = shape.demand, self._prices_of(shape)
        need = self._need(demand)
        full = self._full.setdefault(need, np.zeros(len(prices), dtype=np.bool_))
        prices[full] = np.inf
        taken = 0
        while taken < most and len(prices):
            row = int(np.argmin(prices))
            if not np.isfinite(prices[row]):
                break
            node = self._node(row)
            while taken < most and node is not None and node.settle(demand, need):
                taken += 1
            if taken < most:
                full[row], prices[row] = True, np.inf
        return taken

    def price(self, shape: ReplicaShape) -> float | None:
        """Money an hour of the next copy on the cheapest node that has room, None where none has."""
        prices = self._prices_of(shape)
        least = float(prices.min()) if len(prices) else float("inf")
        return least if np.isfinite(least) else None

    def _need(self, demand: Demand) -> _Need:
        linked = link_need(demand, self._policy) == "required"
        return _Need(demand.requests, demand.models, linked, demand.cpu_milli, demand.memory_mib)

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
        fleet, changed_at = self._decider.fleet, int(self._columns.changed_at[row])
        layout = fleet.layout(fleet.names[row])
        if layout is None:
            return None
        read = self._kept.get(row)
        if read is None or read[0] != changed_at:
            held = holding(layout.inventory, layout.site, fleet.facts)
            # Who holds what is of no more use once it is added up.
            bare = replace(held, holds=(), bound=frozenset())
            read = self._kept[row] = (changed_at, bare, held.room())
        cpu, memory = int(self._columns.cpu_free[row]), int(self._columns.memory_free[row])
        return _Node(read[1], read[2], cpu, memory)


def joined(room: Room, taken: Room) -> Room:
    """What is taken on a node once ``taken`` has come to what was."""
    static = dict(room.static)
    for profile, count in taken.static:
        static[profile] = static.get(profile, 0) + count
    return Room(
        tuple(was | more for was, more in zip(room.masks, taken.masks, strict=True)),
        tuple(sorted(static.items())),
        room.shared + taken.shared,
        tuple(plus(was, more) for was, more in zip(room.parts, taken.parts, strict=True)),
    )
