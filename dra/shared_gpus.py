"""A GPU that several claims hold at once, in shares: what a driver publishes of it, and what claims take.

Such a device has the type ``shared``, allows several allocations, and has the capacities ``share`` (steps of
1) and ``memory`` (steps of one share's memory), each with a request policy (consumable capacity, KEP-5075). A
claim takes a part of both: what it asks for, rounded up as the policy says, and the default, one step, of the
other. So a claim for 3 shares takes 3 shares and the memory of one.

    taken = max(shares, memory in steps)

is what can no longer be had by claims that ask for nothing in particular. Pure; the arithmetic of one device
is that of ``dra.capacity``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TypeAlias

from dra.capacity import share_of
from dra.catalog import GpuModel
from dra.quantity import amount
from dra.resource_api import Device, DeviceRequestAllocationResult

SHARE, MEMORY = "share", "memory"

_MEBIBYTE = 1024 * 1024

Part: TypeAlias = tuple[int, int]
"""Shares, and steps of memory."""

NOTHING: Part = (0, 0)
ONE: Part = (1, 1)


@dataclass(frozen=True, slots=True)
class SharedGpu:
    """``shares``: how many claims fit that ask for nothing in particular; ``step_mib``: memory of one share;
    ``index``, ``uuid``, ``product``: as of ``dra.inventory.Gpu``; ``mode``: "mps" or "time-slicing".
    """

    name: str
    index: int
    uuid: str
    model: GpuModel
    shares: int
    step_mib: int
    product: str = ""
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a claim asks of one shared GPU: capacities by name in their base unit (memory in bytes)."""

    share: int | None = None
    memory_bytes: int | None = None

    def __str__(self) -> str:
        named = (SHARE, self.share), (MEMORY, self.memory_bytes)
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)

    def part(self, step_mib: int) -> Part:
        """What that takes of a GPU whose shares have so much memory; memory 0 steps where that is unknown."""
        memory = 1
        if self.memory_bytes is not None:
            memory = max(1, -(-self.memory_bytes // (step_mib * _MEBIBYTE))) if step_mib else 0
        return max(1, self.share or 1), memory


def taken(part: Part) -> int:
    """Shares that nobody else can have."""
    return max(part)


def plus(one: Part, other: Part) -> Part:
    """Both together."""
    return one[0] + other[0], one[1] + other[1]


def wish_of(requests: Mapping[str, str | int]) -> Wish | None:
    """Read ``capacity.requests`` of a claim; None when something else than shares and memory is asked for."""
    if not set(requests) <= {SHARE, MEMORY}:
        return None
    amounts = {name: amount(value) for name, value in requests.items()}
    if any(value is None or value < 0 for value in amounts.values()):
        return None
    return Wish(*(None if (value := amounts.get(name)) is None else ceil(value) for name in (SHARE, MEMORY)))


def shared_steps(device: Device) -> tuple[int, int] | None:
    """(shares, MiB of one) of a device of type ``shared``, None for one that is not as described here."""
    capacity = device.capacity.get(SHARE)
    shares = None if capacity is None else amount(capacity.value)
    one = share_of(device, {}, {})
    if not device.allow_multiple_allocations or shares is None or shares < 1 or one is None:
        return None
    return int(shares), int(one.get(MEMORY, Fraction(0)) // _MEBIBYTE)


def consumed(gpu: SharedGpu, result: DeviceRequestAllocationResult) -> Part:
    """What one allocation holds of the GPU; one share where it does not say."""
    shares = amount(result.consumed_capacity.get(SHARE, 1))
    memory = amount(result.consumed_capacity.get(MEMORY, 0)) or Fraction(0)
    steps = ceil(memory / (gpu.step_mib * _MEBIBYTE)) if gpu.step_mib else 0
    return max(1, ceil(shares or 1)), max(1, steps)
