"""The scales of the common kinds, kept current by one watch a kind instead of one request a target and round.

A Deployment, StatefulSet or ReplicaSet says itself what its ``/scale`` would say: ``spec.replicas`` and
``spec.selector``. The watch of a kind begins with the first target of it. Everything else (custom resources,
whose CRD alone knows where the replicas stand; a kind whose watch is not allowed, not begun or silent for
too long) is read through ``targets``, a request each. Writes always go there.

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

from autoscaler.selectors import Requirement, Selector, SelectorRefused
from autoscaler.targets import ScaleSight, Target, TargetRefused, Targets
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ObjectReference, Scale

# Bookmarks come about once a minute; a watch that was silent for longer may be dead.
LONGEST_SILENCE_SECONDS: Final = 90.0
# For an API server whose versions are no numbers: by then the watch has told.
_LONGEST_OVERLAY_SECONDS: Final = 30.0
_PLURALS: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
_GROUP: Final = "apps/v1"


class _FieldsEntry(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """metav1.ManagedFieldsEntry."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fields_v1: msgspec.Raw = msgspec.field(name="fieldsV1", default=msgspec.Raw(b"{}"))


class _Metadata(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """metav1.ObjectMeta, as far as scaling goes."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    managed_fields: tuple[_FieldsEntry, ...] = ()


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

    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()


@dataclass(frozen=True, slots=True)
class ReplicasWriter:
    """An owner of ``spec.replicas``: the field manager, how it writes, and when it last did (RFC 3339)."""

    manager: str
    operation: str
    subresource: str
    time: str


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
    reflector: Reflector[Any] | None = None

    def replaced(self, items: Sequence[Scalable]) -> None:
        self.entries = {(o.metadata.namespace, o.metadata.name): _entry(self.kind, o) for o in items}

    def changed(self, kind: str, item: Scalable) -> None:
        key = item.metadata.namespace, item.metadata.name
        if kind == "DELETED":
            self.entries.pop(key, None)
        else:
            self.entries[key] = _entry(self.kind, item)


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
        self._kinds: dict[str, _Kind] = {}
        self._written: dict[Target, _Written] = {}
        self._stopped = False

    def read(self, target: Target) -> ScaleSight:
        """Return the scale of ``target``. Raises TargetRefused; ApiError when the API server is away."""
        kind = self._watched(target)
        if kind is None:
            return self._targets.read(target)
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
        with self._lock:
            self._written[sight.target] = written
        return scale

    def writers(self, target: Target) -> tuple[ReplicasWriter, ...] | None:
        """Who owns ``spec.replicas`` of ``target``; None where no watch tells."""
        kind = self._watched(target)
        entry = None if kind is None else kind.entries.get((target.namespace, target.name))
        return None if entry is None else entry.writers

    def stop(self) -> None:
        """End the watches. Safe to call twice."""
        with self._lock:
            self._stopped = True
            kinds = list(self._kinds.values())
        for kind in kinds:
            if kind.reflector is not None:
                kind.reflector.stop()

    def _watched(self, target: Target) -> _Kind | None:
        """The kind's watch when it can be relied on; begins it with the first target of the kind."""
        if target.api_version != _GROUP or target.kind not in _PLURALS:
            return None
        kind = self._kinds.get(target.kind)
        if kind is None:
            with self._lock:
                if target.kind not in self._kinds and not self._stopped:
                    kind = _Kind(target.kind)
                    path = f"/apis/{_GROUP}/{_PLURALS[target.kind]}"
                    kind.reflector = Reflector(self._api, path, Scalable, kind)
                    kind.reflector.start()
                    self._kinds[target.kind] = kind
            return None
        reflector = kind.reflector
        age = None if reflector is None or not reflector.synced.is_set() else reflector.age_seconds()
        return kind if age is not None and age <= LONGEST_SILENCE_SECONDS else None

    def _told(self, entry: _Entry, written: _Written) -> bool:
        """Whether the watch has come as far as the write."""
        if entry.version.isdecimal() and written.version.isdecimal():
            return int(entry.version) >= int(written.version)
        late = self._clock() - written.at_seconds > _LONGEST_OVERLAY_SECONDS
        return entry.version == written.version or late


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
    writers = tuple(
        ReplicasWriter(entry.manager, entry.operation, entry.subresource, entry.time)
        for entry in metadata.managed_fields
        if b'"f:replicas"' in bytes(entry.fields_v1) and b'"f:spec"' in bytes(entry.fields_v1)
        if entry.subresource != "status"
    )
    return _Entry(sight, metadata.resource_version, writers)


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
