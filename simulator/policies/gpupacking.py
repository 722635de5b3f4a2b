"""GpuPacking: a GPU already shared, before a free GPU of a used node, before a free node (after Gandiva,
OSDI'18, as coded for the FGD paper).

    shared GPUs only:    max(50, 100 − int(free % of the GPUs used / 10))
    free GPUs needed:    max(33, 50 − their number)
    node entirely free:  max(33 − GPUs of the node, GPUs of the node)

A pod without a GPU scores every node alike. A share takes the tightest GPU.
"""

from __future__ import annotations

import numpy as np

from scheduler.packing.shares import MILLI
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus, first_best, tightest_gpu


class GpuPacking:
    name = "gpupacking"

    def __init__(self) -> None:
        self.epoch = 0

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        gpus = tightest_gpu(state, shape, rows)
        if not shape.gpus:
            return np.zeros((len(rows), 1)), gpus
        free, count = state.gpu_free[rows], state.gpu_count[rows]
        whole = (free == MILLI).sum(axis=1)
        taken = free[np.arange(len(rows)), gpus]
        needed = np.where(taken == MILLI, 1, 0) if shape.shared else np.full(len(rows), shape.gpus)
        shared = np.maximum(50, 100 - (taken * 100 // MILLI) // 10)
        score = np.where(needed > 0, np.maximum(33, 50 - needed), shared)
        score = np.where(whole == count, np.maximum(33 - whole, whole), score)
        return score.astype(np.float64)[:, None], gpus

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
