"""How others choose a node: the resource rules of kube-scheduler, on the same fleet.

- ``least-allocated``: what kube-scheduler does by default. NodeResourcesFit with LeastAllocated plus
  NodeResourcesBalancedAllocation, CPU and memory with weight 1 each; GPUs do not enter.
- ``most-allocated``: NodeResourcesFit with MostAllocated over GPUs, CPU and memory, weight 1 each: what
  kube-scheduler is set to where people want GPUs packed.

Whole numbers from 0 to 100 and random ties, as there. Its other default scores (spread over zones and hosts,
preferred affinity, image locality) are left out: they depend on objects that are not replayed. Which GPU of
the node is taken is up to the driver, so it is the same for every rule. Source: kube-scheduler
``framework/plugins/noderesources`` (least_allocated.go, most_allocated.go, balanced_allocation.go). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scheduler.host_needs import UNLIMITED

Floats: TypeAlias = NDArray[np.float64]

# What kube-scheduler's scores take for a pod that states no request.
_UNSTATED_CPU_MILLI = 100
_UNSTATED_MEMORY_MIB = 200


@dataclass(frozen=True, slots=True)
class Loads:
    """float64[rows]: shares of CPU, memory and GPUs that would be requested with the pod on the node."""

    cpu: Floats
    memory: Floats
    gpu: Floats


def share(capacity: Floats, free: Floats, more: int, unstated: int) -> Floats:
    """Share requested after adding ``more`` (``unstated`` when that is 0); 0 where capacity is unlimited."""
    wanted = more or unstated
    used = np.where(capacity >= UNLIMITED, 0.0, capacity - free + wanted)
    result: Floats = np.clip(used / np.maximum(capacity, 1.0), 0.0, 1.0)
    return result


def cpu_share(capacity: Floats, free: Floats, more: int) -> Floats:
    """``share`` of milli-CPU."""
    return share(capacity, free, more, _UNSTATED_CPU_MILLI)


def memory_share(capacity: Floats, free: Floats, more: int) -> Floats:
    """``share`` of MiB."""
    return share(capacity, free, more, _UNSTATED_MEMORY_MIB)


def least_allocated(loads: Loads) -> Floats:
    """LeastAllocated + BalancedAllocation, 0 to 200."""
    least = (np.floor(100.0 * (1.0 - loads.cpu)) + np.floor(100.0 * (1.0 - loads.memory))) / 2.0
    balanced = 100.0 * (1.0 - np.abs(loads.cpu - loads.memory) / 2.0)
    result: Floats = np.floor(least) + np.floor(balanced)
    return result


def most_allocated(loads: Loads) -> Floats:
    """MostAllocated, 0 to 100."""
    shares = (loads.cpu, loads.memory, loads.gpu)
    result: Floats = np.floor(sum((np.floor(100.0 * part) for part in shares), np.zeros(1)) / len(shares))
    return result


RULES: Final[Mapping[str, Callable[[Loads], Floats]]] = {
    "least-allocated": least_allocated,
    "most-allocated": most_allocated,
}
