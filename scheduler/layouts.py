"""What each node offers, worked out once and kept until its labels, its allocatable resources or its slices
change. Slices go before labels: a node that publishes any is not asked what its device plugin says. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dra.inventory import from_labels
from dra.resource_api import ResourceSlice
from scheduler.hardware import Hardware
from scheduler.interning import Interner
from scheduler.kept_objects import NodeFact
from scheduler.layout import Layout, layout_of
from scheduler.slice_index import SliceIndex
from scheduler.slice_store import LeanSlice

_Stated = tuple[Mapping[str, str], Mapping[str, str]]


class Layouts:
    """Layouts by node. Slices are put and dropped here, so that none outlives what it was read from."""

    def __init__(self, published: SliceIndex, hardware: Hardware, profiles: Interner[str]) -> None:
        self._published, self._hardware, self._profiles = published, hardware, profiles
        self._kept: dict[str, tuple[_Stated, Layout | None]] = {}

    def get(self, node: str) -> Layout | None:
        """The layout that was last worked out for a node."""
        kept = self._kept.get(node)
        return None if kept is None else kept[1]

    def of(self, node: NodeFact) -> Layout | None:
        """The layout of a node as it is now; None: no GPUs that we know."""
        stated = node.labels, node.allocatable
        kept = self._kept.get(node.name)
        if kept is None or kept[0] != stated:
            kept = self._kept[node.name] = stated, self._read(node)
        return kept[1]

    def forget(self, node: str) -> None:
        """A node is gone."""
        self._kept.pop(node, None)

    def put_slice(self, item: ResourceSlice | LeanSlice) -> set[str]:
        """Take a slice in; answers the nodes it touches."""
        return self._renewed(self._published.put(item))

    def drop_slice(self, name: str) -> set[str]:
        """Forget a slice; answers the nodes it touches."""
        return self._renewed(self._published.drop(name))

    def rename_orders(self, renamed: NDArray[np.integer]) -> None:
        """The ids of published orders are others: ``renamed[old]``."""
        self._kept = {
            name: (
                stated,
                layout and replace(layout, order_ids=tuple(renamed[list(layout.order_ids)].tolist())),
            )
            for name, (stated, layout) in self._kept.items()
        }

    def _renewed(self, nodes: set[str]) -> set[str]:
        for node in nodes:
            self.forget(node)
        return nodes

    def _read(self, node: NodeFact) -> Layout | None:
        inventory = self._published.inventory(node.name, node.labels)
        if inventory is None:
            inventory = from_labels(node.name, node.labels, node.allocatable)
        return None if inventory is None else layout_of(node, inventory, self._hardware, self._profiles)
