"""Wire types of resource.k8s.io/v1 and the object metadata that every API type carries.

Only the fields that are read are declared; msgspec skips the rest. Source: k8s.io/apimachinery meta/v1.
"""

from __future__ import annotations

import msgspec


class OwnerReference(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Who owns the object; ``controller`` marks the managing owner."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """meta/v1 ObjectMeta; times are RFC 3339 text as the API server writes them."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
