"""The price tables laid flat over all models, so that one gather values every GPU of every node.

    V(node) = W(F) + Σ over partly used GPUs of V(mask) + fixed instances,   F = entirely free GPUs

``value`` and ``gradient`` hold V and FGD's F by (model, mask), ``free_value`` W by (model, F) where GPUs
can be cut, ``whole_value`` where they cannot. An entry of V at mask 0 is 0, because free GPUs are counted
by W. ``hosts`` holds the same for nodes short of CPU or memory (``packing.host_tables``). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel
from scheduler.packing.host_tables import HostTables
from scheduler.packing.prices import PriceTables

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HostValues:
    """``price`` [levels, 2]; by state, by (model, free GPUs) that can be cut and that cannot, and by (model,
    profile): the values at every level [..., levels] and, as ``base``, that at level 0 with the CPU and the
    memory that its fillings take [..., 3].
    """

    price: Floats
    value: Floats
    free_value: Floats
    whole_value: Floats
    static_value: Floats
    base: Floats
    free_base: Floats
    whole_base: Floats
    static_base: Floats


@dataclass(frozen=True, slots=True)
class StateValues:
    """int64[models + 1] ``offset``, uint16[models + 1] ``keep`` (mask bits that count); float64[states]
    ``value``, ``gradient``; float64[models + 1, most free + 1] ``free_value``, ``whole_value``. The last
    model entry answers for "no GPU" with 0. ``known``: bool[models + 1], whether the tables have the model.
    ``gradient_steps``: float64[(thresholds + 1) · states], F by free CPU: the k-th run of states holds where
    it reaches k of ``gradient_cpu``.
    """

    offset: NDArray[np.int64]
    keep: NDArray[np.uint16]
    value: Floats
    gradient: Floats
    free_value: Floats
    whole_value: Floats
    known: NDArray[np.bool_]
    gradient_steps: Floats
    gradient_cpu: Floats
    hosts: HostValues | None


def state_values(
    tables: PriceTables, models: Sequence[GpuModel], most_free: int, profiles: Sequence[str] = ()
) -> StateValues:
    """Lay the tables out for ``models`` in id order; ``most_free`` is the largest number of free GPUs to
    look up, ``profiles`` those of fixed instances in id order.
    """
    offsets, keeps, values, gradients, steps, known = [], [], [], [], [], []
    free_rows, whole_rows = [], []
    runs = len(tables.gradient_cpu) + 1
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
        step = tables.gradient_steps.get(model.name)
        steps.append(step if step is not None and step.shape == (runs, states) else np.zeros((runs, states)))
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
        gradient_steps=np.concatenate([*steps, np.zeros((runs, 1))], axis=1).ravel(),
        gradient_cpu=tables.gradient_cpu,
        hosts=_host_values(tables.hosts, models, most_free, profiles) if tables.hosts is not None else None,
    )


def _host_values(
    tables: HostTables, models: Sequence[GpuModel], most_free: int, profiles: Sequence[str]
) -> HostValues:
    levels = len(tables.price)
    states = [1 << model.units for model in models]

    def by_state(found: Mapping[str, NDArray[np.floating]], width: int) -> Floats:
        parts = [
            found[model.name].copy()
            if model.name in found and len(found[model.name]) == count
            else np.zeros((count, width))
            for model, count in zip(models, states, strict=True)
        ]
        for part in parts:
            part[0] = 0.0
        return np.concatenate([*parts, np.zeros((1, width))])

    def by_free(found: Mapping[str, NDArray[np.floating]], width: int) -> Floats:
        rows = np.zeros((len(models) + 1, most_free + 1, width))
        for index, model in enumerate(models):
            if model.name in found:
                table = found[model.name]
                for column in range(width):
                    rows[index, :, column] = _stretched(table[:, column].astype(np.float64), most_free)
        return rows

    def by_profile(found: Mapping[str, Mapping[str, NDArray[np.floating]]], width: int) -> Floats:
        rows = np.zeros((len(models) + 1, max(1, len(profiles)), width))
        for index, model in enumerate(models):
            for column, profile in enumerate(profiles):
                worth = found.get(model.name, {}).get(profile)
                if worth is not None:
                    rows[index, column] = worth
        return rows

    value = by_state(tables.gpu, levels)
    free, whole = by_free(tables.node, levels), by_free(tables.whole, levels)
    static = by_profile(tables.static, levels)
    return HostValues(
        price=tables.price,
        value=value,
        free_value=free,
        whole_value=whole,
        static_value=static,
        base=np.concatenate([value[..., :1], by_state(tables.gpu_need, 2)], axis=-1),
        free_base=np.concatenate([free[..., :1], by_free(tables.node_need, 2)], axis=-1),
        whole_base=np.concatenate([whole[..., :1], by_free(tables.whole_need, 2)], axis=-1),
        static_base=np.concatenate([static[..., :1], by_profile(tables.static_need, 2)], axis=-1),
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
