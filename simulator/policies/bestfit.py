"""BestFit: the node with the least left over, CPU and GPU weighing alike (the baseline of the FGD paper, as
coded).

    score = int(100 · (1 − Σ_i ½ · (free_i − asked_i) / largest_i)),   i over CPU (128 cores) and GPU (8
    GPUs).

Their min-max normalisation changes no order and is left out. A share takes the tightest GPU.
"""

from __future__ import annotations

import numpy as np

from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus, first_best, tightest_gpu

LARGEST_CPU_MILLI = 128_000
LARGEST_GPU_MILLI = 8_000


class BestFit:
    name = "bestfit"

    def __init__(self) -> None:
        self.epoch = 0

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        cpu = (state.cpu[rows] - shape.cpu_milli) / LARGEST_CPU_MILLI
        gpu = (state.gpu_free[rows].sum(axis=1) - shape.total_gpu_milli) / LARGEST_GPU_MILLI
        # Rounded first: their arithmetic and ours differ in the last bit where the result is a whole number.
        score = np.floor(np.round(100.0 * (1.0 - 0.5 * cpu - 0.5 * gpu), 9))
        return score[:, None], tightest_gpu(state, shape, rows)

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
