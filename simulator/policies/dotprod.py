"""DotProd: the node whose free resources align least with what the pod asks for (after Tetris, SIGCOMM'14,
as coded for the FGD paper with GPU dimensions merged and divided by the largest node).

    score = int(100 · (1 − ½ · Σ_i free_i · asked_i / largest_i²)),   i over CPU and GPU.

A share takes the tightest GPU.
"""

from __future__ import annotations

import numpy as np

from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policies.bestfit import LARGEST_CPU_MILLI, LARGEST_GPU_MILLI
from simulator.policy import Floats, Gpus, first_best, tightest_gpu


class DotProd:
    name = "dotprod"

    def __init__(self) -> None:
        self.epoch = 0

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        cpu = state.cpu[rows] * (shape.cpu_milli / LARGEST_CPU_MILLI**2)
        gpu = state.gpu_free[rows].sum(axis=1) * (shape.total_gpu_milli / LARGEST_GPU_MILLI**2)
        score = np.floor(np.round(100.0 * (1.0 - (cpu + gpu) / 2.0), 9))
        return score[:, None], tightest_gpu(state, shape, rows)

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
