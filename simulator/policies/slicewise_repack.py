"""Slicewise with moves: placed as ``slicewise`` does, and while GPUs run short a few placed pods are moved.

Moves are found by ``scheduler.packing.share_repack``: on a cadence those that gain most, and when a pod fits
nowhere those that make room for it. All moves together stay within a part of the pods placed so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.packing.node_columns import FreeNodes
from scheduler.packing.share_repack import Kind, Move, PlacedPods, Pricing, Repacker
from scheduler.packing.shares import ShareClass
from simulator.cluster_state import ClusterState
from simulator.openb import PodShape
from simulator.policies.slicewise import Slicewise
from simulator.policy import Placed

MOVED_PART = 0.0295
"""Moves per pod placed, at most."""
EVERY = 25
FREE_PART = 0.1
LEAST_GAIN_MILLI = 400.0
MOST_FOR_ONE = 3
MILLI_PER_MOVE = 200


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
        free_part: float = FREE_PART,
        least_gain_milli: float = LEAST_GAIN_MILLI,
        most_for_one: int = MOST_FOR_ONE,
        milli_per_move: int = MILLI_PER_MOVE,
        per_call: int = 6,
    ) -> None:
        super().__init__(state, target, demand)
        self._part, self._cadence, self._from = moved_part, every, free_part
        self._least, self._most_for_one, self._per_move = least_gain_milli, most_for_one, milli_per_move
        self._per_call = per_call
        self._since = self._spent = 0
        self._hopeless: dict[int, int] = {}

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
            self._since += 1
            if (
                self._since < self._cadence
                or state.free_milli > self._from * state.capacity_milli
                or left <= 0
            ):
                return ()
            self._since = 0
            found = self._repacker(state, shapes, placed).improving_moves(
                min(left, self._per_call), self._least
            )
        elif left > 0:
            most = min(left, self._most_for_one, shapes[wanted].total_gpu_milli // self._per_move)
            if most >= 1 and self._hopeless.get(wanted, -1) != state.allocated_milli:
                found = self._repacker(state, shapes, placed).room_for(wanted, most)
                if not found:
                    self._hopeless[wanted] = state.allocated_milli
        self._spent += len(found)
        return found

    def _repacker(
        self, state: ClusterState, shapes: Sequence[PodShape], placed: Sequence[Placed]
    ) -> Repacker:
        kinds = [
            Kind(ShareClass(shape.gpus, shape.gpu_milli, shape.cpu_milli, shape.models), shape.memory_mib)
            for shape in shapes
        ]
        gpus = np.zeros((len(placed), state.gpu_free.shape[1]), dtype=np.bool_)
        for number, pod in enumerate(placed):
            gpus[number, list(pod.gpus)] = True
        pods = PlacedPods(
            np.arange(len(placed)),
            np.array([pod.shape for pod in placed], dtype=np.int64),
            np.array([pod.row for pod in placed], dtype=np.int64),
            gpus,
        )
        nodes = FreeNodes(state.model, state.cpu, state.gpu_free)
        pricing = Pricing(self._prices, self._gradient, self._dual, self._gradient_weight)
        return Repacker(pricing, kinds, nodes, state.memory, pods)
