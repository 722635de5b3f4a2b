"""CPU, memory and pod slots: what a pod takes and what a node has left beside its GPUs.

The planner leaves these to kube-scheduler's filters; who evicts a pod must look itself, for a pod that is
evicted cannot be put back. What a pod takes is what ``scheduler.host_needs`` says, memory rounded up to whole
MiB; what a node has is taken to the byte. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Node, Pod
from scheduler.host_needs import host_need


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of each."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    pods: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.pods + other.pods,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.pods - other.pods,
        )

    def covers(self, wanted: Resources) -> bool:
        """Whether ``wanted`` fits in this. What is not asked for may be overdrawn already."""
        return (
            wanted.cpu_millis <= max(0, self.cpu_millis)
            and wanted.memory_bytes <= max(0, self.memory_bytes)
            and wanted.pods <= max(0, self.pods)
        )


NOTHING = Resources()
PLENTY = 1 << 62


def pod_resources(pod: Pod) -> Resources:
    """What the pod takes, as ``host_need`` accounts it, and one slot."""
    cpu_millis, memory_mib = host_need(pod)
    return Resources(cpu_millis, memory_mib << 20, 1)


def node_resources(node: Node) -> Resources:
    """What the node offers in all; what it does not tell is taken to be plenty."""
    offered = node.status.allocatable
    return Resources(
        _amount(offered, "cpu", 1000, PLENTY),
        _amount(offered, "memory", 1, PLENTY),
        _amount(offered, "pods", 1, PLENTY),
    )


def _amount(amounts: Mapping[str, str | int], name: str, scale: int, absent: int) -> int:
    written = amounts.get(name)
    if written is None:
        return absent
    try:
        return math.ceil(parse_quantity(written) * scale)
    except QuantityRefused:
        return 0
