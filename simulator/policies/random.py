"""Random: any node that fits, each as likely; a share takes any GPU that fits."""

from __future__ import annotations

import numpy as np

from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus


class Random:
    name = "random"

    def __init__(self, seed: int) -> None:
        self.epoch = 0
        self._random = np.random.default_rng(seed)

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        free = state.gpu_free[rows]
        drawn = np.where(free >= shape.gpu_milli, self._random.random(free.shape), -1.0)
        return np.zeros((len(rows), 1)), drawn.argmax(axis=1)

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return int(candidates[self._random.integers(candidates.size)])

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
