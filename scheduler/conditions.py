"""What the price loop reads of the fleet: free capacity by state, and how many pods ask for what.

Under the fleet's lock only a few columns are copied (5,000 nodes: well under a millisecond), since requests
wait for that lock. The counting is done on the copies.

Occupied here means facts plus expectations (``Columns.occupied``): room that is promised is not for sale.
GPUs that are cut on demand are counted by state; GPUs that are offered whole only, by how many a node has
free; fixed MIG instances by profile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cluster.policy import ClusterPolicy
from dra.catalog import GpuModel
from scheduler.columns import Columns
from scheduler.fleet import Fleet
from scheduler.packing.mix import observe
from scheduler.packing.supply import FleetSummary
from scheduler.price_loop import Conditions

_COPIED = (
    "valid",
    "occupied",
    "full",
    "model_id",
    "order_id",
    "whole",
    "row_model",
    "static_total",
    "static_used",
)


def read_conditions(fleet: Fleet, policy: ClusterPolicy) -> Conditions:
    """Read everything that prices follow from."""
    with fleet.lock:
        view = fleet.view()
        copies = {name: getattr(view, name).copy() for name in _COPIED}
        models = list(fleet.hardware.models)
        profiles = list(fleet.profiles.values)
        pods = list(fleet.facts.pods.values())
    # Pods of one shape share one Demand object: counting by identity spares hashing 50,000 of them.
    demands = [pod.demand for pod in pods]
    by_identity = {id(demand): demand for demand in demands}
    counts = Counter(map(id, demands))
    return Conditions(
        summary=summarise(copies, models, profiles),
        observed=observe((demand, counts[key]) for key, demand in by_identity.items() if demand is not None),
        prior=policy.demand.classes,
        half_life_seconds=policy.demand.half_life_seconds,
        gpu_hour=policy.prices.gpu_hour,
        gpu_hour_by_model=policy.prices.gpu_hour_by_model,
    )


def summary_of(columns: Columns, models: Sequence[GpuModel], profiles: Sequence[str]) -> FleetSummary:
    """Count the states of columns that the caller may read."""
    return summarise({name: getattr(columns, name) for name in _COPIED}, models, profiles)


def summarise(
    columns: Mapping[str, npt.NDArray[np.generic]], models: Sequence[GpuModel], profiles: Sequence[str]
) -> FleetSummary:
    """Count the states. ``columns``: those named in ``_COPIED``; ``models`` and ``profiles`` by id."""
    model_id = columns["model_id"].astype(np.int64)
    occupied = columns["occupied"].astype(np.int64)
    exists = (model_id >= 0) & columns["valid"].astype(np.bool_)[:, None]
    cut = exists & (columns["order_id"].astype(np.int64) > 0)
    idle = exists & (occupied == 0)
    free = idle & columns["whole"].astype(np.bool_)
    partly = cut & (occupied > 0) & (occupied < columns["full"].astype(np.int64))

    gpu_states: Counter[tuple[str, int]] = Counter()
    keys, counts = np.unique(model_id[partly] << 16 | occupied[partly], return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        gpu_states[models[key >> 16].name, key & 0xFFFF] += count

    free_nodes: Counter[tuple[str, int]] = Counter()
    whole_nodes: Counter[tuple[str, int]] = Counter()
    present = np.unique(model_id[exists]).tolist()
    for index in present:
        of_model = free & (model_id == index)
        for found, cells in ((free_nodes, of_model & cut), (whole_nodes, of_model & ~cut)):
            numbers, nodes = np.unique(cells.sum(axis=1), return_counts=True)
            for number, count in zip(numbers.tolist(), nodes.tolist(), strict=True):
                if number:
                    found[models[index].name, number] += count
        # GPUs offered in parts only (MIG mode on, no whole device): each for itself, so that no k-GPU pod
        # counts on them.
        parts_only = int((idle & cut & ~free & (model_id == index)).sum())
        if parts_only:
            free_nodes[models[index].name, 1] += parts_only

    static: Counter[tuple[str, str]] = Counter()
    left = (columns["static_total"].astype(np.int64) - columns["static_used"].astype(np.int64)).clip(min=0)
    row_model = columns["row_model"].astype(np.int64)
    for column in range(min(left.shape[1], len(profiles))):
        for row in np.flatnonzero((left[:, column] > 0) & (row_model >= 0)).tolist():
            model = models[row_model[row]]
            if model.profile(profiles[column]) is not None:
                static[model.name, profiles[column]] += int(left[row, column])

    names = {name for name, _ in [*gpu_states, *free_nodes, *whole_nodes]} | {name for name, _ in static}
    names |= {models[index].name for index in present}
    return FleetSummary(
        models={model.name: model for model in models if model.name in names},
        gpu_states=gpu_states,
        free_nodes=free_nodes,
        whole_nodes=whole_nodes,
        static_instances=static,
    )
