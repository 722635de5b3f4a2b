"""The knapsack of shared GPUs: what any free part of a GPU, or a node's free GPUs, can earn under given
prices.

GPUs here are cut anywhere (time-slicing, MPS, HAMi-core), not on a MIG grid: a state is the free share, in
steps of ``unit_milli``. Several price vectors are solved at once, one a row b:

    T[b, f] = max over shares w ≤ f of  worth[b, w] + T[b, f − w]           (unbounded knapsack; T[b, 0] = 0)
    W[b, F] = max over k ≤ F of  whole[b, k] + W[b, F − k],  whole[b, 1] ≥ T[b, one GPU]

W is for F entirely free GPUs of one node, ``whole[b, k]`` the price of a pod of k whole GPUs. Both are
exact for the demand taken as plentiful (Gilmore & Gomory 1961), so they price columns and value states
alike. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MILLI = 1000
_FINEST_MILLI = 10
"""Steps below 1 % of a GPU would make the tables long for nothing: shares are rounded up to it."""


@dataclass(frozen=True, slots=True)
class ShareClass:
    """Pods that ask for the same: ``gpu_milli`` of each of ``gpus`` GPUs (0: none) and ``cpu_milli``.

    ``models`` empty means any model. ``count``: how many are expected.
    """

    gpus: int
    gpu_milli: int
    cpu_milli: int
    models: tuple[str, ...] = ()
    count: float = 1.0

    def allows(self, model: str) -> bool:
        """Whether it may run on ``model``; without a GPU anywhere, with one nowhere that has none (model
        "").
        """
        return self.gpus == 0 or (bool(model) and (not self.models or model in self.models))

    @property
    def total_gpu_milli(self) -> int:
        return self.gpus * self.gpu_milli


def unit_of(classes: Sequence[ShareClass]) -> int:
    """The step of the tables, in milli-GPU: the greatest common divisor of all shares, at least 10."""
    step = MILLI
    for item in classes:
        if item.gpus == 1 and item.gpu_milli < MILLI:
            step = gcd(step, item.gpu_milli)
    return step if step >= _FINEST_MILLI else _FINEST_MILLI


@dataclass(frozen=True, slots=True)
class ShareTable:
    """``values``: T [b, units + 1]; ``choice``: index of the weight taken first, -1 for none, -2 to leave
    one unit.
    """

    values: Floats
    choice: Ints

    def filling(self, row: int, free: int, classes: Ints, weights: Ints) -> tuple[tuple[int, float], ...]:
        """The optimal filling of ``free`` units under price row ``row``, by class; ``classes`` [b, w]."""
        taken: Counter[int] = Counter()
        while free > 0 and (choice := int(self.choice[row, free])) != -1:
            if choice >= 0:
                taken[int(classes[row, choice])] += 1
            free -= int(weights[choice]) if choice >= 0 else 1
        return tuple((index, float(number)) for index, number in sorted(taken.items()))


@dataclass(frozen=True, slots=True)
class Best:
    """The dearest class of each weight or size, by price row: ``value`` and ``index`` [b, k]."""

    value: Floats
    index: Ints


class ShareOffers:
    """The classes indexed for the knapsacks: distinct ``weights`` of shares (units), ``sizes`` of whole-GPU
    pods, and ``allowed`` bool[models, classes].
    """

    def __init__(self, classes: Sequence[ShareClass], models: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.models = tuple(models)
        self.unit_milli = unit_of(classes)
        self.units = MILLI // self.unit_milli
        self.cpu_milli: Floats = np.array([item.cpu_milli for item in classes], dtype=np.float64)
        self.size_milli: Floats = np.array([item.total_gpu_milli for item in classes], dtype=np.float64)
        self.allowed = np.array(
            [[item.allows(model) for item in classes] for model in models], dtype=np.bool_
        )
        shared: dict[int, list[int]] = {}
        whole: dict[int, list[int]] = {}
        for index, item in enumerate(classes):
            if item.gpus == 1 and item.gpu_milli < MILLI:
                shared.setdefault(-(-item.gpu_milli // self.unit_milli), []).append(index)
            elif item.gpus >= 1:
                whole.setdefault(item.gpus, []).append(index)
        self.weights: Ints = np.array(sorted(shared), dtype=np.int64)
        self.sizes: Ints = np.array(sorted(whole), dtype=np.int64)
        self._by_weight = [np.array(shared[weight]) for weight in sorted(shared)]
        self._by_size = [np.array(whole[size]) for size in sorted(whole)]

    def worth(
        self, net: Floats, model: Ints, cpu_price: Floats, fits: NDArray[np.bool_] | None = None
    ) -> tuple[Best, Best]:
        """Per price row b (its ``model`` and ``cpu_price``): the best class of each share and of each size,
        at its ``net`` [classes] price less its CPU, of those that ``fits`` bool[b, classes] leaves.
        """
        allowed = self.allowed[model] if fits is None else self.allowed[model] & fits
        value = np.where(allowed, net - cpu_price[:, None] * self.cpu_milli, -1.0)
        return _best(value, self._by_weight), _best(value, self._by_size)


def _best(value: Floats, groups: Sequence[Ints]) -> Best:
    found, index = np.zeros((len(value), len(groups))), np.zeros((len(value), len(groups)), dtype=np.int64)
    for position, members in enumerate(groups):
        winner = value[:, members].argmax(axis=1)
        index[:, position] = members[winner]
        found[:, position] = value[np.arange(len(value)), index[:, position]]
    return Best(found, index)


def share_table(worth: Floats, weights: Ints, units: int) -> ShareTable:
    """Solve T. ``worth`` [b, w]: price of one pod of weight ``weights`` [w] in units; not positive: never
    taken.
    """
    batch = worth.shape[0]
    values = np.zeros((batch, units + 1))
    choice = np.full((batch, units + 1), -1, dtype=np.int64)
    order = np.argsort(weights, kind="stable")
    sizes, gains = weights[order], worth[:, order]
    rows = np.arange(batch)
    for free in range(1, units + 1):
        fitting = int(np.searchsorted(sizes, free, side="right"))
        values[:, free] = values[:, free - 1]
        choice[:, free] = np.where(choice[:, free - 1] == -1, -1, -2)
        if fitting == 0:
            continue
        after = gains[:, :fitting] + values[:, free - sizes[:fitting]]
        best = after.argmax(axis=1)
        found = after[rows, best]
        better = (found > values[:, free] + 1e-12) & (gains[rows, best] > 0.0)
        values[better, free] = found[better]
        choice[better, free] = order[best[better]]
    return ShareTable(values, choice)


def whole_table(worth: Floats, opened: Floats, sizes: Ints, most: int) -> tuple[Floats, Ints]:
    """Solve W [b, most + 1] and what is taken first: index into ``sizes``, -1 one GPU opened for shares, -2
    leave one.

    ``worth`` [b, k]: price of a pod of ``sizes`` [k] whole GPUs; ``opened`` [b]: T of one GPU.
    """
    batch = worth.shape[0]
    values, choice = np.zeros((batch, most + 1)), np.full((batch, most + 1), -2, dtype=np.int64)
    for free in range(1, most + 1):
        values[:, free], choice[:, free] = values[:, free - 1] + opened, np.where(opened > 0.0, -1, -2)
        for index in np.flatnonzero(sizes <= free).tolist():
            after = worth[:, index] + values[:, free - int(sizes[index])]
            better = after > values[:, free] + 1e-12
            values[better, free] = after[better]
            choice[better, free] = index
    return values, choice
