"""Where a GPU hangs in the machine, from the kernel's files: PCIe root and NUMA node.

``/sys/bus/pci/devices/<address>`` is a link into ``/sys/devices/pciDDDD:BB/...``; its first part is the root
complex, spelled as the standard attribute ``resource.kubernetes.io/pcieRoot`` wants it (KEP-4381). NVML's
own NUMA call means something else: the memory of GPUs that are NUMA nodes themselves (Grace), so the kernel's
file goes first.
"""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = re.compile(r"pci[0-9a-f]{4}:[0-9a-f]{2}")


def kernel_address(pci_bus_id: str) -> str:
    """NVML's "00000000:1B:00.0" as the kernel writes it, "0000:1b:00.0"."""
    domain, _, rest = pci_bus_id.lower().partition(":")
    return f"{domain[-4:]:0>4}:{rest}"


def pcie_root(system_files: Path, pci_bus_id: str) -> str | None:
    """ "pci0000:16", or None where the kernel does not tell (a container without /sys, another machine)."""
    try:
        device = (system_files / "bus" / "pci" / "devices" / kernel_address(pci_bus_id)).resolve(strict=True)
    except OSError:
        return None
    return next((part for part in device.parts if _ROOT.fullmatch(part)), None)


def numa_node(system_files: Path, pci_bus_id: str) -> int | None:
    """The CPU side's NUMA node; None where the kernel knows none (it writes -1)."""
    file = system_files / "bus" / "pci" / "devices" / kernel_address(pci_bus_id) / "numa_node"
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return None
    return number if number >= 0 else None
