"""In which order the virtual driver publishes a GPU's MIG placements.

``ByWorth`` is the real driver's way: the tables that the controller writes to ConfigMap
``slicewise-device-order``, by what is occupied now (``dra.device_order``); without a table the least-harm
order. ``Fixed`` never changes, lowest or highest start first: what a driver without knowledge of the demand
can do, to compare with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ConfigMap
from dra.catalog import GpuModel
from dra.device_order import (
    CONFIG_MAP,
    KEY,
    OrderRefused,
    OrderTable,
    device_order,
    order_holds,
    parse_tables,
)
from dra.placement import Placement, placements

log = logging.getLogger(__name__)

Direction = Literal["ascending", "descending"]


class PlacementOrder(Protocol):
    """What the virtual driver asks."""

    def order(self, model: GpuModel, mask: int) -> tuple[Placement, ...]:
        """All placements of a GPU with ``mask`` occupied, to be published."""

    def holds(self, model: GpuModel, mask: int, published: Sequence[Placement]) -> bool:
        """Whether what is published still gives every pod what the order of now would."""


def order_reflector(api: Api, namespace: str, book: ByWorth) -> Reflector[ConfigMap]:
    """The watch of that one ConfigMap."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return Reflector(api, path, ConfigMap, book, field_selector=f"metadata.name={CONFIG_MAP}")


class Fixed:
    """By start, whatever is occupied."""

    def __init__(self, direction: Direction) -> None:
        self._sign = 1 if direction == "ascending" else -1

    def order(self, model: GpuModel, mask: int) -> tuple[Placement, ...]:
        return tuple(sorted(placements(model), key=lambda p: (p.size, self._sign * p.start)))

    def holds(self, model: GpuModel, mask: int, published: Sequence[Placement]) -> bool:
        return True


class ByWorth:
    """By worth lost; a reflector handler of ConfigMaps."""

    def __init__(self) -> None:
        self._tables: Mapping[str, OrderTable] = {}
        self._lock = threading.Lock()
        self.renewed: Callable[[], None] = lambda: None
        """Called when there are new tables."""

    def order(self, model: GpuModel, mask: int) -> tuple[Placement, ...]:
        return device_order(model, mask, self._table(model))

    def holds(self, model: GpuModel, mask: int, published: Sequence[Placement]) -> bool:
        return order_holds(model, mask, published, self._table(model))

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        for item in items:
            self.changed("ADDED", item)

    def changed(self, kind: str, item: ConfigMap) -> None:
        if item.metadata.name != CONFIG_MAP or kind == "DELETED":
            return
        try:
            tables = parse_tables(item.data.get(KEY, ""))
        except OrderRefused as problem:
            log.warning("%s; the order stays as it is", problem)
            return
        with self._lock:
            self._tables = tables
        self.renewed()

    def _table(self, model: GpuModel) -> OrderTable | None:
        with self._lock:
            return self._tables.get(model.name)
