"""Tells the publisher what became of its slices: the kubelet deletes them when the plugin was away."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dra.driver.publisher import Publisher
from dra.resource_api import ObjectMeta


class SliceMetadata(Struct, frozen=True, gc=False):
    """Of a ResourceSlice its metadata: what it holds we wrote ourselves, and 50 KB a write add up."""

    metadata: ObjectMeta = ObjectMeta()


class OwnSlices:
    """A reflector's handler."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def replaced(self, items: Sequence[SliceMetadata]) -> None:
        """A complete list: each is shown, and those that are missing are shown as deleted."""
        found = {item.metadata.name: item.metadata.resource_version for item in items}
        for name in self._publisher.names() - set(found):
            self._publisher.observed(name, None)
        for name, version in found.items():
            self._publisher.observed(name, version)

    def changed(self, kind: str, item: SliceMetadata) -> None:
        """One change."""
        deleted = kind == "DELETED"
        self._publisher.observed(item.metadata.name, None if deleted else item.metadata.resource_version)
