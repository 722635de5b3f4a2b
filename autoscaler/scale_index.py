"""Scales kept current by one watch a kind instead of one request a target and round.

A Deployment, StatefulSet or ReplicaSet says itself what its ``/scale`` would say: ``spec.replicas`` and
``spec.selector``. Of every other kind the metadata is watched, and ``/scale`` is read again for objects
that changed (``scale_versions``). The watch of a kind begins with the first target of it. Where it is not
allowed, not begun or silent for too long, targets are read through ``targets``, a request each. Writes always
go there.

What was just written is known before the watch tells it: it counts until the watch has come as far as the
resourceVersion of the write's answer. Who else set ``spec.replicas``, and when, is kept too
(``metadata.managedFields``), for whoever looks out for a second writer.

Decides nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from autoscaler.replicas_writers import ReplicasWriter, ScalableMetadata, writers_of
from autoscaler.scale_versions import ObjectVersion, ScaleVersions, as_new
from autoscaler.selectors import Requirement, Selector, SelectorRefused
from autoscaler.targets import ScaleSight, Target, TargetRefused, Targets
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ObjectReference, Scale

# A watch that was silent for longer may be dead.
LONGEST_SILENCE_SECONDS: Final = 90.0
# Bookmarks are not promised: of a kind in which nothing changes none may come for minutes. A watch that is
# opened anew in time is heard from all the same, and one that died has been found out by then.
_WATCH_SECONDS: Final = 60
# For an API server whose versions are no numbers: by then the watch has told.
_LONGEST_OVERLAY_SECONDS: Final = 30.0
_PLURALS: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
_GROUP: Final = "apps/v1"


class _MatchExpression(msgspec.Struct, frozen=True, gc=False):
    """metav1.LabelSelectorRequirement."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class _LabelSelector(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """metav1.LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[_MatchExpression, ...] = ()


class _Spec(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The fields that Deployment, StatefulSet and ReplicaSet share."""

    replicas: int = 1
    selector: _LabelSelector = _LabelSelector()


class Scalable(msgspec.Struct, frozen=True, gc=False):
    """An apps/v1 object that has a scale."""

    metadata: ScalableMetadata = ScalableMetadata()
    spec: _Spec = _Spec()


@dataclass(frozen=True, slots=True)
class _Entry:
    sight: ScaleSight | TargetRefused
    version: str
    writers: tuple[ReplicasWriter, ...]


@dataclass(frozen=True, slots=True)
class _Written:
    replicas: int
    version: str
    at_seconds: float


@dataclass(slots=True)
class _Kind:
    """One kind's objects by namespace and name; a handler for its reflector."""

    kind: str
    entries: dict[tuple[str, str], _Entry] = field(default_factory=dict)

    def replaced(self, items: Sequence[Scalable]) -> None:
        self.entries = {(o.metadata.namespace, o.metadata.name): _entry(self.kind, o) for o in items}

    def changed(self, kind: str, item: Scalable) -> None:
        key = item.metadata.namespace, item.metadata.name
        if kind == "DELETED":
            self.entries.pop(key, None)
        else:
            self.entries[key] = _entry(self.kind, item)


@dataclass(frozen=True, slots=True)
class _Watch:
    """What is known of one kind, and the reflector that tells it."""

    known: _Kind | ScaleVersions
    reflector: Reflector[Any]

    @property
    def current(self) -> bool:
        """Whether it can be relied on."""
        age = self.reflector.age_seconds() if self.reflector.synced.is_set() else None
        return age is not None and age <= LONGEST_SILENCE_SECONDS


class ScaleIndex:
    """Reads scales from memory where it can. Safe to use from several threads."""

    def __init__(
        self,
        api: Api,
        targets: Targets,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._targets, self._clock = api, targets, clock
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._written: dict[Target, _Written] = {}
        self._stopped = False

    def read(self, target: Target) -> ScaleSight:
        """Return the scale of ``target``. Raises TargetRefused; ApiError when the API server is away."""
        kind = self._watched(target)
        if kind is None:
            return self._first(target)
        if isinstance(kind, ScaleVersions):
            return kind.read(target, self._targets.read)
        entry = kind.entries.get((target.namespace, target.name))
        if entry is None:
            raise TargetRefused("not_found", f"{target}: does not exist; create it or delete its policy")
        if isinstance(entry.sight, TargetRefused):
            raise entry.sight
        written = self._written.get(target)
        if written is None:
            return entry.sight
        if self._told(entry, written):
            with self._lock:  # unless somebody has written once more meanwhile
                if self._written.get(target) is written:
                    del self._written[target]
            return entry.sight
        return replace(entry.sight, replicas=written.replicas, resource_version=written.version)

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        """Ask for ``replicas``. Raises TargetRefused; ApiError when the API server is away."""
        scale = self._targets.write(sight, replicas)
        written = _Written(scale.spec.replicas, scale.metadata.resource_version, self._clock())
        watch = self._watches.get((sight.target.api_version, sight.target.kind))
        if watch is not None and isinstance(watch.known, ScaleVersions):
            watch.known.wrote(sight, written.replicas, written.version)
        else:
            with self._lock:
                self._written[sight.target] = written
        return scale

    def writers(self, target: Target) -> tuple[ReplicasWriter, ...] | None:
        """Who owns ``spec.replicas`` of ``target``; None where no watch tells."""
        kind = self._watched(target)
        if isinstance(kind, ScaleVersions):
            return kind.writers(target)
        entry = None if kind is None else kind.entries.get((target.namespace, target.name))
        return None if entry is None else entry.writers

    def stop(self) -> None:
        """End the watches. Safe to call twice."""
        with self._lock:
            self._stopped = True
            watches = list(self._watches.values())
        for watch in watches:
            watch.reflector.stop()

    def _watched(self, target: Target) -> _Kind | ScaleVersions | None:
        """What the kind's watch knows, when it can be relied on."""
        watch = self._watches.get((target.api_version, target.kind))
        return watch.known if watch is not None and watch.current else None

    def _first(self, target: Target) -> ScaleSight:
        """Ask for the scale, and begin the watch of its kind. Where objects of other kinds are listed is
        known from the first scale that was there.
        """
        if target.api_version == _GROUP and target.kind in _PLURALS:
            self._begin(target, f"/apis/{_GROUP}/{_PLURALS[target.kind]}")
            return self._targets.read(target)
        sight = self._targets.read(target)
        self._begin(target, collection_of(sight.path))
        return sight

    def _begin(self, target: Target, path: str) -> None:
        key = target.api_version, target.kind
        with self._lock:
            if key in self._watches or self._stopped:
                return
            known: _Kind | ScaleVersions
            if target.api_version == _GROUP and target.kind in _PLURALS:
                known = _Kind(target.kind)
                reflector: Reflector[Any] = Reflector(
                    self._api, path, Scalable, known, watch_seconds=_WATCH_SECONDS, clock=self._clock
                )
            else:
                known = ScaleVersions()
                reflector = Reflector(
                    self._api,
                    path,
                    ObjectVersion,
                    known,
                    metadata_only=True,
                    watch_seconds=_WATCH_SECONDS,
                    clock=self._clock,
                )
            reflector.start()
            self._watches[key] = _Watch(known, reflector)

    def _told(self, entry: _Entry, written: _Written) -> bool:
        """Whether the watch has come as far as the write."""
        late = self._clock() - written.at_seconds > _LONGEST_OVERLAY_SECONDS
        numbers = entry.version.isdecimal() and written.version.isdecimal()
        return as_new(entry.version, written.version) or (late and not numbers)


def _entry(kind: str, found: Scalable) -> _Entry:
    metadata = found.metadata
    target = Target(_GROUP, kind, metadata.namespace, metadata.name)
    about = ObjectReference(
        api_version=_GROUP, kind=kind, name=metadata.name, namespace=metadata.namespace, uid=metadata.uid
    )
    path = f"/apis/{_GROUP}/namespaces/{metadata.namespace}/{_PLURALS[kind]}/{metadata.name}/scale"
    sight: ScaleSight | TargetRefused
    try:
        selector = label_selector(found.spec.selector)
        sight = ScaleSight(target, path, found.spec.replicas, selector, about, metadata.resource_version)
    except SelectorRefused as refused:
        sight = TargetRefused("not_scalable", f"{target}: spec.selector {refused}")
    return _Entry(sight, metadata.resource_version, writers_of(metadata))


def collection_of(path: str) -> str:
    """Where all objects of the kind are listed; ``path``: of one's scale."""
    root, _, rest = path.partition("/namespaces/")
    return f"{root}/{rest.split('/')[1]}"


def label_selector(selector: _LabelSelector) -> Selector:
    """Read a LabelSelector. Raises SelectorRefused, also for an empty one: it would select every pod."""
    found = [Requirement(key, "In", frozenset({value})) for key, value in selector.match_labels.items()]
    for wanted in selector.match_expressions:
        match wanted.operator:
            case "In" | "NotIn" | "Exists" | "DoesNotExist":
                found.append(Requirement(wanted.key, wanted.operator, frozenset(wanted.values)))
            case _:
                raise SelectorRefused(f"has the operator {wanted.operator!r}, which is not known")
    if not found:
        raise SelectorRefused("is empty and would select every pod")
    return Selector(tuple(found))
