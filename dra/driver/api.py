"""What the driver needs of the API server, as a protocol: the node's process brings the client."""

from __future__ import annotations

from typing import Any, Protocol

from dra.resource_api import ResourceClaim


class ApiAway(Exception):
    """The API server did not do it: unreachable, or it refused. The message says what, where and why."""


class ApiConflict(ApiAway):
    """The object changed or exists already, or it is gone: read again."""


class ClaimReader(Protocol):
    """Reads claims."""

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """The claim now, None when there is none. Raises ApiAway."""


class SliceApi(Protocol):
    """Reads and writes the ResourceSlices of this node and driver, as decoded JSON."""

    def slices(self) -> list[dict[str, Any]]:
        """All of them. Raises ApiAway."""

    def create_slice(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create one; returns at least the ``metadata`` that it has now. Raises ApiAway, ApiConflict."""

    def replace_slice(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace one; returns at least the ``metadata`` that it has now. Raises ApiAway, ApiConflict."""

    def delete_slice(self, name: str) -> None:
        """Delete one; one that is gone is no error. Raises ApiAway."""
