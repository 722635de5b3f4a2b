"""Resource slices by the node that they are published for, and the node that each pool belongs to. Pure; see
``scheduler.facts``.

The devices are kept in a ``SliceStore``, which is swept when it has doubled: what no slice refers to goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from dra.inventory import NodeInventory
from dra.resource_api import ResourceSlice
from scheduler.slice_store import LeanSlice, SliceFact, SliceStore, lean

_BEFORE_SWEEP = 4096


class SliceIndex:
    """All slices. ``put`` and ``drop`` return the nodes whose hardware may now be another."""

    def __init__(self) -> None:
        self._slices: dict[str, SliceFact] = {}
        self._by_node: dict[str, dict[str, SliceFact]] = {}
        self._node_of_pool: dict[tuple[str, str], str] = {}
        self._store = SliceStore()
        self._sweep_at = _BEFORE_SWEEP

    def names(self) -> set[str]:
        """The names of all slices."""
        return set(self._slices)

    def put(self, item: ResourceSlice | LeanSlice) -> set[str]:
        """Take a slice in."""
        fact = self._store.fact(item if isinstance(item, LeanSlice) else lean(item))
        if self._slices.get(fact.name) == fact:
            return set()
        touched = self.drop(fact.name)
        self._slices[fact.name] = fact
        if fact.node:
            self._by_node.setdefault(fact.node, {})[fact.name] = fact
            self._node_of_pool[(fact.driver, fact.pool.name)] = fact.node
            touched.add(fact.node)
        if len(self._store) > self._sweep_at:
            self._store.forget_unused({known.digest for known in self._slices.values()})
            self._sweep_at = max(_BEFORE_SWEEP, 2 * len(self._store))
        return touched

    def drop(self, name: str) -> set[str]:
        """Forget a slice. Its pool stays known: claims may still point into it."""
        old = self._slices.pop(name, None)
        if old is None or not old.node:
            return set()
        kept = self._by_node[old.node]
        kept.pop(name, None)
        if not kept:
            del self._by_node[old.node]
        return {old.node}

    def inventory(self, node: str, labels: Mapping[str, str]) -> NodeInventory | None:
        """What the slices of a node say that it offers; None without slices, or when they are incomplete."""
        slices = self._by_node.get(node)
        return self._store.inventory(node, list(slices.values()), labels) if slices else None

    def count(self, node: str) -> int:
        """How many slices tell of a node, whichever driver's."""
        return len(self._by_node.get(node, ()))

    def node_of_pool(self, pool: tuple[str, str]) -> str | None:
        """The node of (driver, pool)."""
        return self._node_of_pool.get(pool)
