"""CPU, memory and pod slots: what a pod takes and what a node has left beside its GPUs.

The planner leaves these to kube-scheduler's filters; who evicts a pod must look itself, for a pod that is
evicted cannot be put back. Requests follow KEP-753: containers and sidecars run together, an init container
with the sidecars before it; the larger of the two counts, plus the pod's overhead where it is known. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Container, Node, Pod


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
    """What the pod takes; a quantity that cannot be read counts as nothing (the API server takes none)."""
    running = _sum(pod.spec.containers)
    highest = NOTHING
    sidecars = NOTHING
    for container in pod.spec.init_containers:
        wanted = _of(container)
        if container.restart_policy == "Always":
            sidecars = sidecars + wanted
            highest = _larger(highest, sidecars)
        else:
            highest = _larger(highest, wanted + sidecars)
    taken = _larger(running + sidecars, highest)
    return Resources(taken.cpu_millis, taken.memory_bytes, 1)


def node_resources(node: Node) -> Resources:
    """What the node offers in all; what it does not tell is taken to be plenty."""
    offered = node.status.allocatable
    return Resources(
        _amount(offered, "cpu", 1000, PLENTY),
        _amount(offered, "memory", 1, PLENTY),
        _amount(offered, "pods", 1, PLENTY),
    )


def _sum(containers: tuple[Container, ...]) -> Resources:
    total = NOTHING
    for container in containers:
        total = total + _of(container)
    return total


def _of(container: Container) -> Resources:
    requests = container.resources.requests
    return Resources(_amount(requests, "cpu", 1000), _amount(requests, "memory", 1))


def _larger(one: Resources, other: Resources) -> Resources:
    return Resources(max(one.cpu_millis, other.cpu_millis), max(one.memory_bytes, other.memory_bytes), 0)


def _amount(amounts: Mapping[str, str | int], name: str, scale: int, absent: int = 0) -> int:
    written = amounts.get(name)
    if written is None:
        return absent
    try:
        return math.ceil(parse_quantity(written) * scale)
    except QuantityRefused:
        return 0
