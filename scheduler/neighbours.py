"""Who stands beside a newcomer on each node, by interference class, as ids that prices can be looked up by.

A company is what shares something: (class, amount) pairs. Three are kept a node:

- replicas of its shared GPUs (time-slicing, MPS), amounts in replicas: nobody says which GPU a replica is on;
- all that holds GPUs on the node, amounts in GPU equivalents;
- the same by PCIe root, for each GPU that of its root. Where nobody names the roots, the whole node counts as
  one: an unknown node must not look the quieter for it.

Companies repeat over nodes, so the columns hold ids of interned companies, and what a class loses beside one
is looked up (``scheduler.scoring.interference``). Nothing is kept while no rule asks for it (``watched``).
Pods that state no class are kept as such (""); what that means is the policy's to say. Pure; its owner locks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dra.inventory import NodeInventory
from scheduler.columns import Columns
from scheduler.facts import Facts
from scheduler.first_fit import Room
from scheduler.interning import Interner
from scheduler.layout import Layout
from scheduler.occupancy import Holding, Occupied, occupied

NOBODY = 0
UNSTATED = ""
_COMPANIES_BEFORE_SWEEP = 65536
_MILLI = 1000

Company: TypeAlias = tuple[tuple[str, int], ...]
"""(class, amount in 1/1000) in class order."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The companies of one node; ``by_gpu``: that of each GPU's PCIe root."""

    shared: Company = ()
    node: Company = ()
    by_gpu: tuple[Company, ...] = ()


ALONE = Neighbours()
_NO_ROOM_TAKEN = Occupied(Room(()), Room(()))


def neighbours(inventory: NodeInventory, holdings: Iterable[Holding], shared_gpus: int) -> Neighbours:
    """Add up who holds what on a node. ``shared_gpus``: how many GPUs its shared replicas stand for."""
    roots = [gpu.pcie_root for gpu in inventory.gpus]
    units = [gpu.model.units for gpu in inventory.gpus]
    shared: Counter[str] = Counter()
    node: Counter[str] = Counter()
    by_root: dict[str, Counter[str]] = {root: Counter() for root in roots}
    for held in holdings:
        name = held.interference or UNSTATED
        for gpu, bits in enumerate(held.masks):
            if bits:
                amount = bits.bit_count() * _MILLI // units[gpu]
                node[name] += amount
                by_root[roots[gpu]][name] += amount
        for profile, count in held.static:
            node[name] += _instance_milli(inventory, profile) * count
        if held.shared:
            shared[name] += held.shared * _MILLI
            node[name] += held.shared * shared_gpus * _MILLI // max(1, inventory.shared_replicas)
    # Those without a GPU index (fixed instances, replicas) may hang from any root.
    companies = {root: _company(counts) for root, counts in by_root.items()}
    return Neighbours(_company(shared), _company(node), tuple(companies[root] for root in roots))


class Companies:
    """The companies of the fleet by id, and the classes in them. ``renewed`` counts changes of the ids."""

    def __init__(self) -> None:
        self.interned: Interner[Company] = Interner([()])
        self.classes: set[str] = set()
        self.watched = False
        self.renewed = 0
        self._sweep_at = _COMPANIES_BEFORE_SWEEP

    def room(
        self, layout: Layout | None, facts: Facts, without: str | None = None
    ) -> tuple[Occupied, Neighbours]:
        """What is taken on a node, and by whom while somebody asks; ``without`` leaves one pod out (UID)."""
        if layout is None:
            return _NO_ROOM_TAKEN, ALONE
        if not self.watched:
            return occupied(layout.inventory, layout.site, facts, without), ALONE
        held: list[Holding] = []
        room = occupied(layout.inventory, layout.site, facts, without, held)
        return room, neighbours(layout.inventory, held, layout.shared_gpus)

    def write(self, columns: Columns, row: int, found: Neighbours) -> None:
        """Write one node's companies into its row."""
        columns.shared_company[row] = self._id(found.shared)
        columns.node_company[row] = self._id(found.node)
        columns.root_company[row] = NOBODY
        if found.by_gpu:
            columns.root_company[row, : len(found.by_gpu)] = [self._id(company) for company in found.by_gpu]

    def sweep(self, columns: Columns) -> bool:
        """Forget the companies that no row has any more, once there are many; return whether ids changed."""
        if len(self.interned) <= self._sweep_at:
            return False
        parts = (columns.shared_company, columns.node_company, columns.root_company)
        live = np.unique(np.concatenate([part.ravel() for part in parts]))
        renamed = self.interned.keep({NOBODY, *live.tolist()})
        for part in parts:
            part[:] = renamed[part]
        self._sweep_at = max(_COMPANIES_BEFORE_SWEEP, 2 * len(self.interned))
        self.renewed += 1
        return True

    def _id(self, company: Company) -> int:
        known = len(self.interned)
        found = self.interned.id(company)
        if found == known:
            self.classes.update(name for name, _ in company)
        return found


def _company(counts: Mapping[str, int]) -> Company:
    return tuple(sorted((name, amount) for name, amount in counts.items() if amount > 0))


def _instance_milli(inventory: NodeInventory, profile: str) -> int:
    model = inventory.static_model
    if model is None:
        return 0
    spec = model.profile(profile)
    return (1 if spec is None else spec.size) * _MILLI // model.units
