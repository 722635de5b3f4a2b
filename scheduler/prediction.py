"""Which devices first-fit gives one demand on every node at once, and the occupied masks after it.

Model: requests in order; each takes the first GPU, in the order in which the node's devices are met for that
profile, on which it fits. A whole GPU needs an entirely free one; a MIG instance takes the first free
placement in published order (``scheduler.hardware`` tables); under the device plugin, fixed MIG instances and
shared replicas are counts, and so are shares of GPUs that a DRA driver tells one by one; who asks for more
than one share of one GPU needs the GPU that has most left. The allocator behind resource claims backtracks:
where the greedy walk fails for a demand of several kinds and there are units enough, the exact search of
``scheduler.first_fit`` decides; a search that was cut off, or one too many, is ``unsure`` and no ground for a
veto.

The device plugin's own preference for linked GPUs is not followed here: which of the free GPUs it takes
changes no mask count, only the NVLink share, and ``scoring.nvlink`` prices that. Pure: arrays in, arrays
out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dra.shared_gpus import NOTHING
from dra.turns import RANK_BITS, unpacked
from scheduler.columns import WHOLE_IS_GPU, WHOLE_IS_SHARED, Columns, Ids, Masks
from scheduler.demand import Demand, GpuRequest
from scheduler.first_fit import NoRoom, Room, Site, first_fit
from scheduler.hardware import Hardware, profile_slots
from scheduler.interning import Interner

Flags = NDArray[np.bool_]
Ranks = NDArray[np.int64]
_MOST_SEARCHES = 200
_LAST = 1 << RANK_BITS


@dataclass(slots=True)
class Occupancy:
    """What is taken on k rows: uint16[k, G] masks, int32[k, P] fixed MIG instances, int32[k] shared
    replicas; int32[k] shares and memory left on the shared GPU with the most left, where those are told.
    """

    masks: Masks
    static: Ids
    shared: Ids
    share_left: Ids
    step_left: Ids


@dataclass(slots=True)
class Prediction:
    """bool[k] ``feasible`` and ``unsure``; uint16[k, G] ``after`` (equal to before where not feasible);
    float64[k] ``static_instances`` and ``shares``: how many fixed MIG instances and shared replicas are
    taken instead of units.
    """

    feasible: Flags
    unsure: Flags
    after: Masks
    static_instances: dict[str, NDArray[np.int64]]
    shares: NDArray[np.int64]


def expected(columns: Columns) -> Occupancy:
    """The occupancy that prices use."""
    return Occupancy(
        columns.occupied, columns.static_used, columns.shared_used, columns.share_left, columns.step_left
    )


def certain(columns: Columns) -> Occupancy:
    """The occupancy that vetoes use."""
    return Occupancy(
        columns.certain,
        columns.static_certain,
        columns.shared_certain,
        columns.share_left_certain,
        columns.step_left_certain,
    )


def nothing(columns: Columns) -> Occupancy:
    """The occupancy of the same nodes when empty: what a node could ever hold."""
    return Occupancy(
        np.where(columns.model_id >= 0, 0, columns.full).astype(np.uint16),
        np.zeros_like(columns.static_used),
        np.zeros_like(columns.shared_used),
        columns.share_most,
        columns.share_most,
    )


def allowed_gpus(columns: Columns, demand: Demand, hardware: Hardware) -> Flags:
    """bool[k, G]: GPUs that exist and are of a model that the pod accepts."""
    exists = columns.model_id >= 0
    if demand.models is None:
        return exists
    # The last entry answers for id -1.
    good = np.array([model.name in demand.models for model in hardware.models] + [False], dtype=np.bool_)
    return exists & good[columns.model_id]


def predict(
    columns: Columns, before: Occupancy, demand: Demand, hardware: Hardware, profiles: Interner[str]
) -> Prediction:
    """Place ``demand`` on every row independently."""
    rows = len(columns)
    after = before.masks.copy()
    feasible = columns.valid.copy()
    allowed = allowed_gpus(columns, demand, hardware)
    static_instances: dict[str, NDArray[np.int64]] = {}
    shares = np.zeros(rows, dtype=np.int64)
    searchable = np.zeros(rows, dtype=np.bool_)
    any_static = bool(profiles.values) and bool(columns.static_total.any())
    for request in demand.requests:
        if request.kind == "shared":
            found = _share(columns, before, request, shares) & _row_allowed(columns, allowed)
            found &= _model_allowed(columns, demand, hardware)
        elif request.kind == "whole":
            free = (after == 0) & allowed & columns.whole
            chosen = free & (np.cumsum(free, axis=1) <= request.count)
            found = chosen.sum(axis=1) == request.count
            other = columns.whole_as != WHOLE_IS_GPU
            if other.any():
                found = np.where(other, False, found)
                chosen &= ~other[:, None]
                found |= _instead(columns, before, request.count, static_instances, shares, profiles, other)
                found &= ~other | _row_allowed(columns, allowed)
            np.copyto(after, columns.full, where=chosen)
        else:
            profile = request.profile or ""
            fixed = np.zeros(rows, dtype=np.bool_)
            column = profiles.find(profile) if any_static else None
            if column is not None:
                fixed = columns.static_total[:, column] > 0
            turn = ranks(columns, profile, hardware)
            free = allowed & ~fixed[:, None]
            found = cut(columns.order_id, turn, after, free, profile, request.count, hardware)
            if column is not None:
                wanted = _instances(static_instances, profile, rows)
                wanted += np.where(fixed, request.count, 0)
                left = columns.static_total[:, column] - before.static[:, column]
                found = np.where(fixed, (left >= wanted) & _row_allowed(columns, allowed), found)
        searchable |= feasible & ~found
        feasible &= found
    unsure = np.zeros(rows, dtype=np.bool_)
    if len(demand.requests) > 1 and searchable.any():
        unsure = _search(columns, before, after, feasible, searchable, allowed, demand, hardware, profiles)
        if any(request.wish is not None for request in demand.requests):
            unsure |= searchable & ~feasible & (columns.share_step_mib > 0)
    after[~feasible] = before.masks[~feasible]
    return Prediction(feasible, unsure, after, static_instances, shares)


def site_of(
    columns: Columns, row: int, allowed: NDArray[np.bool_], hardware: Hardware, profiles: Interner[str]
) -> Site:
    """One row as ``first_fit`` wants it."""
    count = int(columns.gpu_count[row])
    whole_as = int(columns.whole_as[row])
    return Site(
        fulls=tuple(int(mask) for mask in columns.full[row, :count]),
        orders=tuple(hardware.orders.values[order][1] for order in columns.order_id[row, :count]),
        whole=tuple(bool(flag) for flag in columns.whole[row, :count]),
        static_total={
            profile: int(total)
            for profile, total in zip(profiles.values, columns.static_total[row], strict=False)
            if total
        },
        shared_total=int(columns.shared_total[row]),
        whole_as=None
        if whole_as == WHOLE_IS_GPU
        else "shared"
        if whole_as == WHOLE_IS_SHARED
        else profiles.values[whole_as],
        allowed=tuple(bool(flag) for flag in allowed[:count]),
        turns=turns_of(columns, row, hardware),
    )


def turns_of(columns: Columns, row: int, hardware: Hardware) -> dict[str, tuple[int, ...]]:
    """A row's turns, by profile."""
    count = int(columns.gpu_count[row])
    numbers = columns.turns[row, :count].tolist()
    models = columns.model_id[row, :count].tolist()
    slots = [profile_slots(hardware.models[model]) if model >= 0 else () for model in models]
    return unpacked(numbers, slots)


def _instances(static: dict[str, NDArray[np.int64]], profile: str, rows: int) -> NDArray[np.int64]:
    return static.setdefault(profile, np.zeros(rows, dtype=np.int64))


def _instead(
    columns: Columns,
    before: Occupancy,
    count: int,
    static: dict[str, NDArray[np.int64]],
    shares: NDArray[np.int64],
    profiles: Interner[str],
    other: Flags,
) -> Flags:
    """Serve ``nvidia.com/gpu`` where it means a shared replica or one of equal MIG instances; return where
    that fits.
    """
    found = np.zeros(len(columns), dtype=np.bool_)
    shared = columns.whole_as == WHOLE_IS_SHARED
    shares += np.where(shared, count, 0)
    found |= shared & (before.shared + shares <= columns.shared_total)
    for column in np.unique(columns.whole_as[other & ~shared]).tolist():
        here = columns.whole_as == column
        wanted = _instances(static, profiles.values[column], len(columns))
        wanted += np.where(here, count, 0)
        found |= here & (columns.static_total[:, column] - before.static[:, column] >= wanted)
    return found


def _share(columns: Columns, before: Occupancy, request: GpuRequest, shares: NDArray[np.int64]) -> Flags:
    """Take parts of shared GPUs, added to ``shares`` in place; return where that fits."""
    parts = parts_each(columns, request)
    each = parts.max(axis=1)
    shares += request.count * each
    found: Flags
    if request.wish is None:
        found = before.shared + shares <= columns.shared_total
    else:
        # One GPU must have it all. What several of them need together is left to the scheduler.
        left = np.stack([before.share_left, before.step_left], axis=1)
        found = (each > 0) & (parts <= left).all(axis=1) & (request.count * each <= columns.shared_total)
    return found


def parts_each(columns: Columns, request: GpuRequest) -> NDArray[np.int64]:
    """int64[k, 2]: shares and steps of memory that each of a request for shared GPUs takes on each row; 0
    where it cannot be had.
    """
    if request.wish is None:
        return np.ones((len(columns), 2), dtype=np.int64)
    steps, of = np.unique(columns.share_step_mib, return_inverse=True)
    sizes = [request.part(step) if step else NOTHING for step in steps.tolist()]
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)[of.reshape(-1)]


def _model_allowed(columns: Columns, demand: Demand, hardware: Hardware) -> Flags:
    """Whether shared GPUs that are told one by one are of a model that the pod accepts."""
    if demand.models is None:
        return np.ones(len(columns), dtype=np.bool_)
    good = np.array([model.name in demand.models for model in hardware.models] + [False], dtype=np.bool_)
    found: Flags = (columns.share_step_mib == 0) | columns.mixed | good[columns.row_model]
    return found


def _row_allowed(columns: Columns, allowed: Flags) -> Flags:
    # Fixed instances and replicas carry no GPU index: the node's model decides.
    fine: Flags = allowed.any(axis=1) | (columns.gpu_count == 0)
    return fine


def cut(
    order_id: Ids,
    turn: Ranks | None,
    after: Masks,
    allowed: Flags,
    profile: str,
    count: int,
    hardware: Hardware,
) -> Flags:
    """Cut ``count`` instances of a profile out of ``after`` in place, ``turn`` as of ``ranks``; return where
    all were found.
    """
    offsets, order_masks = hardware.order_offsets()
    table = hardware.taken(profile)
    base = offsets[order_id]
    keep = order_masks[order_id]
    found = np.ones(len(order_id), dtype=np.bool_)
    every = np.arange(len(order_id))
    taken = table[base + (after & keep)]
    taken[~allowed] = 0
    for instance in range(count):
        fits = taken != 0
        first = fits.argmax(axis=1) if turn is None else np.where(fits, turn, _LAST).argmin(axis=1)
        units = taken[every, first]
        found &= units != 0
        after[every, first] |= units
        if instance + 1 < count:
            fresh = table[base[every, first] + (after[every, first] & keep[every, first])]
            taken[every, first] = np.where(allowed[every, first], fresh, 0)
    return found


def ranks(columns: Columns, profile: str, hardware: Hardware) -> Ranks | None:
    """int64[k, G]: when first-fit comes to each GPU for a profile; of equals the first position. None where
    it comes to all in the order of their positions.
    """
    if not columns.turns.any():
        return None
    shift = hardware.turn_shift(profile)[columns.model_id]
    found: Ranks = columns.turns >> shift & _LAST - 1
    return found


def _search(
    columns: Columns,
    before: Occupancy,
    after: Masks,
    feasible: Flags,
    searchable: Flags,
    allowed: Flags,
    demand: Demand,
    hardware: Hardware,
    profiles: Interner[str],
) -> Flags:
    """Search rows where the greedy walk failed; corrects ``after`` and ``feasible``, returns where no
    answer was found.
    """
    unsure = np.zeros(len(columns), dtype=np.bool_)
    known: dict[bytes, Room | NoRoom | None] = {}
    for row in np.flatnonzero(searchable & ~feasible).tolist():
        count = int(columns.gpu_count[row])
        if not _enough_units(columns, before, row, demand, hardware):
            continue
        key = b"".join(
            part[row].tobytes()
            for part in (
                before.masks,
                columns.order_id,
                columns.turns,
                allowed,
                columns.static_total,
                before.static,
                columns.shared_total,
                before.shared,
            )
        )
        if key not in known:
            if len(known) >= _MOST_SEARCHES:
                unsure[row] = True
                continue
            site = site_of(columns, row, allowed[row], hardware, profiles)
            static = tuple(
                (profile, int(used))
                for profile, used in zip(profiles.values, before.static[row], strict=False)
                if used
            )
            room = Room(tuple(int(m) for m in before.masks[row, :count]), static, int(before.shared[row]))
            answer = first_fit(site, room, demand.requests)
            known[key] = answer if isinstance(answer, Room | NoRoom) else None
        found = known[key]
        if found is None:
            unsure[row] = True
        elif isinstance(found, Room):
            after[row, :count] = found.masks
            feasible[row] = True
    return unsure


def _enough_units(columns: Columns, before: Occupancy, row: int, demand: Demand, hardware: Hardware) -> bool:
    """A cheap no: the demand's units on the row's model against all free units."""
    model_id = int(columns.row_model[row])
    if model_id < 0 or bool(columns.mixed[row]) or bool(columns.static_total[row].any()):
        return True
    model = hardware.models[model_id]
    free = int(np.bitwise_count(columns.full[row] & ~before.masks[row]).sum())
    needed = 0
    for request in demand.requests:
        if request.kind == "whole":
            needed += model.units * request.count
        elif request.kind == "mig":
            spec = model.profile(request.profile or "")
            if spec is None:
                return False
            needed += spec.size * request.count
    return needed <= free
