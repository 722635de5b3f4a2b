"""PWR+FGD (Lettich et al., CCGrid 2025, arXiv 2412.17484): FGD's score and the added power, added up.

    PWR = int(P_before − P_after), min-max normalised to 0..100 over the nodes that fit;   score = 0.1 · PWR
    + 0.9 · FGD P   = Σ GPUs (peak if used at all, else idle) + Σ CPU packages (peak if used, else idle)

One CPU package holds 2 × cores threads, used packages = ceil(threads in use / threads of a package). Watts
are those of the authors' published code (data sheets; made-up numbers for the undisclosed models G1–G3).
That code was read in parts: how packages are counted, and the CPU of G2, G3 and A10 nodes (taken as their
A100 nodes'), are this file's reading. The GPU of a share is FGD's choice, which carries the larger weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.shares import MILLI, ShareClass
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape
from simulator.policies.fgd import fragment_growth, quantised
from simulator.policy import Floats, Gpus

_PWR_WEIGHT = 0.1
_GPU_WATTS = {
    "T4": (10.0, 70.0),
    "A10": (30.0, 150.0),
    "P100": (25.0, 250.0),
    "V100M16": (30.0, 300.0),
    "V100M32": (30.0, 300.0),
}
_OTHER_GPU_WATTS = (25.0, 250.0)
_CPU_WATTS = {  # idle, peak, cores of a package
    "T4": (20.0, 165.0, 24.0),
    "P100": (15.0, 120.0, 16.0),
    "V100M16": (20.0, 185.0, 16.0),
    "V100M32": (20.0, 185.0, 16.0),
}
_OTHER_CPU_WATTS = (20.0, 270.0, 32.0)


class PwrFgd:
    name = "pwr-fgd"

    def __init__(self, state: ClusterState, target: Sequence[ShareClass]) -> None:
        self.epoch = 0
        self._gradient = ShareGradient(target, state.models)
        gpu = [_GPU_WATTS.get(model, _OTHER_GPU_WATTS) for model in state.models]
        cpu = [_CPU_WATTS.get(model, _OTHER_CPU_WATTS) for model in state.models]
        self._gpu_watts = np.array([peak - idle for idle, peak in gpu])
        self._cpu_watts = np.array([peak - idle for idle, peak, _ in cpu])
        self._package_milli = np.array([2.0 * cores * 1000.0 for _, _, cores in cpu])

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        growth, gpus = fragment_growth(self._gradient, state, shape, rows)
        model = state.model[rows]
        if shape.shared:
            woken = (state.gpu_free[rows, gpus] == MILLI).astype(np.float64)
        else:
            woken = np.full(len(rows), float(shape.gpus))
        package = self._package_milli[model]
        used = state.cpu_capacity[rows] - state.cpu[rows]
        opened = np.ceil((used + shape.cpu_milli) / package) - np.ceil(used / package)
        watts = woken * self._gpu_watts[model] + opened * self._cpu_watts[model]
        return np.stack([quantised(-growth, 1000.0), np.trunc(-watts)], axis=1), gpus

    def choose(self, scores: Floats, candidates: Rows) -> int:
        fgd, saved = scores[candidates, 0], scores[candidates, 1]
        low, high = saved.min(), saved.max()
        pwr = np.floor((saved - low) * 100.0 / (high - low)) if high > low else np.full(len(saved), 100.0)
        total = np.round(_PWR_WEIGHT * pwr + (1.0 - _PWR_WEIGHT) * fgd, 9)
        return int(candidates[int(total.argmax())])

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        return None
