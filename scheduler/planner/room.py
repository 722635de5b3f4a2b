"""Notice when room is given back, so that pods no node could take are planned again at once.

With DRA a pod's devices are free when its ResourceClaim is deallocated or gone, which is later than the pod's
own deletion; new nodes and newly published devices are room too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dra.resource_api import ResourceClaim


class FreedClaims:
    """A reflector's handler for ResourceClaims: calls ``freed`` when an allocation has ended."""

    def __init__(self, freed: Callable[[], None]) -> None:
        self._freed = freed
        self._allocated: set[str] = set()

    def replaced(self, items: Sequence[ResourceClaim]) -> None:
        """A fresh list of claims."""
        before = self._allocated
        self._allocated = {item.metadata.uid for item in items if item.status.allocation is not None}
        if before - self._allocated:
            self._freed()

    def changed(self, kind: str, item: ResourceClaim) -> None:
        """One watch event."""
        uid = item.metadata.uid
        if kind != "DELETED" and item.status.allocation is not None:
            self._allocated.add(uid)
        elif uid in self._allocated:
            self._allocated.discard(uid)
            self._freed()


class NewHardware:
    """A reflector's handler for nodes or ResourceSlices: calls ``came`` when one is added."""

    def __init__(self, came: Callable[[], None]) -> None:
        self._came = came

    def replaced(self, items: Sequence[object]) -> None:
        """A fresh list."""
        if items:
            self._came()

    def changed(self, kind: str, item: object) -> None:
        """One watch event; changes of known objects are no new room."""
        if kind == "ADDED":
            self._came()
