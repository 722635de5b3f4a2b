"""The price tables laid flat over all models, so that one gather values every GPU of every node.

    V(node) = W(F) + Σ over partly used GPUs of V(mask),   F = entirely free GPUs

``value`` and ``gradient`` hold V and FGD's F by (model, mask), ``free_value`` W by (model, F) where GPUs
can be cut, ``whole_value`` where they cannot. An entry of V at mask 0 is 0, because free GPUs are counted
by W. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel
from scheduler.packing.prices import PriceTables

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StateValues:
    """int64[models + 1] ``offset``, uint16[models + 1] ``keep`` (mask bits that count); float64[states]
    ``value``, ``gradient``; float64[models + 1, most free + 1] ``free_value``, ``whole_value``. The last
    model entry answers for "no GPU" with 0. ``known``: bool[models + 1], whether the tables have the model.
    """

    offset: NDArray[np.int64]
    keep: NDArray[np.uint16]
    value: Floats
    gradient: Floats
    free_value: Floats
    whole_value: Floats
    known: NDArray[np.bool_]


def state_values(tables: PriceTables, models: Sequence[GpuModel], most_free: int) -> StateValues:
    """Lay the tables out for ``models`` in id order; ``most_free`` is the largest number of free GPUs to
    look up.
    """
    offsets, keeps, values, gradients, known = [], [], [], [], []
    free_rows, whole_rows = [], []
    position = 0
    for model in models:
        states = 1 << model.units
        offsets.append(position)
        keeps.append(states - 1)
        position += states
        value = tables.gpu_value.get(model.name)
        known.append(value is not None and len(value) == states)
        flat = np.array(value, dtype=np.float64) if value is not None and known[-1] else np.zeros(states)
        flat[0] = 0.0
        values.append(flat)
        gradient = tables.gradient.get(model.name)
        gradients.append(gradient if gradient is not None and len(gradient) == states else np.zeros(states))
        free = tables.node_value.get(model.name)
        free_rows.append(_stretched(free, most_free))
        whole = tables.whole_value.get(model.name)
        whole_rows.append(_stretched(whole if whole is not None else free, most_free))
    nothing = np.zeros(most_free + 1)
    return StateValues(
        offset=np.array([*offsets, position], dtype=np.int64),
        keep=np.array([*keeps, 0], dtype=np.uint16),
        value=np.concatenate([*values, np.zeros(1)]),
        gradient=np.concatenate([*gradients, np.zeros(1)]),
        free_value=np.array([*free_rows, nothing]),
        whole_value=np.array([*whole_rows, nothing]),
        known=np.array([*known, True], dtype=np.bool_),
    )


def _stretched(table: Floats | None, most_free: int) -> Floats:
    """The table up to ``most_free``; beyond its end each further GPU adds what the last one did."""
    if table is None or len(table) == 0:
        return np.zeros(most_free + 1)
    if len(table) > most_free:
        return np.asarray(table[: most_free + 1], dtype=np.float64)
    step = float(table[-1] - table[-2]) if len(table) > 1 else 0.0
    more = float(table[-1]) + step * np.arange(1, most_free + 2 - len(table))
    return np.concatenate([table, more])
