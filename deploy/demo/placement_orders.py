"""In which order the virtual driver publishes a node's MIG placements.

``ByWorth`` is the real driver's way: the tables that the controller writes to ConfigMap
``slicewise-device-order``, by what is occupied now, over all GPUs of the node, and only anew when a pod
would lose enough by what is published (``dra.node_order``); without a table the least-harm order. ``Fixed``
never changes, lowest or highest start first, a slice a GPU: what a driver without knowledge of the demand can
do, to compare with.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ConfigMap
from dra.catalog import GpuModel
from dra.device_order import CONFIG_MAP, KEY, OrderRefused, OrderTable, parse_tables
from dra.inventory import Gpu
from dra.node_order import Run, Runs
from dra.placement import Placement, placements

log = logging.getLogger(__name__)

Direction = Literal["ascending", "descending"]


@dataclass(frozen=True, slots=True)
class Published:
    """The order on one node: ``runs`` over all GPUs, or ``orders`` of each GPU."""

    runs: tuple[Run, ...] | None = None
    orders: tuple[tuple[Placement, ...], ...] | None = None


class PlacementOrder(Protocol):
    """What the virtual driver asks."""

    def of(self, node: str, gpus: Sequence[Gpu], masks: Sequence[int]) -> Published:
        """The order to publish on a node with ``masks`` occupied."""


def order_reflector(api: Api, namespace: str, book: ByWorth) -> Reflector[ConfigMap]:
    """The watch of that one ConfigMap."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return Reflector(api, path, ConfigMap, book, field_selector=f"metadata.name={CONFIG_MAP}")


class Fixed:
    """By start, whatever is occupied."""

    def __init__(self, direction: Direction) -> None:
        self._sign = 1 if direction == "ascending" else -1

    def of(self, node: str, gpus: Sequence[Gpu], masks: Sequence[int]) -> Published:
        return Published(orders=tuple(self._order(gpu.model) for gpu in gpus))

    def _order(self, model: GpuModel) -> tuple[Placement, ...]:
        return tuple(sorted(placements(model), key=lambda p: (p.size, self._sign * p.start)))


class ByWorth:
    """By worth lost; a reflector handler of ConfigMaps."""

    def __init__(self) -> None:
        self._tables: Mapping[str, OrderTable] = {}
        self._runs: defaultdict[str, Runs] = defaultdict(Runs)
        self._lock = threading.Lock()
        self.renewed: Callable[[], None] = lambda: None
        """Called when there are new tables."""

    def of(self, node: str, gpus: Sequence[Gpu], masks: Sequence[int]) -> Published:
        models = {position: gpu.model for position, gpu in enumerate(gpus) if gpu.partitionable}
        with self._lock:
            tables = self._tables
        return Published(runs=tuple(self._runs[node].now(models, dict(enumerate(masks)), tables)))

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
