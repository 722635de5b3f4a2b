"""FGD, Fragmentation Gradient Descent (Weng et al., USENIX ATC'23): the node whose fragments grow least.

    score = int(100 · sigmoid((F_before − F_after) / 1000)),   F in milli-GPU
    (``scheduler.packing.share_gradient``).

A share tries every GPU that fits and takes the first of the best; whole GPUs are the lowest free ones. As
published, scores are whole numbers and of equal nodes the smallest name wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.shares import MILLI, ShareClass
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policy import Floats, Gpus, first_best

_SCALE_MILLI = 1000.0


class Fgd:
    name = "fgd"

    def __init__(self, state: ClusterState, target: Sequence[ShareClass]) -> None:
        self.epoch = 0
        self._gradient = ShareGradient(target, state.models)

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        growth, gpus = fragment_growth(self._gradient, state, shape, rows)
        return quantised(-growth, _SCALE_MILLI)[:, None], gpus

    def choose(self, scores: Floats, candidates: Rows) -> int:
        return first_best(scores, candidates)

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None


def quantised(gain: Floats, scale: float) -> Floats:
    """int(100 · sigmoid(gain / scale)) as float64; no gain is 50, whatever the last bits say."""
    return np.floor(100.0 / (1.0 + np.exp(-np.round(gain, 6) / scale)))


def fragment_growth(
    measure: ShareGradient, state: ClusterState, shape: PodShape, rows: Rows
) -> tuple[Floats, Gpus]:
    """F_after − F_before in milli-GPU [r], and the GPU it is least on [r] (0 for whole GPUs). Shares are
    compared after FGD's quantising, so that ties fall as published.
    """
    model, cpu, free = state.model[rows], state.cpu[rows], state.gpu_free[rows]
    before = measure.of(model, cpu, free)
    left = cpu - shape.cpu_milli
    if shape.shared:
        growth = measure.after_share(model, left, free, shape.gpu_milli) - before[:, None]
        score = np.where(free >= shape.gpu_milli, quantised(-growth, _SCALE_MILLI), -1.0)
        gpus = score.argmax(axis=1)
        return growth[np.arange(len(rows)), gpus], gpus
    if shape.gpus:
        whole = free == MILLI
        free = np.where(whole & (whole.cumsum(axis=1) <= shape.gpus), 0, free)
    return measure.of(model, left, free) - before, np.zeros(len(rows), dtype=np.int64)
