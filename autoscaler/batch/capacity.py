"""The GPUs that batch jobs may count on: what the live fleet has free now, by model and grid zone.

Counted in whole GPUs: one that nobody uses or is expected on counts 1, a fixed MIG instance its share of
the compute slices, a shared replica its part of the GPU. MIG instances that could still be made on a GPU in
part use are not counted: cautious, and they are few. What runs today is taken to run on; jobs of our own
give their GPUs back at their expected ends (``returned``). GPUs that a node autoscaler would add are the
policy's word.

``pools_of`` reads columns under the caller's lock; everything else is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from autoscaler.batch.curve import DAY_SECONDS, Curve
from autoscaler.batch.work import Pool
from dra.catalog import GpuModel
from scheduler.demand import Demand
from scheduler.fleet import Fleet

NO_ZONE: Final = ""
ANY_ZONE_POOL: Final = "*"
COMPUTE_SLICES: Final = 7.0
SHARED_GPUS: Final = 0.25
"""What a request for one shared GPU is taken to use of it."""
CPU_JOB_WATTS: Final = 100.0
"""What a job without a GPU is taken to add: enough to have a best time at all."""
_HORIZON_SECONDS: Final = 14.0 * DAY_SECONDS


def gpus_of(demand: Demand | None) -> float:
    """GPU equivalents of one pod; 0 where it asks for none, or for what is not understood."""
    if demand is None:
        return 0.0
    total = 0.0
    for request in demand.requests:
        if request.kind == "whole":
            total += request.count
        elif request.kind == "shared":
            total += SHARED_GPUS * request.count
        else:
            total += request.count * profile_share(request.profile or "")
    return total


def profile_share(profile: str) -> float:
    """The part of a GPU that a MIG profile is, by its compute slices: ``3g.40gb`` is 3/7."""
    digits = profile.partition("g")[0]
    return min(1.0, int(digits) / COMPUTE_SLICES) if digits.isdecimal() else 1.0


def pool_name(model: str, zone: str) -> str:
    """How a pool is called."""
    return f"{model}@{zone}"


def pools_of(fleet: Fleet, addable_gpus: Mapping[str, float], now: float) -> list[Pool]:
    """The pools of the live fleet; called with its lock held."""
    columns = fleet.view()
    models = fleet.hardware.models
    free: dict[tuple[int, int], float] = {}
    known = columns.valid[:, None] & (columns.model_id >= 0)
    idle = known & (columns.occupied == 0)
    zones = np.broadcast_to(columns.zone_id[:, None], columns.model_id.shape)
    for model, zone in {*zip(columns.model_id[known].tolist(), zones[known].tolist(), strict=True)}:
        mine = idle & (columns.model_id == model) & (zones == zone)
        free[model, zone] = float(mine.sum())
    shares = np.array([profile_share(name) for name in fleet.profiles.values])
    fixed = (columns.static_total - columns.static_used)[:, : len(shares)].clip(min=0) @ shares
    replicas = columns.shared_total - columns.shared_used
    part = np.divide(
        columns.shared_gpus * replicas,
        columns.shared_total,
        out=np.zeros(len(columns)),
        where=columns.shared_total > 0,
    )
    counted = np.where(columns.valid & (columns.row_model >= 0), fixed + part, 0.0)
    for row in np.flatnonzero(counted).tolist():
        key = int(columns.row_model[row]), int(columns.zone_id[row])
        free[key] = free.get(key, 0.0) + float(counted[row])
    names = fleet.zones.values
    pools = []
    for (model, zone), gpus in sorted(free.items()):
        shape: GpuModel = models[model]
        place = names[zone] if zone >= 0 else NO_ZONE
        total = gpus + addable_gpus.get(shape.name, 0.0)
        watts = shape.peak_watts - shape.idle_watts
        pools.append(Pool(pool_name(shape.name, place), place, Curve.constant(total, now), watts))
    return pools


def usable(demand: Demand | None, pools: Sequence[Pool]) -> frozenset[str] | None:
    """The pools that a demand may use; None for all."""
    if demand is None or demand.models is None:
        return None
    return frozenset(pool.name for pool in pools if pool.name.rpartition("@")[0] in demand.models)


def returned(
    pools: Sequence[Pool], now: float, leaving: Iterable[tuple[frozenset[str] | None, float, float, bool]]
) -> list[Pool]:
    """The pools with the GPUs of released jobs: (pools it may use, GPUs, expected end, whether it runs).
    One that waits for GPUs takes them now; all give them back at their end. Where several pools would do,
    the one with most room is counted.
    """
    steps: dict[str, dict[float, float]] = {
        pool.name: {now: float(pool.free.at(np.array([now]))[0])} for pool in pools
    }
    for usable_pools, gpus, end, runs in leaving:
        names = [pool.name for pool in pools if usable_pools is None or pool.name in usable_pools]
        if not names or gpus <= 0.0:
            continue
        name = max(names, key=lambda one: (steps[one][now], one))
        if not runs:
            steps[name][now] -= gpus
        at = max(end, now + 1.0)
        steps[name][at] = steps[name].get(at, 0.0) + gpus
    found = []
    for pool in pools:
        times = sorted(steps[pool.name])
        levels = np.cumsum([steps[pool.name][at] for at in times]).tolist()
        free = Curve((*times, max(times[-1], now) + _HORIZON_SECONDS), tuple(levels))
        found.append(Pool(pool.name, pool.zone, free, pool.watts))
    return found
