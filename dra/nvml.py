"""What the node's own GPUs say of themselves through NVML. The only importer of pynvml.

Answers one ``Card`` a GPU, or ``NoDriver`` with the reason when NVML is not there. Every call that a card
may not support is treated so and leaves None. Reads only; creates and destroys nothing. Source: NVIDIA
Management Library reference; module ``pynvml`` of the package nvidia-ml-py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
MIB = 1024 * 1024
MILLIWATTS_PER_WATT = 1000


@dataclass(frozen=True, slots=True)
class NoDriver:
    """NVML cannot be used on this node; ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as NVML shows it; None means that the card or driver does not tell."""

    index: int
    uuid: str
    product: str
    memory_mib: int | None
    mig_enabled: bool | None
    power_watts: float | None
    power_limit_watts: float | None


def discover() -> tuple[Card, ...] | NoDriver:
    """Ask NVML for every GPU of the node, in its index order."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return NoDriver(f"NVML could not be started: {error}")
    try:
        count = pynvml.nvmlDeviceGetCount()
        return tuple(_card(pynvml, index) for index in range(count))
    except pynvml.NVMLError as error:
        return NoDriver(f"NVML failed while listing the GPUs: {error}")
    finally:
        pynvml.nvmlShutdown()


def _card(pynvml: Any, index: int) -> Card:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def ask(call: Callable[..., T], *arguments: object) -> T | None:
        try:
            return call(handle, *arguments)
        except pynvml.NVMLError:
            # NotSupported, NoPermission, FunctionNotFound: the card or driver does not tell.
            return None

    memory = ask(pynvml.nvmlDeviceGetMemoryInfo)
    mig = ask(pynvml.nvmlDeviceGetMigMode)
    power = ask(pynvml.nvmlDeviceGetPowerUsage)
    limit = ask(pynvml.nvmlDeviceGetPowerManagementLimit)
    return Card(
        index=index,
        uuid=ask(pynvml.nvmlDeviceGetUUID) or "",
        product=ask(pynvml.nvmlDeviceGetName) or "",
        memory_mib=memory.total // MIB if memory is not None else None,
        mig_enabled=mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE if mig is not None else None,
        power_watts=power / MILLIWATTS_PER_WATT if power is not None else None,
        power_limit_watts=limit / MILLIWATTS_PER_WATT if limit is not None else None,
    )
