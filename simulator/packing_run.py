"""One run of the packing protocol: pods arrive one at a time and stay; the policy chooses among nodes that
fit.

Scores are kept as one vector a shape; a placement changes one row, so an arrival recomputes only the rows
that changed since its shape was last seen. That makes 10,000 arrivals on 1,213 nodes a matter of seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.share_repack import Move
from simulator.cluster_state import ClusterState
from simulator.openb import PodShape, arrived_percent
from simulator.policy import Floats, Placed, Policy


@dataclass(frozen=True, slots=True)
class RunResult:
    """``allocated_percent[k]``: mean GPU allocation over the arrivals with k % of capacity arrived, rounded
    (NaN where no arrival fell); ``failed``: pods that fitted nowhere; ``placed``: where each pod is at the
    end; ``moves``: how many times a placed pod was moved.
    """

    policy: str
    allocated_percent: NDArray[np.float64]
    failed: int
    placed: tuple[Placed, ...]
    seconds: float
    moves: int = 0

    @property
    def moved_percent(self) -> float:
        """Moves per 100 pods placed."""
        return 100.0 * self.moves / len(self.placed) if self.placed else 0.0

    def unallocated_at(self, arrived_percent: int) -> float:
        """% of all GPUs; where no arrival fell on that percent, as in small clusters, at the last before
        it.
        """
        seen = np.flatnonzero(np.isfinite(self.allocated_percent[: arrived_percent + 1]))
        return 100.0 - float(self.allocated_percent[seen[-1]]) if seen.size else 100.0


class _Scores:
    def __init__(self, shape: PodShape, state: ClusterState) -> None:
        self.shape = shape
        self.allowed = state.allows(shape)
        self.fits = np.zeros(state.size, dtype=np.bool_)
        self.values: Floats | None = None
        self.gpus = np.zeros(state.size, dtype=np.int64)
        self.seen = 0
        self.epoch = -1


def run(
    state: ClusterState,
    policy: Policy,
    shapes: tuple[PodShape, ...],
    order: NDArray[np.int64],
    *,
    until_percent: float = 131.0,
    clock: Callable[[], float] = time.perf_counter,
) -> RunResult:
    """Let the pods of ``order`` arrive until ``until_percent`` of the GPU capacity has been asked for."""
    began = clock()
    kept: dict[int, _Scores] = {}
    changed: list[int] = []
    everything = np.arange(state.size, dtype=np.int64)
    sums, counts = np.zeros(202), np.zeros(202)
    failed = moves = 0
    placed: list[Placed] = []
    move = getattr(policy, "moves", None)
    percents = arrived_percent(shapes, order, state.capacity_milli)
    for index, percent in zip(order.tolist(), percents.tolist(), strict=True):
        if percent > until_percent:
            break
        shape = shapes[index]
        policy.observe(state, shape)
        if move is not None:
            moves += _move(state, shapes, placed, changed, move(state, shapes, placed, None))
        scores = kept.get(index)
        if scores is None:
            scores = kept[index] = _Scores(shape, state)
        _refresh(scores, state, policy, changed, everything)
        candidates = np.flatnonzero(scores.fits)
        if not candidates.size and move is not None:
            made = _move(state, shapes, placed, changed, move(state, shapes, placed, index))
            if made:
                moves += made
                _refresh(scores, state, policy, changed, everything)
                candidates = np.flatnonzero(scores.fits)
        if candidates.size and scores.values is not None:
            row = policy.choose(scores.values, candidates)
            share = scores.gpus[row : row + 1]
            gpus = share if shape.shared else state.whole_gpus(row, shape.gpus)
            state.place(shape, row, gpus)
            changed.append(row)
            placed.append(Placed(index, row, tuple(gpus.tolist())))
        else:
            failed += 1
        bucket = min(round(percent), 201)
        sums[bucket] += 100.0 * state.allocated_milli / state.capacity_milli
        counts[bucket] += 1
    means = np.divide(sums, counts, out=np.full(202, np.nan), where=counts > 0)
    return RunResult(policy.name, means, failed, tuple(placed), clock() - began, moves)


def _move(
    state: ClusterState,
    shapes: Sequence[PodShape],
    placed: list[Placed],
    changed: list[int],
    moves: Sequence[Move],
) -> int:
    """Carry moves out, each reserved at its new place before the old one is given up; raises ValueError where
    one does not fit.
    """
    for move in moves:
        pod = placed[move.pod]
        if (pod.row, pod.gpus) != (move.from_row, move.from_gpus):
            raise ValueError(f"pod {move.pod} is at {pod.row} {pod.gpus}, got a move of it from {move}")
        shape = shapes[pod.shape]
        state.place(shape, move.to_row, np.array(move.to_gpus, dtype=np.int64))
        state.remove(shape, pod.row, np.array(pod.gpus, dtype=np.int64))
        placed[move.pod] = Placed(pod.shape, move.to_row, move.to_gpus)
        changed.extend((move.from_row, move.to_row))
    return len(moves)


def _refresh(
    scores: _Scores, state: ClusterState, policy: Policy, changed: list[int], everything: NDArray[np.int64]
) -> None:
    if scores.values is None or scores.epoch != policy.epoch:
        rows = everything
    elif scores.seen < len(changed):
        rows = np.unique(np.array(changed[scores.seen :], dtype=np.int64))
    else:
        return
    fits = state.fits(scores.shape, rows, scores.allowed)
    scores.fits[rows] = fits
    scores.seen = len(changed)
    scores.epoch = policy.epoch
    rows = rows[fits]
    values, gpus = policy.scores(state, scores.shape, rows)
    if scores.values is None:
        scores.values = np.zeros((state.size, values.shape[1]))
    scores.values[rows] = values
    scores.gpus[rows] = gpus
