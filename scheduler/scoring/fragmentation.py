"""Price of the capacity that a placement destroys for the expected demand.

    price = fragmentationDual × (V(before) − V(after)) + fragmentationGradient × gpu_hour × (F(after) −
    F(before))

V is the value, in money per hour, that the packing LP's duals give to a node's free space
(``scheduler.packing``): W(number of entirely free GPUs) plus V(mask) of each partly used GPU plus the net
prices of free fixed instances, or less where the node is short of the CPU or memory to use them
(``packing.host_tables``). F is Fragmentation Gradient Descent's fragment measure in GPUs (Weng et al.,
ATC'23), by free CPU, the tie-breaker where duals are flat. Replicas of shared GPUs are
valued apart, by their own LP and with the CPU of their nodes (``packing.shared_fleet``).

Without tables (the first LP is not solved yet, or a model is new) the term is absent for all rows: a node
must not look cheap for being unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.samples import NoData
from scheduler.columns import Columns, Masks
from scheduler.host_needs import UNLIMITED
from scheduler.packing.shared_fleet import (
    PLENTY_MILLI,
    SharedNodes,
    SharedTables,
    replicas_per_gpu,
)
from scheduler.packing.shares import MILLI
from scheduler.scoring.context import Floats, Price, TermContext, World
from scheduler.scoring.tables import HostValues

Rows = NDArray[Any]


def price(context: TermContext) -> Price:
    """Money per hour on each row; NoData before the first prices."""
    world = context.world
    if not world.tables.gpu_value and world.tables.shared is None:
        return NoData("the packing prices have not been solved yet", "empty")
    prices, columns, values = world.policy.prices, context.columns, world.values
    index = values.offset[columns.model_id]
    keep = values.keep[columns.model_id]
    before, after = index + (context.before & keep), index + (context.after & keep)
    if values.hosts is None:
        lost = node_value(world, columns, context.before) - node_value(world, columns, context.after)
        for profile, instances in context.static_instances.items():
            lost += instances * _class_price(context, profile)
        growth = values.gradient[after] - values.gradient[before]
    else:
        lost, growth = _with_hosts(context, values.hosts, before, after)
    hours = world.hour_by_model[columns.model_id]
    result: Floats = prices.fragmentation_dual * lost + prices.fragmentation_gradient * (growth * hours).sum(
        axis=1
    )
    if world.tables.shared is not None and context.shares.any():
        result += _replicas(context, world.tables.shared)
    return result


def _replicas(context: TermContext, shared: SharedTables) -> Floats:
    """The price of the replicas that the pod takes on each row."""
    world, columns, prices = context.world, context.columns, context.world.policy.prices
    found = np.zeros(len(columns))
    per_gpu = replicas_per_gpu(columns.shared_total.astype(np.int64), columns.shared_gpus.astype(np.int64))
    kind = np.full(len(columns), -1, dtype=np.int64)
    for index, (name, replicas) in enumerate(shared.kinds):
        model = next((i for i, model in enumerate(world.hardware.models) if model.name == name), -1)
        kind[(columns.row_model == model) & (per_gpu == replicas)] = index
    rows = np.flatnonzero((kind >= 0) & (columns.shared_total > 0))
    if not rows.size:
        return found
    cpu = columns.cpu_free[rows].astype(np.int64)
    alone = columns.gpu_count[rows] == 0
    nodes = SharedNodes(
        shared.kinds,
        kind[rows],
        np.where(alone & (cpu < UNLIMITED), cpu, PLENTY_MILLI),
        (columns.shared_total - columns.shared_used)[rows].astype(np.int64).clip(min=0),
    )
    cost = shared.cost_milli(
        nodes,
        context.shares[rows],
        context.cpu_milli[rows],
        prices.fragmentation_dual,
        prices.fragmentation_gradient,
    )
    found[rows] = cost / MILLI * world.hour_by_model[columns.row_model[rows]]
    return found


def _with_hosts(context: TermContext, hosts: HostValues, before: Rows, after: Rows) -> tuple[Floats, Floats]:
    """V lost on each row and F gained on each GPU, the pod's CPU and memory counted."""
    columns, values = context.columns, context.world.values
    free = (
        (columns.static_total - columns.static_used).astype(np.float64)
        if columns.static_total.any()
        else None
    )
    left = free
    if free is not None and context.static_instances:
        left = free.copy()
        for profile, instances in context.static_instances.items():
            left[:, context.world.profiles.id(profile)] -= instances
    cpu, memory = columns.cpu_free.astype(np.int64), columns.memory_free.astype(np.int64)
    cpu_left = np.where(cpu == UNLIMITED, UNLIMITED, np.maximum(0, cpu - context.cpu_milli))
    memory_left = np.where(memory == UNLIMITED, UNLIMITED, np.maximum(0, memory - context.memory_mib))
    lost = _host_value(columns, hosts, context.before, before, Room(cpu, memory, free))
    lost -= _host_value(columns, hosts, context.after, after, Room(cpu_left, memory_left, left))
    states = len(values.gradient)
    steps = values.gradient_steps
    reached = np.searchsorted(values.gradient_cpu, cpu, side="right")[:, None] * states
    reached_left = np.searchsorted(values.gradient_cpu, cpu_left, side="right")[:, None] * states
    return lost, steps[reached_left + after] - steps[reached + before]


def _static_free(columns: Columns) -> Floats | None:
    if not columns.static_total.any():
        return None
    free: Floats = (columns.static_total - columns.static_used).astype(np.float64)
    return free


@dataclass(frozen=True, slots=True)
class Room:
    """What rows have free beside GPUs: milli-CPU, MiB, fixed instances [rows, profiles] (None: no row has
    any).
    """

    cpu: NDArray[np.int64]
    memory: NDArray[np.int64]
    static: Floats | None


def _host_value(columns: Columns, hosts: HostValues, masks: Masks, index: Rows, room: Room) -> Floats:
    """V of each row's free space with ``masks`` occupied (``index``: into the states) and ``room`` left."""
    # Value at level 0, CPU and memory that its fillings take, added up over GPUs in one go.
    found: Floats = np.einsum("ngk->nk", hosts.base.take(index, axis=0))
    parts = list(_free_parts(columns, masks))
    for model, count, cut in parts:
        found += np.where(cut[:, None], hosts.free_base[model, count], hosts.whole_base[model, count])
    if room.static is not None:
        found += np.einsum("np,npk->nk", room.static, hosts.static_base[columns.row_model])
    total: Floats = found[:, 0]
    tight = np.flatnonzero((room.cpu < found[:, 1]) | (room.memory < found[:, 2]))
    if not tight.size:
        return total
    levels: Floats = np.einsum("ngk->nk", hosts.value.take(index[tight], axis=0))
    levels += room.cpu[tight, None] * hosts.price[:, 0] + room.memory[tight, None] * hosts.price[:, 1]
    for model, count, cut in parts:
        model, count = model[tight], count[tight]
        levels += np.where(cut[tight, None], hosts.free_value[model, count], hosts.whole_value[model, count])
    if room.static is not None:
        levels += np.einsum("np,npk->nk", room.static[tight], hosts.static_value[columns.row_model[tight]])
    total[tight] = levels.min(axis=1)
    return total


def _free_parts(columns: Columns, masks: Masks) -> Iterator[tuple[Rows, Rows, NDArray[np.bool_]]]:
    """(model, number of entirely free GPUs, whether they can be cut) of each row, to be added up."""
    free = masks == 0
    if not columns.mixed.any():
        yield columns.row_model, free.sum(axis=1), columns.order_id[:, 0] > 0
        return
    for model_id in np.unique(columns.model_id[columns.model_id >= 0]).tolist():
        own = free & (columns.model_id == model_id)
        for cut in (True, False):
            number = (own & ((columns.order_id > 0) == cut)).sum(axis=1)
            yield np.full(len(free), model_id), number, np.full(len(free), cut)


def node_value(world: World, columns: Columns, masks: Masks) -> Floats:
    """V of each row's free GPUs with ``masks`` occupied, CPU and memory in plenty; money per hour."""
    values = world.values
    index = values.offset[columns.model_id] + (masks & values.keep[columns.model_id])
    total: Floats = values.value[index].sum(axis=1)
    for model, count, cut in _free_parts(columns, masks):
        total += np.where(cut, values.free_value[model, count], values.whole_value[model, count])
    return total


def _class_price(context: TermContext, profile: str) -> float:
    tables = context.world.tables.class_price
    name = f"mig:{profile}"
    models = context.demand.models
    if models is not None:
        name = f"{name}@{','.join(sorted(models))}"
    return tables.get(name, tables.get(f"mig:{profile}", 0.0))
