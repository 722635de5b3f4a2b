"""The cluster during a simulated run: free CPU, memory and GPU milli of every node, as columns.

Rows are nodes in name order, so the first of equal rows is the node of the smallest name. Placing more than a
node has free raises: no policy can go over capacity. Not pure only in that it changes with each placement.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.shares import MILLI
from simulator.openb import NodeShape, PodShape

Ints = NDArray[np.int64]
Rows = NDArray[np.int64]


class ClusterState:
    """``cpu``, ``memory``: int64[n] milli-CPU and MiB free; ``gpu_free``: int64[n, g] milli free, 0 where a
    node has fewer GPUs; ``model``: int64[n], index into ``models``.
    """

    def __init__(self, nodes: Sequence[NodeShape]) -> None:
        self.nodes = tuple(nodes)
        self.models = tuple(sorted({node.model for node in nodes}))
        index = {model: position for position, model in enumerate(self.models)}
        widest = max(1, max((node.gpus for node in nodes), default=1))
        self.model: Ints = np.array([index[node.model] for node in nodes], dtype=np.int64)
        self.gpu_count: Ints = np.array([node.gpus for node in nodes], dtype=np.int64)
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes], dtype=np.int64)
        self.cpu_capacity: Ints = self.cpu.copy()
        self.memory: Ints = np.array([node.memory_mib for node in nodes], dtype=np.int64)
        self.gpu_free: Ints = np.where(np.arange(widest) < self.gpu_count[:, None], MILLI, 0).astype(np.int64)
        self.tags: Ints = np.zeros((len(self.nodes), widest + 1), dtype=np.int64)
        self.capacity_milli = int(self.gpu_count.sum()) * MILLI
        self.allocated_milli = 0

    @property
    def size(self) -> int:
        return len(self.nodes)

    @property
    def free_milli(self) -> int:
        return self.capacity_milli - self.allocated_milli

    def allows(self, shape: PodShape) -> NDArray[np.bool_]:
        """bool[models]: which models the pod may run on; without a GPU every model."""
        if not shape.gpus:
            return np.ones(len(self.models), dtype=np.bool_)
        return np.array(
            [bool(name) and (not shape.models or name in shape.models) for name in self.models],
            dtype=np.bool_,
        )

    def fits(self, shape: PodShape, rows: Rows, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[rows]: where the pod can run now. ``allowed``: ``allows(shape)``."""
        fit: NDArray[np.bool_] = (
            (self.cpu[rows] >= shape.cpu_milli)
            & (self.memory[rows] >= shape.memory_mib)
            & allowed[self.model[rows]]
        )
        if shape.gpus:
            fit &= (self.gpu_free[rows] >= shape.gpu_milli).sum(axis=1) >= shape.gpus
        return fit

    def whole_gpus(self, row: int, count: int) -> Ints:
        """The ``count`` lowest entirely free GPUs of a row."""
        return np.flatnonzero(self.gpu_free[row] == MILLI)[:count]

    def place(self, shape: PodShape, row: int, gpus: Ints) -> None:
        """Take the pod's CPU, memory and its share of each GPU in ``gpus``. Raises ValueError over
        capacity.
        """
        if len(np.unique(gpus)) != shape.gpus or len(gpus) != shape.gpus:
            raise ValueError(
                f"{self.nodes[row].name}: got GPUs {gpus.tolist()}, expected {shape.gpus} distinct ones"
            )
        if (
            self.cpu[row] < shape.cpu_milli
            or self.memory[row] < shape.memory_mib
            or (self.gpu_free[row, gpus] < shape.gpu_milli).any()
        ):
            raise ValueError(f"{self.nodes[row].name}: {shape} does not fit on GPUs {gpus.tolist()}")
        self.cpu[row] -= shape.cpu_milli
        self.memory[row] -= shape.memory_mib
        if shape.gpus:
            self.gpu_free[row, gpus] -= shape.gpu_milli
            self.tags[row, tag(shape)] += 1
            self.allocated_milli += shape.total_gpu_milli

    def remove(self, shape: PodShape, row: int, gpus: Ints) -> None:
        """Give back what ``place`` took."""
        self.cpu[row] += shape.cpu_milli
        self.memory[row] += shape.memory_mib
        if shape.gpus:
            self.gpu_free[row, gpus] += shape.gpu_milli
            self.tags[row, tag(shape)] -= 1
            self.allocated_milli -= shape.total_gpu_milli

    def unallocated_percent(self) -> float:
        return 100.0 * (1.0 - self.allocated_milli / self.capacity_milli)


def tag(shape: PodShape) -> int:
    """The kind of GPU use that GpuClustering keeps together: 0 a share, k for k whole GPUs."""
    return 0 if shape.shared else shape.gpus
