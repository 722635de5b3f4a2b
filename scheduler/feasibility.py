"""Why a node cannot take a demand, in words a person understands, for all rows at once.

Only facts veto (``certain`` occupancy): what first-fit is merely expected to take never does, and neither
does a search that was cut off. A reason is ``unresolvable`` when evicting pods could not help: no GPU,
wrong model, more than the node has when empty, a grid zone above the pod's carbon class, NVLink that is not
there. "Full", and NVLink between the GPUs that happen to be free, are resolvable. Nodes we do not know are
not refused. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cluster.policy import ClusterPolicy
from scheduler.columns import WHOLE_IS_SHARED, Columns
from scheduler.demand import Demand, GpuRequest
from scheduler.prediction import Prediction, allowed_gpus, certain, nothing, parts_each, predict
from scheduler.scoring.context import World
from scheduler.scoring.nvlink import link_need, link_shares

Flags = NDArray[np.bool_]
CODE_FIELD = 1 << 12


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a node is refused; ``unresolvable``: preemption cannot help there."""

    text: str
    unresolvable: bool


Told = Callable[[str, bool], int]
"""Numbers a reason: (text, unresolvable) → id above 0."""


def refusals(
    demand: Demand, world: World, columns: Columns, fits: Prediction, told: Told
) -> NDArray[np.int32]:
    """int32[k]: id of the reason for which each row is refused, 0 where it is not.

    ``fits`` is the prediction on the certain occupancy of these rows.
    """
    reasons = np.zeros(len(columns), dtype=np.int32)
    open_ = columns.valid.copy()

    def refuse(where: Flags, text: str, *, unresolvable: bool) -> None:
        here = open_ & where
        if here.any():
            reasons[here] = told(text, unresolvable)
            open_[here] = False

    refuse(~has_device(columns), f"needs {demand}; the node offers no GPU", unresolvable=True)
    if demand.on_demand:
        refuse(
            interruptible(world.policy, columns),
            "too few replicas of its workload stand on nodes that are not interruptible; this one is",
            unresolvable=True,
        )
    _carbon(demand, world, columns, refuse)
    _links(demand, world, columns, fits, refuse)
    failing = np.flatnonzero(open_ & ~fits.feasible & ~fits.unsure)
    if failing.size:
        _full(demand, world, columns.take(failing), failing, reasons, told)
    return reasons


def interruptible(policy: ClusterPolicy, columns: Columns) -> Flags:
    """bool[k]: rows whose node class has interruptions."""
    known = np.array([one.interruptions_per_hour > 0.0 for one in policy.nodes] + [False])
    found: Flags = known[columns.class_id]
    return found


def _carbon(demand: Demand, world: World, columns: Columns, refuse: Callable[..., None]) -> None:
    limit = world.policy.carbon.classes.get(demand.carbon_class or "")
    if limit is None:
        return
    for zone_id in np.unique(columns.zone_id[columns.zone_id >= 0]).tolist():
        zone = world.zones.values[zone_id]
        grams = world.grams_per_kwh.get(zone)
        if grams is not None and grams > limit.max_grams_per_kwh:
            refuse(
                columns.zone_id == zone_id,
                f"grid zone {zone} stands at {grams:g} gCO2e/kWh; carbon class {demand.carbon_class} "
                f"accepts at most {limit.max_grams_per_kwh:g}",
                unresolvable=True,
            )


def _links(
    demand: Demand, world: World, columns: Columns, fits: Prediction, refuse: Callable[..., None]
) -> None:
    if link_need(demand, world.policy) != "required":
        return
    gpus = demand.whole_gpus
    empty = nothing(columns)
    _, ever = link_shares(columns, empty.masks, demand, world.hardware)
    # A node with too few GPUs is told so below; this is about those that have them, unlinked.
    share, now = link_shares(columns, certain(columns).masks, demand, world.hardware)
    enough = columns.gpu_count >= gpus
    refuse(enough & ~ever, f"needs {gpus} GPUs joined by NVLink; the node has no such set", unresolvable=True)
    refuse(
        fits.feasible & ~np.isnan(share) & ~now,
        f"needs {gpus} GPUs joined by NVLink; the free GPUs that would be given are not",
        unresolvable=False,
    )


def _full(
    demand: Demand,
    world: World,
    columns: Columns,
    rows: NDArray[np.int64],
    reasons: NDArray[np.int32],
    told: Told,
) -> None:
    """Reasons for rows whose GPUs cannot hold the demand now: told apart by whether they ever could."""
    allowed = allowed_gpus(columns, demand, world.hardware)
    no_model = ~allowed.any(axis=1) & (columns.gpu_count > 0)
    ever = predict(columns, nothing(columns), demand, world.hardware, world.profiles)
    never = ~ever.feasible & ~ever.unsure
    kind = np.where(no_model, 2, np.where(never, 1, 0))
    first, second = _numbers(demand, columns, allowed)
    codes = ((kind * CODE_FIELD + first) * CODE_FIELD + second) * CODE_FIELD + columns.row_model + 1
    for code, index in zip(*np.unique(codes, return_index=True), strict=True):
        text = refusal_text(
            demand, world, columns, int(index), int(kind[index]), int(first[index]), int(second[index])
        )
        reasons[rows[codes == code]] = told(text, bool(kind[index]))


def _numbers(demand: Demand, columns: Columns, allowed: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two numbers a row that explain the refusal: free GPUs and GPUs; free instances and instances; longest
    free run and units.
    """
    request = demand.requests[0] if len(demand.requests) == 1 else None
    free_gpus = ((columns.certain == 0) & allowed & columns.whole).sum(axis=1).astype(np.int64)
    runs = (
        np.where(allowed, free_run_table()[columns.certain | ~columns.full], 0).max(axis=1).astype(np.int64)
    )
    units = np.bitwise_count(np.where(columns.model_id >= 0, columns.full, 0)).max(axis=1).astype(np.int64)
    if request is None or request.kind == "mig":
        return runs, units
    if request.kind == "shared":
        left = columns.shared_total - columns.shared_certain
        if request.wish is not None:
            shares, steps = parts_each(columns, request).T
            least = np.where(shares >= steps, columns.share_left_certain, columns.step_left_certain)
            return least.astype(np.int64), columns.share_most.astype(np.int64)
        return left.astype(np.int64), columns.shared_total.astype(np.int64)
    instead = columns.whole_as == WHOLE_IS_SHARED
    first = np.where(instead, columns.shared_total - columns.shared_certain, free_gpus)
    return first, np.where(instead, columns.shared_total, columns.gpu_count).astype(np.int64)


def has_device(columns: Columns) -> Flags:
    """bool[k]: rows that offer any GPU, or part of one."""
    found: Flags = (columns.gpu_count > 0) | columns.static_total.any(axis=1) | (columns.shared_total > 0)
    return found


def refusal_text(
    demand: Demand, world: World, columns: Columns, row: int, kind: int, first: int, second: int
) -> str:
    """Why the demand does not fit on the row. ``kind``: 0 full, 1 too much even for the empty node, 2 wrong
    model; ``first`` and ``second``: free and all of what is asked for.
    """
    model_id = int(columns.row_model[row])
    name = world.hardware.models[model_id].name if model_id >= 0 else "unknown GPU"
    if kind == 2 and demand.models is not None:
        return f"needs a GPU of model {' or '.join(sorted(demand.models))}; the node has {name}"
    if len(demand.requests) != 1:
        if kind == 1:
            return f"needs {demand}; the node ({name}) cannot hold that even when empty"
        return (
            f"needs {demand}; they do not fit together, "
            f"largest free run on any GPU is {first} of {second} units"
        )
    request = demand.requests[0]
    if request.kind == "whole":
        return f"needs {request}; " + (f"the node has {second}" if kind else f"{first} of {second} are free")
    if request.kind == "shared" and request.wish is not None:
        each = int(parts_each(columns, request)[row].max())
        if not each:
            return f"needs {request}; the node gives no such parts of its GPUs"
        words = f"{second} shares at most" if kind else f"at most {first} of {second} shares free"
        return f"needs {request}, {each} shares of one GPU; a GPU of the node has {words}"
    if request.kind == "shared":
        return f"needs {request}; " + (f"the node has {second}" if kind else f"{first} of {second} are free")
    return f"needs {request}; " + _mig_text(request, world, columns, row, kind, first, second, name)


def _mig_text(
    request: GpuRequest, world: World, columns: Columns, row: int, kind: int, run: int, units: int, name: str
) -> str:
    column = world.profiles.find(request.profile or "")
    if column is not None and columns.static_total[row, column] > 0:
        total = int(columns.static_total[row, column])
        left = total - int(columns.static_certain[row, column])
        return f"the node has {total}" if kind else f"{left} of {total} such instances are free"
    if kind:
        return f"no GPU of the node ({name}) can be cut that way so often"
    model_id = int(columns.row_model[row])
    spec = world.hardware.models[model_id].profile(request.profile or "") if model_id >= 0 else None
    if spec is None or run < spec.size:
        return f"largest free run on any GPU is {run} of {units} units"
    starts = ", ".join(str(start) for start in spec.starts)
    return (
        f"an instance is {spec.size} units from unit {starts}, and too few of those places are free "
        f"(largest free run on any GPU is {run} of {units} units)"
    )


@lru_cache(maxsize=1)
def free_run_table() -> NDArray[np.uint8]:
    """uint8[65536]: the longest run of zero bits in each 16-bit mask."""
    masks = np.arange(1 << 16, dtype=np.int64)
    longest, current = np.zeros(1 << 16, dtype=np.uint8), np.zeros(1 << 16, dtype=np.uint8)
    for bit in range(16):
        current = np.where((masks >> bit) & 1 == 0, current + 1, 0).astype(np.uint8)
        longest = np.maximum(longest, current)
    return longest
