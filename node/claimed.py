"""Which units of this node's GPUs are allocated, told by a watch of ResourceClaims before the kubelet asks.

Free counters are stored nowhere (KEP-4815): what claims' allocations name is what is taken. Keeps the devices
of this pool's claims only, a few strings each. A ``Reflector`` is the source.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dra.driver.hardware import Hardware
from dra.resource_api import ResourceClaim
from dra.slice_parts import SLICEWISE_DRIVER


class Claimed:
    """A reflector's handler. ``changed`` is called when the devices taken on this node changed."""

    def __init__(self, pool: str, changed: Callable[[], None]) -> None:
        self._pool = pool
        self._changed = changed
        self._lock = threading.Lock()
        self._devices: dict[str, tuple[str, ...]] = {}

    def replaced(self, items: Sequence[ResourceClaim]) -> None:
        """Take the claims as the complete state."""
        found = {claim.metadata.uid: names for claim in items if (names := self._names(claim))}
        with self._lock:
            same, self._devices = found == self._devices, found
        if not same:
            self._changed()

    def changed(self, kind: str, item: ResourceClaim) -> None:
        """Take one change."""
        names = () if kind == "DELETED" else self._names(item)
        with self._lock:
            if self._devices.get(item.metadata.uid, ()) == names:
                return
            if names:
                self._devices[item.metadata.uid] = names
            else:
                self._devices.pop(item.metadata.uid, None)
        self._changed()

    def masks(self, node: Hardware) -> dict[str, int]:
        """Units taken, by GPU UUID; a whole or shared GPU counts as all of its units."""
        masks: dict[str, int] = {}
        for name in self.names():
            target = node.targets.get(name)
            if target is not None:
                bits = target.placement.bits if target.placement is not None else target.gpu.full_mask
                masks[target.gpu.card.uuid] = masks.get(target.gpu.card.uuid, 0) | bits
        return masks

    def names(self) -> set[str]:
        """The devices that are allocated now."""
        with self._lock:
            return {name for names in self._devices.values() for name in names}

    def _names(self, claim: ResourceClaim) -> tuple[str, ...]:
        allocation = claim.status.allocation
        return tuple(
            result.device
            for result in (allocation.devices.results if allocation is not None else ())
            if result.driver == SLICEWISE_DRIVER and result.pool == self._pool and not result.admin_access
        )
