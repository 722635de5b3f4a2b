"""What a placement policy is: scores of the rows it is asked about, and a choice among them.

A run keeps every shape's scores as vectors and asks only for rows that changed since (``scores``), so a
policy must depend on nothing but those rows, its target workload and what it was told by ``observe``. When
something else changes (new prices), it raises ``epoch`` and all vectors are asked for anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.share_repack import Move
from simulator.cluster_state import ClusterState, Rows
from simulator.openb import PodShape

Floats = NDArray[np.float64]
Gpus = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one arrival went: ``shape`` is an index into the shapes of the run."""

    shape: int
    row: int
    gpus: tuple[int, ...]


class Policy(Protocol):
    """One run's policy: it may keep state, a new run makes a new one."""

    name: str
    epoch: int

    def scores(self, state: ClusterState, shape: PodShape, rows: Rows) -> tuple[Floats, Gpus]:
        """float64[rows, c], what ``choose`` needs of each row (higher is better), and int64[rows], the GPU a
        shared pod would get. Rows on which the pod does not fit may hold anything.
        """

    def choose(self, scores: Floats, candidates: Rows) -> int:
        """The row to take among ``candidates``, ascending and not empty; ``scores`` is [n, c]."""

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        """A pod has arrived; called before it is placed."""


class Mover(Protocol):
    """A policy that also moves placed pods."""

    def moves(
        self,
        state: ClusterState,
        shapes: Sequence[PodShape],
        placed: Sequence[Placed],
        wanted: int | None,
    ) -> Sequence[Move]:
        """Moves to carry out now, in this order, ``Move.pod`` an index into ``placed``. ``wanted``: index of
        the shape that just arrived and fits nowhere; None before any other arrival.
        """


def first_best(scores: Floats, candidates: Rows) -> int:
    """The best of column 0; of equals the node of the smallest name, as the published runs break ties."""
    return int(candidates[int(scores[candidates, 0].argmax())])


def tightest_gpu(state: ClusterState, shape: PodShape, rows: Rows) -> Gpus:
    """The GPU with the least room that still fits a share; the lowest of equals."""
    free = state.gpu_free[rows]
    room = np.where(free >= shape.gpu_milli, free, np.iinfo(np.int64).max)
    result: Gpus = room.argmin(axis=1)
    return result


class RandomTies:
    """Picks among the equals of the best of column 0, each as likely, as kube-scheduler does."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, scores: Floats, candidates: Rows) -> int:
        values = scores[candidates, 0]
        best = np.flatnonzero(values == values.max())
        return int(candidates[best[self._random.integers(best.size)]])
