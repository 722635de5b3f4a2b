"""What a pod takes of its node besides GPUs, CPU and memory, and how much of each node is taken so.

The effective request of KEP-753: app containers and sidecars run together, an init container runs with the
sidecars started before it, the pod needs the larger of the two; a pod-level request (KEP-2837) replaces the
sum where it is given; the runtime class's overhead (KEP-688) is added. A limit without a request counts as
one, as the API server's defaulting does. Fractions are rounded up to one milli-CPU and one MiB, so that a sum
is never too low. Resizes in place that the kubelet has not confirmed are not looked at: the request counts.

``HostLedger`` adds up the pods that ask for no GPU: they are many and nothing else of them matters. Pods with
GPUs are kept whole elsewhere (``scheduler.facts``). Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from math import ceil

from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Container, Pod

UNLIMITED = 2**30
"""Free milli-CPU or MiB of a node that does not say what it has: no pod and no price notices a limit."""

_MIB = 2**20
Need = tuple[int, int]  # milli-CPU, MiB


@lru_cache(maxsize=4096)
def cpu_milli(quantity: str | int) -> int:
    """A CPU quantity in milli-CPU, rounded up; 0 for what the API server would refuse."""
    return _in_units(quantity, Decimal(1000))


@lru_cache(maxsize=4096)
def memory_mib(quantity: str | int) -> int:
    """A memory quantity in MiB, rounded up; 0 for what the API server would refuse."""
    return _in_units(quantity, Decimal(1) / _MIB)


def _in_units(quantity: str | int, scale: Decimal) -> int:
    try:
        amount = Decimal(parse_quantity(quantity)) * scale
    except QuantityRefused:
        return 0
    return max(0, min(UNLIMITED, ceil(amount)))


def host_need(pod: Pod) -> Need:
    """Milli-CPU and MiB that the scheduler accounts to the pod."""
    spec = pod.spec
    cpu, memory = 0, 0
    for container in spec.containers:
        more = _of(container)
        cpu, memory = cpu + more[0], memory + more[1]
    if spec.init_containers:
        cpu, memory = _with_init(spec.init_containers, cpu, memory)
    if spec.resources is not None:
        whole = spec.resources.limits | spec.resources.requests
        cpu = cpu_milli(whole["cpu"]) if "cpu" in whole else cpu
        memory = memory_mib(whole["memory"]) if "memory" in whole else memory
    if spec.overhead:
        cpu += cpu_milli(spec.overhead.get("cpu", 0))
        memory += memory_mib(spec.overhead.get("memory", 0))
    return cpu, memory


def _with_init(init_containers: tuple[Container, ...], cpu: int, memory: int) -> Need:
    beside_cpu, beside_memory, peak_cpu, peak_memory = 0, 0, 0, 0
    for container in init_containers:
        more_cpu, more_memory = _of(container)
        if container.restart_policy == "Always":
            beside_cpu, beside_memory = beside_cpu + more_cpu, beside_memory + more_memory
            peak_cpu, peak_memory = max(peak_cpu, beside_cpu), max(peak_memory, beside_memory)
        else:
            peak_cpu = max(peak_cpu, beside_cpu + more_cpu)
            peak_memory = max(peak_memory, beside_memory + more_memory)
    return max(cpu + beside_cpu, peak_cpu), max(memory + beside_memory, peak_memory)


def _of(container: Container) -> Need:
    resources = container.resources
    requests, limits = resources.requests, resources.limits
    cpu = requests.get("cpu") if "cpu" in requests else limits.get("cpu", 0)
    memory = requests.get("memory") if "memory" in requests else limits.get("memory", 0)
    return cpu_milli(cpu or 0), memory_mib(memory or 0)


class HostLedger:
    """What bound pods without a GPU take, by node."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, int, int]] = {}
        self._taken: dict[str, Need] = {}

    def put(self, uid: str, node: str, need: Need) -> set[str]:
        """Count a pod on a node ("": nowhere); return the nodes whose sums changed."""
        old = self._pods.get(uid)
        # Interned: the same few names stand in tens of thousands of pods.
        new = (sys.intern(node), *need) if node and (need[0] or need[1]) else None
        if old == new:
            return set()
        touched = self._move(old, -1) | self._move(new, 1)
        if new is None:
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = new
        return touched

    def drop(self, uid: str) -> set[str]:
        """Forget a pod."""
        return self._move(self._pods.pop(uid, None), -1) if uid in self._pods else set()

    def taken(self, node: str) -> Need:
        """Milli-CPU and MiB taken on the node."""
        return self._taken.get(node, (0, 0))

    def by_node(self) -> Mapping[str, Need]:
        """The same for all nodes on which something is taken."""
        return self._taken

    def pods(self) -> Mapping[str, tuple[str, int, int]]:
        """Node, milli-CPU and MiB by pod UID."""
        return self._pods

    def _move(self, entry: tuple[str, int, int] | None, sign: int) -> set[str]:
        if entry is None:
            return set()
        node, cpu, memory = entry
        old = self._taken.get(node, (0, 0))
        new = (old[0] + sign * cpu, old[1] + sign * memory)
        if new == (0, 0):
            self._taken.pop(node, None)
        else:
            self._taken[node] = new
        return {node}
