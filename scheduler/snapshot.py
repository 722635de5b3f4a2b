"""A snapshot: all that the scheduler knows of a cluster, in one JSON document, to be served or replayed
without the cluster.

    {"apiVersion": "slicewise.io/v1alpha1", "kind": "Snapshot", "takenAt": "2026-11-21T09:00:00Z",
     "nodes": [], "pods": [], "resourceSlices": [], "resourceClaims": [], "resourceClaimTemplates": [],
     "deviceClasses": [], "policy": "text of policy.yaml", "carbon": {"SE": {"gramsPerKwh": 30.0, "kind":
         "average", ...}}}

The objects are the API server's JSON. ``take`` keeps only the fields that are read here: no environment
variables, no managed fields. Files may be gzipped. Objects are decoded one by one while loading, so a large
file is never held twice.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cluster.client import Api, ApiRefused
from cluster.envelopes import object_decoder
from cluster.wire import ConfigMap, Node, Pod
from dra.resource_api import DeviceClass, ResourceClaim, ResourceClaimTemplate
from metrics.carbon.intensity import Intensity, Kind
from scheduler.fleet import Fleet
from scheduler.slice_store import LeanSlice

API_VERSION = "slicewise.io/v1alpha1"
KIND = "Snapshot"

T = TypeVar("T")
Raws = Sequence[msgspec.Raw]


class SnapshotRefused(Exception):
    """The document is no snapshot that can be loaded; the text says where, what came and what to do."""


class _Carbon(msgspec.Struct, frozen=True, rename="camel"):
    grams_per_kwh: float
    kind: Kind = "average"
    at_seconds: float = 0.0
    valid_until_seconds: float = float("inf")
    source: str = "snapshot"
    estimated: bool = False


class _Header(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    taken_at: str = ""
    nodes: list[msgspec.Raw] = []
    pods: list[msgspec.Raw] = []
    resource_slices: list[msgspec.Raw] = []
    resource_claims: list[msgspec.Raw] = []
    resource_claim_templates: list[msgspec.Raw] = []
    device_classes: list[msgspec.Raw] = []
    policy: str = ""
    carbon: dict[str, _Carbon] = {}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One cluster at one time; objects as JSON. ``policy``: YAML text, empty for the defaults."""

    taken_at: str = ""
    nodes: Raws = ()
    pods: Raws = ()
    resource_slices: Raws = ()
    resource_claims: Raws = ()
    resource_claim_templates: Raws = ()
    device_classes: Raws = ()
    policy: str = ""
    carbon: Mapping[str, Intensity] = field(default_factory=dict)


def read(path: str | Path) -> Snapshot:
    """Read a snapshot file, plain or gzipped. Raises SnapshotRefused."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        got = getattr(error, "strerror", None) or error
        raise SnapshotRefused(
            f"{path}: cannot be read: {got}; expected a snapshot; "
            "make one with: kubectl slicewise snapshot > FILE"
        ) from None
    return parse(data, str(path))


def read_or_take(
    path: str | Path | None, connect: Callable[[], Api], policy_namespace: str, now: float
) -> tuple[Snapshot, str]:
    """The snapshot in a file, or without one of the cluster at ``now`` (Unix seconds), and where it is from.

    Raises SnapshotRefused, and ApiError from ``connect`` and from reading the cluster.
    """
    if path:
        return read(path), str(path)
    api = connect()
    try:
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        return take(api, policy_namespace, at), f"the cluster at {api.host}"
    finally:
        api.close()


def parse(data: bytes, where: str) -> Snapshot:
    """Read a snapshot document; ``where`` names it in messages. Raises SnapshotRefused."""
    header = _decode(msgspec.json.Decoder(_Header), data, where)
    if header.kind != KIND:
        raise SnapshotRefused(
            f"{where}: kind: got {header.kind or 'nothing'}, expected {KIND}; "
            "make one with: kubectl slicewise snapshot > FILE"
        )
    if header.api_version != API_VERSION:
        raise SnapshotRefused(
            f"{where}: apiVersion: got {header.api_version or 'nothing'}, expected {API_VERSION}; "
            "read it with the version of Slicewise that made it, or take it again"
        )
    document = _decode(msgspec.json.Decoder(_Document), data, where)
    return Snapshot(
        taken_at=document.taken_at,
        nodes=document.nodes,
        pods=document.pods,
        resource_slices=document.resource_slices,
        resource_claims=document.resource_claims,
        resource_claim_templates=document.resource_claim_templates,
        device_classes=document.device_classes,
        policy=document.policy,
        carbon={zone: _intensity(zone, carbon) for zone, carbon in document.carbon.items()},
    )


def encode(snapshot: Snapshot) -> bytes:
    """Write a snapshot document."""
    carbon = {
        zone: _Carbon(
            found.grams_per_kwh,
            found.kind,
            found.at_seconds,
            found.valid_until_seconds,
            found.source,
            found.estimated,
        )
        for zone, found in snapshot.carbon.items()
    }
    return msgspec.json.encode(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "takenAt": snapshot.taken_at,
            "policy": snapshot.policy,
            # JSON has no infinity: an intensity that never expires is written without an end.
            "carbon": {zone: _finite(msgspec.to_builtins(found)) for zone, found in carbon.items()},
            "nodes": snapshot.nodes,
            "pods": snapshot.pods,
            "resourceSlices": snapshot.resource_slices,
            "resourceClaims": snapshot.resource_claims,
            "resourceClaimTemplates": snapshot.resource_claim_templates,
            "deviceClasses": snapshot.device_classes,
        }
    )


def load(snapshot: Snapshot, fleet: Fleet, where: str = "snapshot") -> None:
    """Bring a fleet to the state of the snapshot. Raises SnapshotRefused naming the object that does not
    decode.
    """
    fleet.replace_classes(_items(snapshot.device_classes, DeviceClass, f"{where}: deviceClasses"))
    fleet.replace_templates(
        _items(snapshot.resource_claim_templates, ResourceClaimTemplate, f"{where}: resourceClaimTemplates")
    )
    # One at a time and before the nodes: decoded slices are by far the largest objects, and rows are then
    # computed once.
    for item in _items(snapshot.resource_slices, LeanSlice, f"{where}: resourceSlices"):
        fleet.apply_slice(item)
    fleet.replace_nodes(_items(snapshot.nodes, Node, f"{where}: nodes"))
    fleet.replace_claims(_items(snapshot.resource_claims, ResourceClaim, f"{where}: resourceClaims"))
    fleet.replace_pods(_items(snapshot.pods, Pod, f"{where}: pods"))


def take(api: Api, namespace: str, taken_at: str, policy_name: str = "slicewise-policy") -> Snapshot:
    """List everything from the API server. Raises ApiRefused, ApiUnreachable."""
    dra = "/apis/resource.k8s.io/v1"
    running = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
    maps = api.list_objects(
        f"/api/v1/namespaces/{namespace}/configmaps",
        ConfigMap,
        {"fieldSelector": f"metadata.name={policy_name}"},
    )
    return Snapshot(
        taken_at=taken_at,
        nodes=raws(api.list_objects("/api/v1/nodes", Node)),
        pods=raws(api.list_objects("/api/v1/pods", Pod, running)),
        resource_slices=_slices(_if_served(api, f"{dra}/resourceslices", LeanSlice)),
        resource_claims=raws(_if_served(api, f"{dra}/resourceclaims", ResourceClaim)),
        resource_claim_templates=raws(
            _if_served(api, f"{dra}/resourceclaimtemplates", ResourceClaimTemplate)
        ),
        device_classes=raws(_if_served(api, f"{dra}/deviceclasses", DeviceClass)),
        policy=maps[0].data.get("policy.yaml", "") if maps else "",
    )


def raws(objects: Iterable[object]) -> list[msgspec.Raw]:
    """Objects as JSON, without the fields that hold nothing (an empty text may be a label's value and
    stays).
    """
    return [msgspec.Raw(msgspec.json.encode(_without_empty(msgspec.to_builtins(item)))) for item in objects]


def _slices(found: Iterable[LeanSlice]) -> list[msgspec.Raw]:
    """Slices as JSON, their devices as they came: decoded whole they would take gigabytes."""
    return [msgspec.Raw(msgspec.json.encode(item)) for item in found]


def _if_served(api: Api, path: str, kind: type[T]) -> list[T]:
    try:
        return api.list_objects(path, kind)
    except ApiRefused as refused:
        if refused.status == 404:  # a cluster without dynamic resource allocation
            return []
        raise


def _items(found: Raws, kind: type[T], where: str) -> Iterator[T]:
    decoder = object_decoder(kind)
    for position, raw in enumerate(found):
        yield _decode(decoder, raw, f"{where}[{position}]")


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, where: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotRefused(
            f"{where}: {error}; got {bytes(memoryview(data)[:40])!r}, "
            "expected the JSON that kubectl slicewise snapshot writes"
        ) from error


def _intensity(zone: str, found: _Carbon) -> Intensity:
    return Intensity(
        zone,
        found.grams_per_kwh,
        found.kind,
        found.at_seconds,
        found.valid_until_seconds,
        found.source,
        found.estimated,
    )


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value != float("inf") and value is not None}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, (), [], {})}
    if isinstance(value, list | tuple):
        return [_without_empty(inner) for inner in value]
    return value
