"""What a DRA plugin has to answer, free of any wire format: the driver implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """A device that is ready: for which request of the claim, and its CDI names."""

    request: str
    pool: str
    device: str
    cdi_ids: tuple[str, ...]
    share_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """Health of one device; ``healthy`` None: unknown. ``at_seconds``: Unix time of the last look."""

    pool: str
    device: str
    healthy: bool | None
    at_seconds: int
    message: str = ""


class Handler(Protocol):
    """Prepares and gives back claims. Must be safe to call from several threads, and idempotent."""

    def prepare(self, claims: Sequence[ClaimRef]) -> Mapping[str, tuple[PreparedDevice, ...] | str]:
        """By claim UID: the devices, or why the claim cannot be prepared now."""

    def unprepare(self, claims: Sequence[ClaimRef]) -> Mapping[str, str]:
        """By claim UID: "" when done, or why not."""
