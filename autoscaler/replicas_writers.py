"""Who owns ``spec.replicas`` of an object, by ``metadata.managedFields``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class FieldsEntry(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """metav1.ManagedFieldsEntry."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fields_v1: msgspec.Raw = msgspec.field(name="fieldsV1", default=msgspec.Raw(b"{}"))


class ScalableMetadata(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """metav1.ObjectMeta, as far as scaling goes."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    managed_fields: tuple[FieldsEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicasWriter:
    """An owner of ``spec.replicas``: the field manager, how it writes, and when it last did (RFC 3339)."""

    manager: str
    operation: str
    subresource: str
    time: str


def writers_of(metadata: ScalableMetadata) -> tuple[ReplicasWriter, ...]:
    """The owners; none where the count stands in another field than ``spec.replicas``."""
    return tuple(
        ReplicasWriter(entry.manager, entry.operation, entry.subresource, entry.time)
        for entry in metadata.managed_fields
        if b'"f:replicas"' in bytes(entry.fields_v1) and b'"f:spec"' in bytes(entry.fields_v1)
        if entry.subresource != "status"
    )
