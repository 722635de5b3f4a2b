"""What a fleet's GPUs look like once its pods are placed: in use, entirely free, too scattered to be of use.

Counted in GPU equivalents (a 1g.10gb of an 8-unit card is 1/8). ``stranded`` is free capacity that none of
the cluster's own pod shapes could use: all that is free on nodes where no shape fits (by GPUs, model, CPU or
memory), and on the others the MIG units that no instance can cover. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.policy import ClusterPolicy
from dra.mig import geometry
from scheduler.columns import Columns
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.node_classes import classifier_of
from scheduler.prediction import expected, predict
from scheduler.scoring.context import hour_by_model

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Usage:
    """GPU equivalents ``capacity``, ``in_use`` and ``stranded``; entirely free GPUs and nodes with GPUs;
    ``largest_pod``: the largest demand for GPUs of one node that still fits ("4 GPUs", "3g.40gb", "none");
    ``money_per_hour``: what the GPUs in use cost by the policy's prices.
    """

    nodes: int
    capacity: float
    in_use: float
    free_gpus: int
    free_nodes: int
    largest_pod: str
    stranded: float
    money_per_hour: float


def fits(fleet: Fleet, columns: Columns, demand: Demand) -> Flags:
    """bool[rows]: where the demand fits by GPUs, CPU and memory."""
    found = predict(columns, expected(columns), demand, fleet.hardware, fleet.profiles).feasible
    room = (columns.cpu_free >= demand.cpu_milli) & (columns.memory_free >= demand.memory_mib)
    result: Flags = found & room & columns.valid
    return result


def capacity_and_use(fleet: Fleet, columns: Columns) -> tuple[Floats, Floats]:
    """float64[rows] GPU equivalents there are, and those in use."""
    models = fleet.hardware.models
    units = np.append(fleet.hardware.model_facts("units", lambda model: model.units), 1.0)
    exists = columns.model_id >= 0
    taken = np.where(exists, np.bitwise_count(columns.occupied), 0) / units[columns.model_id]
    total = exists.sum(axis=1).astype(np.float64)
    used: Floats = taken.sum(axis=1)
    for position, profile in enumerate(fleet.profiles.values):
        there = columns.static_total[:, position]
        if there.any():
            sizes = [
                spec.size / model.units if (spec := model.profile(profile)) is not None else 1.0 / model.units
                for model in models
            ]
            size = np.array([*sizes, 0.0])[columns.row_model]
            total += there * size
            used += columns.static_used[:, position] * size
    shared = columns.shared_total > 0
    total += np.where(shared, columns.shared_gpus, 0)
    used += columns.shared_used * columns.shared_gpus / np.maximum(columns.shared_total, 1)
    return total, used


def usage(fleet: Fleet, policy: ClusterPolicy, shapes: Iterable[Demand]) -> Usage:
    """Count a fleet's GPUs. ``shapes``: the demands that the cluster's pods make."""
    with fleet.lock:
        fleet.classify(classifier_of(policy))
        columns = fleet.view()
        total, used = capacity_and_use(fleet, columns)
        rows = columns.valid & (total > 0.0)
        free = np.where(rows, total - used, 0.0)
        usable = np.zeros(len(columns), dtype=np.bool_)
        for shape in shapes:
            usable |= fits(fleet, columns, shape)
        stranded = np.where(usable, _uncoverable(fleet, columns), free)
        idle = (columns.model_id >= 0) & (columns.occupied == 0) & columns.whole & rows[:, None]
        return Usage(
            nodes=int(rows.sum()),
            capacity=float(total[rows].sum()),
            in_use=float(used[rows].sum()),
            free_gpus=int(idle.sum()),
            free_nodes=int((rows & (used == 0.0)).sum()),
            largest_pod=_largest(fleet, columns, idle),
            stranded=float(stranded[rows].sum()),
            money_per_hour=float((used * _gpu_hour(fleet, policy, columns))[rows].sum()),
        )


def _gpu_hour(fleet: Fleet, policy: ClusterPolicy, columns: Columns) -> Floats:
    """float64[rows]: money per GPU-hour, by node class, else by model."""
    own = np.array(
        [np.nan if found.gpu_hour is None else found.gpu_hour for found in policy.nodes] + [np.nan]
    )
    by_class = own[columns.class_id]
    result: Floats = np.where(
        np.isnan(by_class), hour_by_model(policy, fleet.hardware)[columns.row_model], by_class
    )
    return result


def _uncoverable(fleet: Fleet, columns: Columns) -> Floats:
    """float64[rows]: GPU equivalents in MIG units that no instance can cover."""
    lost = np.zeros(columns.model_id.shape)
    cut = (columns.order_id > 0) & (columns.occupied > 0) & (columns.occupied < columns.full)
    for row, gpu in zip(*np.nonzero(cut), strict=True):
        model = fleet.hardware.models[int(columns.model_id[row, gpu])]
        lost[row, gpu] = geometry(model).stranded_units(int(columns.occupied[row, gpu])) / model.units
    result: Floats = lost.sum(axis=1)
    return result


def _largest(fleet: Fleet, columns: Columns, idle: Flags) -> str:
    most = int(idle.sum(axis=1).max(initial=0))
    if most:
        return f"{most} GPU{'' if most == 1 else 's'}"
    sizes: dict[str, float] = {}
    for model in fleet.hardware.models:
        for profile in model.profiles:
            sizes[profile.name] = max(sizes.get(profile.name, 0.0), profile.size / model.units)
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if fits(fleet, columns, Demand((GpuRequest("mig", name, 1),))).any():
            return name
    if fits(fleet, columns, Demand((GpuRequest("shared", None, 1),))).any():
        return "1 shared GPU"
    return "none"
