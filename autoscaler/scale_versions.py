"""The scales of one kind whose objects alone do not tell their count, each read once a version.

Where a custom resource keeps its replicas and its selector is written in its CRD, so only ``/scale`` can be
asked. But that answer stands for as long as the object does not change, and a watch of the kind's metadata
(``PartialObjectMetadata``, a few hundred bytes an object) says when that is. What does not change costs no
request; what changes costs one, and our own writes none, since their answer is the new scale.

A handler for the reflector of its kind. Decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec

from autoscaler.replicas_writers import ReplicasWriter, ScalableMetadata, writers_of
from autoscaler.targets import ScaleSight, Target, TargetRefused

Read: TypeAlias = Callable[[Target], ScaleSight]


class ObjectVersion(msgspec.Struct, frozen=True, gc=False):
    """The metadata of any object."""

    metadata: ScalableMetadata = ScalableMetadata()


@dataclass(frozen=True, slots=True)
class _Known:
    """What ``/scale`` said of the object at ``version``."""

    version: str
    sight: ScaleSight | TargetRefused


class ScaleVersions:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[tuple[str, str], ScalableMetadata] = {}
        self._known: dict[tuple[str, str], _Known] = {}

    def read(self, target: Target, read: Read) -> ScaleSight:
        """The scale of ``target``, asked with ``read`` where what is known is of an older version. Raises
        what ``read`` raises; TargetRefused for what the watch does not show.
        """
        key = target.namespace, target.name
        shown = self._objects.get(key)
        if shown is None:
            raise TargetRefused("not_found", f"{target}: does not exist; create it or delete its policy")
        known = self._known.get(key)
        if known is None or not as_new(known.version, shown.resource_version):
            known = self._ask(target, shown.resource_version, read)
        if isinstance(known.sight, TargetRefused):
            raise known.sight
        return known.sight

    def wrote(self, sight: ScaleSight, replicas: int, version: str) -> None:
        """Take note of a write: the count and the version that its answer told ("": none; ask again)."""
        if version:
            now = replace(sight, replicas=replicas, resource_version=version)
            self._keep(sight.target, _Known(version, now))
        else:
            with self._lock:
                self._known.pop((sight.target.namespace, sight.target.name), None)

    def writers(self, target: Target) -> tuple[ReplicasWriter, ...] | None:
        """Who owns the count that was last read; None while the watch is behind that."""
        key = target.namespace, target.name
        shown, known = self._objects.get(key), self._known.get(key)
        if shown is None or known is None or not as_new(shown.resource_version, known.version):
            return None
        return writers_of(shown)

    def replaced(self, items: Sequence[ObjectVersion]) -> None:
        """A complete list."""
        objects = {(one.metadata.namespace, one.metadata.name): one.metadata for one in items}
        with self._lock:
            self._objects = objects
            self._known = {key: known for key, known in self._known.items() if key in objects}

    def changed(self, kind: str, item: ObjectVersion) -> None:
        """One change."""
        key = item.metadata.namespace, item.metadata.name
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(key, None)
                self._known.pop(key, None)
            else:
                self._objects[key] = item.metadata

    def _ask(self, target: Target, shown: str, read: Read) -> _Known:
        try:
            sight = read(target)
            known = _Known(sight.resource_version or shown, sight)
        except TargetRefused as refused:
            if refused.cause != "not_scalable":  # rights may come, and what is gone the watch will tell
                raise
            known = _Known(shown, refused)
        return self._keep(target, known)

    def _keep(self, target: Target, known: _Known) -> _Known:
        """Keep what is newer: answers may overtake one another. Returns what is kept."""
        key = target.namespace, target.name
        with self._lock:
            before = self._known.get(key)
            if before is None or before.version == known.version or not as_new(before.version, known.version):
                self._known[key] = known
            return self._known[key]


def as_new(version: str, other: str) -> bool:
    """Whether a version is at least as new as another of the same object: by number (KEP-5504), else only
    the same one is.
    """
    if version.isdecimal() and other.isdecimal():
        return int(version) >= int(other)
    return version == other
