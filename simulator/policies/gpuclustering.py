"""GpuClustering: pods that ask for the same number of GPUs on the same nodes (as coded for the FGD paper).

    score = int(25 · (8 GPUs − free GPUs) / 8) + 75 on a node with this kind of pod only, + 50 with this and
    others,
            + 25 on a node with none, + 0 with others only.

The kinds are a share, one GPU, two GPUs and so on. A pod without a GPU scores every node alike. A share
takes the tightest GPU.
"""

from __future__ import annotations

import numpy as np

from simulator.cluster_state import ClusterState, Rows, tag
from simulator.openb import PodShape
from simulator.policies.bestfit import LARGEST_GPU_MILLI
from simulator.policy import Floats, Gpus, first_best, tightest_gpu


class GpuClustering:
    name = "gpuclustering"

    def __init__(self) -> None:
        self.epoch = 0

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        gpus = tightest_gpu(state, shape, rows)
        if not shape.gpus:
            return np.zeros((len(rows), 1)), gpus
        used = 25 * (LARGEST_GPU_MILLI - state.gpu_free[rows].sum(axis=1)) // LARGEST_GPU_MILLI
        same = state.tags[rows, tag(shape)] > 0
        kinds = (state.tags[rows] > 0).sum(axis=1)
        base = np.where(same, np.where(kinds == 1, 75, 50), np.where(kinds == 0, 25, 0))
        return (used + base).astype(np.float64)[:, None], gpus

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
