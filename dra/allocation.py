"""What an allocation of devices is: identities, results of claims, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class DeviceId:
    """A device's identity across the cluster."""

    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class Allocated:
    """One device for one request ("name" or "name/subrequest"); ``share`` is what it takes of a shared
    device.
    """

    request: str
    device: DeviceId
    admin_access: bool = False
    share: tuple[tuple[str, Fraction], ...] | None = None


@dataclass(frozen=True, slots=True)
class Allocation:
    """The results of each claim, in claim order."""

    claims: tuple[tuple[Allocated, ...], ...]

    @property
    def devices(self) -> tuple[DeviceId, ...]:
        """All devices in the order they were taken."""
        return tuple(result.device for claim in self.claims for result in claim)


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No allocation. ``no-fit``: nothing free matches; ``aborted``: the scheduler would fail too;
    ``unsupported``: not known, because the replay does not cover what the claim uses.
    """

    reason: str
    kind: Literal["no-fit", "aborted", "unsupported"] = "no-fit"
