"""A DRA driver without hardware: publishes the demo's ResourceSlices and follows what is allocated.

One instance drives all nodes of one side. On the Slicewise side it does what the node's driver does on real
hardware: whenever a claim is allocated or released on a node, or the order it is told changes, the slices
whose order no longer holds are published anew (``placement_orders``), one patch each, no generation bump;
those whose order holds are left alone. Every patch makes
kube-scheduler look at all pods that wait. On the plain side slices are published once, in the order of
NVIDIA's driver. It also knows, on both sides, which units are occupied, for the measurements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deploy.demo.fleet import DemoNode
from deploy.demo.placement_orders import ByWorth, PlacementOrder, Published
from deploy.demo.publishing import Side, device_classes, hardware, published, slices
from deploy.local.rest import MERGE_PATCH, Connection, RequestRefused
from dra.inventory import DeviceRef, NodeInventory
from dra.resource_api import ResourceClaim

_SLICES = "/apis/resource.k8s.io/v1/resourceslices"
_CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Held:
    """A device that an allocated claim holds, and the pods it is reserved for (namespace, name)."""

    node: str
    ref: DeviceRef
    pods: tuple[tuple[str, str], ...]


class VirtualDriver:
    """Publish with ``publish``, then give it to a Reflector of ResourceClaims as handler and call
    ``start``.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        nodes: Sequence[DemoNode],
        side: Side,
        weights: Mapping[str, float],
        order: PlacementOrder | None = None,
    ) -> None:
        """``order``: of the placements on the Slicewise side, ``ByWorth`` without tables where not given."""
        self._connect = connect
        self._order = order or ByWorth()
        if isinstance(self._order, ByWorth):
            self._order.renewed = self._look_again
        self._nodes = {node.name: node for node in nodes}
        self._side: Side = side
        self._weights = dict(weights)
        self._hardware = {node.name: hardware(node, side, weights) for node in nodes}
        self._inventories: dict[str, NodeInventory] = {}
        self._documents: dict[str, list[dict[str, Any]]] = {}
        self._orders: dict[str, Published] = {}
        self._claims: dict[str, tuple[Held, ...]] = {}
        self._masks: dict[str, tuple[int, ...]] = {}
        self._whole_sets: dict[tuple[str, str], tuple[str, int]] = {}
        self._dirty: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._republish, name="virtual-driver", daemon=True)
        self.republished = 0
        self.problems: list[str] = []

    @property
    def inventories(self) -> Mapping[str, NodeInventory]:
        return self._inventories

    def publish(self) -> int:
        """Create the DeviceClasses and all slices. Returns the number of slices; raises RequestRefused."""
        with self._connect() as connection:
            for document in device_classes(tuple(self._nodes.values()), self._side):
                connection.request("POST", _CLASSES, document)
        for name, node in self._nodes.items():
            inventory = self._hardware[name]
            nothing = [0] * len(inventory.gpus)
            self._orders[name] = self._order.of(name, inventory.gpus, nothing)
            documents = slices(inventory, nothing, self._weights, self._side, self._orders[name])
            self._documents[name] = documents
            self._inventories[name] = published(node, documents)
            self._masks[name] = (0,) * len(inventory.gpus)
        every = [document for documents in self._documents.values() for document in documents]
        parts = [every[i::_CONNECTIONS] for i in range(_CONNECTIONS)]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(self._create, parts))
        return len(every)

    def start(self) -> None:
        """Begin to re-publish (the Slicewise side only)."""
        if self._side == "slicewise":
            self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def masks(self) -> dict[str, tuple[int, ...]]:
        """Occupied units of every GPU, by node."""
        with self._changed:
            return dict(self._masks)

    def held(self) -> list[Held]:
        """All devices that are held now."""
        with self._changed:
            return [device for devices in self._claims.values() for device in devices]

    def whole_sets(self) -> dict[tuple[str, str], tuple[str, int]]:
        """For every pod that ever held whole GPUs: its node, and their driver indices as bits."""
        with self._changed:
            return dict(self._whole_sets)

    def replaced(self, items: Sequence[ResourceClaim]) -> None:
        with self._changed:
            gone = set(self._claims) - {claim.metadata.uid for claim in items}
            touched = {device.node for uid in gone for device in self._claims.pop(uid)}
            for claim in items:
                touched |= self._take(claim)
            self._recount(touched)

    def changed(self, kind: str, item: ResourceClaim) -> None:
        with self._changed:
            if kind == "DELETED":
                touched = {device.node for device in self._claims.pop(item.metadata.uid, ())}
            else:
                touched = self._take(item)
            self._recount(touched)

    def _take(self, claim: ResourceClaim) -> set[str]:
        before = self._claims.get(claim.metadata.uid, ())
        now = self._devices(claim)
        self._claims[claim.metadata.uid] = now
        return set() if before == now else {device.node for device in (*before, *now)}

    def _devices(self, claim: ResourceClaim) -> tuple[Held, ...]:
        if claim.status.allocation is None:
            return ()
        pods = tuple((claim.metadata.namespace, owner.name) for owner in claim.status.reserved_for)
        found = []
        for result in claim.status.allocation.devices.results:
            inventory = self._inventories.get(result.pool)
            ref = inventory.devices.get(result.device) if inventory is not None else None
            if ref is not None:
                found.append(Held(result.pool, ref, pods))
                if ref.placement is None and inventory is not None:
                    for pod in pods:
                        before = self._whole_sets.get(pod, (result.pool, 0))[1]
                        index = inventory.gpus[ref.gpu].index
                        self._whole_sets[pod] = (result.pool, before | 1 << index)
        return tuple(found)

    def _recount(self, touched: set[str]) -> None:
        for name in touched:
            inventory = self._inventories[name]
            masks = [0] * len(inventory.gpus)
            for devices in self._claims.values():
                for device in devices:
                    if device.node == name:
                        whole = device.ref.placement is None
                        bits = inventory.whole_mask(device.ref.gpu) if whole else 0
                        masks[device.ref.gpu] |= bits or (
                            device.ref.placement.bits if device.ref.placement else 0
                        )
            if tuple(masks) != self._masks.get(name):
                self._masks[name] = tuple(masks)
                self._dirty.add(name)
        if self._dirty:
            self._changed.notify_all()

    def _look_again(self) -> None:
        """The order has changed: every node may have to be published anew."""
        with self._changed:
            self._dirty |= set(self._documents)
            self._changed.notify_all()

    def _create(self, documents: Sequence[dict[str, Any]]) -> None:
        with self._connect() as connection:
            for document in documents:
                connection.request("POST", _SLICES, document)

    def _republish(self) -> None:
        with self._connect() as connection:
            while True:
                with self._changed:
                    while not self._dirty and not self._stopping:
                        self._changed.wait()
                    if self._stopping:
                        return
                    work = [(name, self._masks[name]) for name in sorted(self._dirty)]
                    self._dirty.clear()
                for name, masks in work:
                    self._renew(connection, name, masks)

    def _renew(self, connection: Connection, name: str, masks: Sequence[int]) -> None:
        inventory = self._hardware[name]
        order = self._order.of(name, inventory.gpus, masks)
        if order == self._orders[name]:
            return
        renewed = slices(inventory, masks, self._weights, self._side, order)
        documents = self._documents[name]
        for index, (old, new) in enumerate(zip(documents, renewed, strict=True)):
            if old["spec"].get("devices") == new["spec"].get("devices"):
                continue
            try:
                path = f"{_SLICES}/{new['metadata']['name']}"
                connection.request("PATCH", path, {"spec": {"devices": new["spec"]["devices"]}}, MERGE_PATCH)
                self.republished += 1
                documents[index] = new
            except (RequestRefused, OSError) as problem:
                # What is published now is not known: the next change of this node publishes it again.
                self.problems.append(f"node {name}: {problem}")
                documents[index] = {**old, "spec": {**old["spec"], "devices": None}}
                self._orders[name] = Published()
                return
        self._orders[name] = order
