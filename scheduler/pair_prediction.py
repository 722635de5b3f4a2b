"""Which devices first-fit gives each of many demands, each on a row of its own: ``prediction.predict`` for
pairs of demand and row.

Where a row changes, every demand that is asked about has to be priced on it. One by one, that is as many
passes over arrays of length one as there are demands; in pairs it is one pass. Only the common case is known
here (``is_common``, ``usual_rows``): one kind of device a demand, on nodes without fixed MIG instances where
``nvidia.com/gpu`` means a GPU. The rest is predicted as before, demand by demand. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import WHOLE_IS_GPU, Columns
from scheduler.demand import Demand
from scheduler.hardware import Hardware
from scheduler.prediction import Flags, Occupancy, Prediction, cut, ranks

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wants:
    """Demands as columns, one entry each. int64[d] ``whole``, ``shared`` and ``cut`` (how many, 0 where it
    asks for another kind), ``cpu_milli``, ``memory_mib``; bool[d, models + 1] ``models`` (which are accepted;
    the last answers for no model); ``profiles``: profile → the demands that ask for it. ``linked`` and
    ``loading``: demands that are alike in the links they need, and in image and weights: one of them, and
    which they are.
    """

    demands: tuple[Demand, ...]
    whole: Ints
    shared: Ints
    cut: Ints
    cpu_milli: Ints
    memory_mib: Ints
    models: Flags
    profiles: dict[str, Flags]
    linked: list[tuple[Demand, Flags]]
    loading: list[tuple[Demand, Flags]]


def is_common(demand: Demand) -> bool:
    """Whether the demand is one that is known here."""
    return demand.understood and len(demand.requests) == 1 and demand.requests[0].wish is None


def usual_rows(columns: Columns) -> Flags:
    """bool[k]: rows that are known here."""
    usual: Flags = (columns.whole_as == WHOLE_IS_GPU) & ~columns.static_total.any(axis=1)
    return usual


def wants_of(demands: Sequence[Demand], hardware: Hardware) -> Wants:
    """Lay common demands out."""
    requests = [demand.requests[0] for demand in demands]

    def counts(kind: str) -> Ints:
        return np.array([one.count if one.kind == kind else 0 for one in requests], dtype=np.int64)

    names = [model.name for model in hardware.models]
    accepted = [
        [demand.models is None or name in demand.models for name in names] + [False] for demand in demands
    ]
    profiles = {one.profile or "" for one in requests if one.kind == "mig"}
    return Wants(
        demands=tuple(demands),
        whole=counts("whole"),
        shared=counts("shared"),
        cut=counts("mig"),
        cpu_milli=np.array([demand.cpu_milli for demand in demands], dtype=np.int64),
        memory_mib=np.array([demand.memory_mib for demand in demands], dtype=np.int64),
        models=np.array(accepted, dtype=np.bool_).reshape(len(demands), len(names) + 1),
        profiles={
            profile: np.array([one.kind == "mig" and (one.profile or "") == profile for one in requests])
            for profile in sorted(profiles)
        },
        linked=_alike(
            demands,
            lambda one: (
                (one.whole_gpus, one.models, one.nvlink_need, one.nvlink_weight)
                if one.whole_gpus > 1
                else None
            ),
        ),
        loading=_alike(demands, lambda one: (one.image, one.weights) if one.image or one.weights else None),
    )


def _alike(demands: Sequence[Demand], key: Callable[[Demand], object]) -> list[tuple[Demand, Flags]]:
    """The demands by key, one of each and which they are; those with the key None left out."""
    keys = [key(demand) for demand in demands]
    firsts = {found: index for index, found in reversed(list(enumerate(keys))) if found is not None}
    return [(demands[index], np.array([one == found for one in keys])) for found, index in firsts.items()]


def allowed_pairs(columns: Columns, wants: Wants, of: Ints) -> Flags:
    """bool[k, G]: GPUs that exist and are of a model that the row's demand accepts."""
    allowed: Flags = (columns.model_id >= 0) & wants.models[of[:, None], columns.model_id]
    return allowed


def predict_pairs(
    columns: Columns, before: Occupancy, wants: Wants, of: Ints, allowed: Flags, hardware: Hardware
) -> Prediction:
    """Place demand ``of[i]`` (int64[k], into ``wants``) on row i, for usual rows."""
    after = before.masks.copy()
    whole, shares = wants.whole[of], wants.shared[of]
    free = (after == 0) & allowed & columns.whole
    chosen = free & (np.cumsum(free, axis=1) <= whole[:, None])
    feasible: Flags = columns.valid & (chosen.sum(axis=1) == whole)
    np.copyto(after, columns.full, where=chosen)
    sharing = shares > 0
    if sharing.any():
        here = allowed.any(axis=1) | (columns.gpu_count == 0)
        here &= (columns.share_step_mib == 0) | columns.mixed | wants.models[of, columns.row_model]
        feasible &= ~sharing | ((before.shared + shares <= columns.shared_total) & here)
    for profile, asking in wants.profiles.items():
        pairs = np.flatnonzero(asking[of])
        turn = ranks(columns, profile, hardware)
        for count in np.unique(wants.cut[of[pairs]]).tolist():
            rows = pairs[wants.cut[of[pairs]] == count]
            masks = after[rows]
            own = None if turn is None else turn[rows]
            feasible[rows] &= cut(columns.order_id[rows], own, masks, allowed[rows], profile, count, hardware)
            after[rows] = masks
    after[~feasible] = before.masks[~feasible]
    return Prediction(feasible, np.zeros(len(columns), dtype=np.bool_), after, {}, shares)
