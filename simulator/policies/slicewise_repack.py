"""Slicewise with moves: placed as ``slicewise`` does, and while GPUs run short a few placed pods are moved.

Moves are found by ``scheduler.packing.share_repack``: on a cadence those that gain most, and when a pod fits
nowhere those that make room for it. All moves together stay within a part of the pods placed so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_destinations import Destinations
from scheduler.packing.share_repack import Kind, Move, PlacedPods, Pricing, Repacker
from scheduler.packing.shares import ShareClass
from simulator.cluster_state import ClusterState
from simulator.openb import PodShape
from simulator.policies.slicewise import Slicewise
from simulator.policy import Placed

MOVED_PART = 0.0295
"""Moves per pod placed, at most."""
EVERY = 20
"""Arrivals between two looks for moves that gain."""
USABLE_PART = 0.09
"""Moves begin once no more than this part of the GPUs is free in pieces that most pods could use: before,
arrivals can still mend most.
"""
_LATE_PART = 0.03
"""Moves go on once all is taken, as if so much more were to come."""
_SMALL = 0.25
LEAST_GAIN_MILLI = 50.0
"""Of cost, so about 8 milli-GPU a move: where moves are left over, small gains add up."""
MOST_FOR_ONE = 3
_TRY_AGAIN_AFTER = 50
"""Arrivals before room is looked for again for a kind of pod that found none."""


class SlicewiseRepack(Slicewise):
    name = "slicewise-repack"

    def __init__(
        self,
        state: ClusterState,
        target: Sequence[ShareClass],
        demand: Sequence[ShareClass],
        *,
        moved_part: float = MOVED_PART,
        every: int = EVERY,
        usable_part: float = USABLE_PART,
        least_gain_milli: float = LEAST_GAIN_MILLI,
        most_for_one: int = MOST_FOR_ONE,
    ) -> None:
        super().__init__(state, target, demand)
        self._part, self._cadence, self._from = moved_part, every, usable_part
        self._least, self._most_for_one = least_gain_milli, most_for_one
        self._mean_milli = sum(item.count * item.total_gpu_milli for item in demand) / sum(
            item.count for item in demand
        )
        asked = sorted((item.gpu_milli, item.count) for item in demand if item.gpus)
        part = np.cumsum([count for _, count in asked]) / sum(count for _, count in asked)
        self._small_milli = asked[int(np.searchsorted(part, _SMALL))][0]
        self._since = self._spent = self._seen = 0
        self._credit = 0.0
        self._hopeless: dict[int, int] = {}
        self._destinations: Destinations | None = None

    def moves(
        self,
        state: ClusterState,
        shapes: Sequence[PodShape],
        placed: Sequence[Placed],
        wanted: int | None,
    ) -> Sequence[Move]:
        left = int(self._part * len(placed)) - self._spent
        found: list[Move] = []
        if wanted is None:
            self._seen += 1
            self._since += 1
            if self._since < self._cadence or left <= 0:
                return ()
            self._since = 0
            usable = float(state.gpu_free[state.gpu_free >= self._small_milli].sum())
            if usable > self._from * state.capacity_milli:
                return ()
            # What may still be moved is spread over the arrivals that the free GPUs are expected to take.
            expected = (usable + _LATE_PART * state.capacity_milli) / self._mean_milli
            self._credit = min(float(left), self._credit + left * self._cadence / expected)
            found = self._repacker(state, shapes, placed).improving_moves(int(self._credit), self._least)
            self._credit -= len(found)
        elif left > 0 and self._seen >= self._hopeless.get(wanted, 0):
            found = self._repacker(state, shapes, placed).room_for(wanted, min(left, self._most_for_one))
            if not found:
                self._hopeless[wanted] = self._seen + _TRY_AGAIN_AFTER
        self._spent += len(found)
        return found

    def _repacker(
        self, state: ClusterState, shapes: Sequence[PodShape], placed: Sequence[Placed]
    ) -> Repacker:
        if self._destinations is None:
            kinds = [
                Kind(ShareClass(shape.gpus, shape.gpu_milli, shape.cpu_milli, shape.models), shape.memory_mib)
                for shape in shapes
            ]
            self._destinations = Destinations(kinds, state.models)
        gpus = np.zeros((len(placed), state.gpu_free.shape[1]), dtype=np.bool_)
        numbers = [number for number, pod in enumerate(placed) for _ in pod.gpus]
        gpus[numbers, [gpu for pod in placed for gpu in pod.gpus]] = True
        pods = PlacedPods(
            np.arange(len(placed)),
            np.array([pod.shape for pod in placed], dtype=np.int64),
            np.array([pod.row for pod in placed], dtype=np.int64),
            gpus,
        )
        nodes = FreeNodes(state.model, state.cpu, state.gpu_free)
        pricing = Pricing(self._prices, self._gradient, self._dual, self._gradient_weight)
        known = self._destinations
        return Repacker(pricing, known.kinds, nodes, state.memory, pods, known)
