"""The waiting pods and the fleet as a ``PlanProblem``, and a plan's fillings back as node names.

Reads the decider's fleet under its lock (some milliseconds at 1,000 nodes, tens at 5,000) and merges: pods of
equal demand, constraints, CPU and memory into shapes; rows of equal hardware, state, room and prices into
node classes. The first pod on a node costs in the plan exactly what the decider says; further ones follow the
fragmentation tables (as if CPU and memory were in plenty), the other terms as they stand. CPU and memory are
rounded down to what a node's fill of waiting pods could use, so that ample nodes stay equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import WHOLE_IS_GPU, WHOLE_IS_SHARED, Columns
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.packing.plan_problem import (
    WHOLE,
    Gang,
    Gpu,
    GpuValue,
    Need,
    NodeClass,
    NodeKind,
    Order,
    Placing,
    PlanProblem,
    Profile,
    Wanted,
)
from scheduler.planner.admission import Constraints
from scheduler.prediction import expected, parts_each, predict, turns_of
from scheduler.pricing import priced
from scheduler.scoring.context import World
from scheduler.scoring.fragmentation import node_value
from scheduler.scoring.nvlink import link_need

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One waiting pod as the plan sees it; ``gang``: index of its gang, -1 for none."""

    uid: str
    demand: Demand
    constraints: Constraints
    priority: int
    gang: int = -1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A problem, with what its numbers stand for: the rows of each node class, the pods of each entry of
    ``wanted`` and of each (gang, shape), oldest first.
    """

    problem: PlanProblem
    rows: tuple[tuple[str, ...], ...]
    singles: tuple[tuple[str, ...], ...]
    members: tuple[Mapping[int, tuple[str, ...]], ...]

    def nodes_of(self, placing: Placing) -> list[tuple[str, str]]:
        """(pod UID, node name) of everything placed, node by node in the order of the fillings."""
        waiting: dict[int, list[str]] = defaultdict(list)
        entries = sorted(range(len(placing.singles)), key=lambda index: -self.problem.wanted[index].level)
        for index, chosen in enumerate(placing.gangs):
            if chosen:
                for shape, uids in self.members[index].items():
                    waiting[shape].extend(uids)
        for index in entries:
            shape = self.problem.wanted[index].shape
            waiting[shape].extend(self.singles[index][: placing.singles[index]])
        taken: dict[int, int] = defaultdict(int)
        given: dict[int, int] = defaultdict(int)
        found = []
        for use in placing.used:
            for _ in range(use.count):
                node = self.rows[use.node][taken[use.node]]
                taken[use.node] += 1
                for shape in use.filling:
                    found.append((waiting[shape][given[shape]], node))
                    given[shape] += 1
        return found


def snapshot(
    decider: Decider,
    asked: Sequence[Asked],
    gangs: int,
    admitted: Callable[[Constraints], NDArray[np.bool_]],
) -> Snapshot:
    """Read the fleet for these pods, in queue order. ``admitted``: bool[rows] by constraints."""
    fleet = decider.fleet
    with fleet.lock:
        world = decider.world()
        columns = fleet.view()
        names = list(fleet.names)
        shapes, shape_of = _shapes(asked)
        rows = np.flatnonzero(
            columns.valid
            & ((columns.gpu_count > 0) | columns.static_total.any(axis=1) | (columns.shared_total > 0))
        )
        columns = columns.take(rows)
        other = np.full((len(rows), len(shapes)), np.inf)
        for index, (demand, constraints) in enumerate(shapes):
            mask = admitted(constraints)[rows]
            prices = _other(demand, world, columns)
            other[:, index] = np.where(mask, prices, np.inf)
        profiles = _profile_names(shapes)
        scalars = _scalars(columns, shapes)
        kinds, kind_of = _kinds(world, columns, shapes, profiles)
        values, orders = _values(world, columns), _orders(world, profiles)
    usable = np.isfinite(other).any(axis=1)
    classes: dict[bytes, list[int]] = {}
    for position in np.flatnonzero(usable).tolist():
        key = b"".join(
            (
                int(kind_of[position]).to_bytes(4, "little"),
                columns.occupied[position].tobytes(),
                scalars[position].tobytes(),
                np.round(other[position], 7).tobytes(),
            )
        )
        classes.setdefault(key, []).append(position)
    nodes = tuple(
        NodeClass(
            kind=int(kind_of[own[0]]),
            masks=tuple(
                int(mask) for mask in columns.occupied[own[0], : len(kinds[int(kind_of[own[0]])].gpus)]
            ),
            scalars=tuple(int(amount) for amount in scalars[own[0]]),
            other=tuple(float(price) if np.isfinite(price) else None for price in other[own[0]]),
            count=len(own),
        )
        for own in classes.values()
    )
    levels = {level: index for index, level in enumerate(sorted({pod.priority for pod in asked}))}
    wanted, singles, gang_list, members = _wanted(asked, gangs, shape_of, levels)
    problem = PlanProblem(
        profiles=tuple(Profile(name, _media(world, name)) for name in profiles),
        values=values,
        orders=orders,
        kinds=tuple(kinds),
        nodes=nodes,
        gpus=tuple(_gpus(world, demand) for demand, _ in shapes),
        wanted=wanted,
        gangs=gang_list,
    )
    return Snapshot(
        problem,
        tuple(tuple(names[int(rows[position])] for position in own) for own in classes.values()),
        singles,
        members,
    )


_Shape = tuple[Demand, Constraints]


def _shapes(asked: Sequence[Asked]) -> tuple[list[_Shape], list[int]]:
    known: dict[_Shape, int] = {}
    found = []
    for pod in asked:
        found.append(known.setdefault((pod.demand, pod.constraints), len(known)))
    return list(known), found


def _wanted(
    asked: Sequence[Asked], gangs: int, shape_of: Sequence[int], levels: Mapping[int, int]
) -> tuple[
    tuple[Wanted, ...],
    tuple[tuple[str, ...], ...],
    tuple[Gang, ...],
    tuple[Mapping[int, tuple[str, ...]], ...],
]:
    entries: dict[tuple[int, int], list[str]] = {}
    members: list[dict[int, list[str]]] = [{} for _ in range(gangs)]
    level = [0] * gangs
    for pod, shape in zip(asked, shape_of, strict=True):
        if pod.gang < 0:
            entries.setdefault((shape, levels[pod.priority]), []).append(pod.uid)
        else:
            members[pod.gang].setdefault(shape, []).append(pod.uid)
            level[pod.gang] = max(level[pod.gang], levels[pod.priority])
    return (
        tuple(Wanted(shape, own, len(uids)) for (shape, own), uids in entries.items()),
        tuple(tuple(uids) for uids in entries.values()),
        tuple(
            Gang(tuple((shape, len(uids)) for shape, uids in sorted(found.items())), own)
            for found, own in zip(members, level, strict=True)
        ),
        tuple({shape: tuple(uids) for shape, uids in found.items()} for found in members),
    )


def _other(demand: Demand, world: World, columns: Columns) -> Floats:
    """The price of the first pod less what its state change costs; infinite where it cannot run now."""
    total = priced(demand, world, columns, lambda text, unresolvable: 1).total
    before = expected(columns)
    after = predict(columns, before, demand, world.hardware, world.profiles).after
    lost = _worth(world, columns, before.masks) - _worth(world, columns, after)
    result: Floats = np.where(np.isfinite(total), total - lost, np.inf)
    return result


def _factors(world: World) -> tuple[float, float]:
    multiplier = world.policy.terms.fragmentation if world.tables.gpu_value else 0.0
    prices = world.policy.prices
    return multiplier * prices.fragmentation_dual, multiplier * prices.fragmentation_gradient


def _worth(world: World, columns: Columns, masks: NDArray[np.uint16]) -> Floats:
    dual, gradient = _factors(world)
    index = world.values.offset[columns.model_id] + (masks & world.values.keep[columns.model_id])
    hours = world.hour_by_model[columns.model_id]
    result: Floats = dual * node_value(world, columns, masks) - gradient * (
        world.values.gradient[index] * hours
    ).sum(axis=1)
    return result


def _values(world: World, columns: Columns) -> tuple[GpuValue, ...]:
    dual, gradient = _factors(world)
    found = []
    for index, model in enumerate(world.hardware.models):
        start = int(world.values.offset[index])
        own = slice(start, start + (1 << model.units))
        worth = (
            dual * world.values.value[own]
            - gradient * world.hour_by_model[index] * world.values.gradient[own]
        )
        found.append(GpuValue(model.units, tuple(worth.tolist())))
    return tuple(found)


def _orders(world: World, profiles: Sequence[str]) -> tuple[Order, ...]:
    index = {name: position for position, name in enumerate(profiles)}
    return tuple(
        Order(tuple((index[p.profile], p.start, p.size) for p in order if p.profile in index))
        for _, order in world.hardware.orders.values
    )


def _profile_names(shapes: Sequence[_Shape]) -> list[str]:
    names = {r.profile for demand, _ in shapes for r in demand.requests if r.profile is not None}
    return sorted(names)


def _media(world: World, name: str) -> bool:
    return any((spec := model.profile(name)) is not None and spec.media for model in world.hardware.models)


def _gpus(world: World, demand: Demand) -> float:
    total = 0.0
    for request in demand.requests:
        if request.kind == "whole":
            total += request.count
        elif request.kind == "mig":
            sizes = [
                spec.size / model.units
                for model in world.hardware.models
                if (spec := model.profile(request.profile or "")) is not None
            ]
            total += request.count * (sum(sizes) / len(sizes) if sizes else 0.125)
        else:
            total += 0.05 * request.count
    return total


def _scalars(columns: Columns, shapes: Sequence[_Shape]) -> NDArray[np.int64]:
    """Free scalars by row: fixed MIG instances by profile, shared replicas, milli-CPU, MiB. Of the last two
    no more than the pods could use that its GPUs have room for: what is beyond that makes no difference.
    """
    static = (columns.static_total - columns.static_used).clip(min=0).astype(np.int64)
    shared = (columns.shared_total - columns.shared_used).clip(min=0).astype(np.int64)
    free = np.where(columns.model_id >= 0, columns.full & ~columns.occupied, 0)
    pods = np.bitwise_count(free).sum(axis=1).astype(np.int64) + static.sum(axis=1) + shared
    cpu = pods * max((demand.cpu_milli for demand, _ in shapes), default=0)
    memory = pods * max((demand.memory_mib for demand, _ in shapes), default=0)
    host = np.stack([columns.cpu_free.clip(0), columns.memory_free.clip(0)], axis=1).astype(np.int64)
    return np.concatenate(
        [static, shared[:, None], np.minimum(host, np.stack([cpu, memory], axis=1))], axis=1
    )


def _kinds(
    world: World, columns: Columns, shapes: Sequence[_Shape], profiles: Sequence[str]
) -> tuple[list[NodeKind], NDArray[np.int64]]:
    known: dict[bytes, int] = {}
    kinds: list[NodeKind] = []
    found = np.zeros(len(columns), dtype=np.int64)
    statics = columns.static_total > 0
    # What pods need depends on less than what GPUs are worth: not on the published orders.
    needs: dict[bytes, tuple[Need | None, ...]] = {}
    for row in range(len(columns)):
        key = b"".join(
            part[row].tobytes()
            for part in (
                columns.model_id,
                columns.order_id,
                columns.turns,
                columns.whole,
                columns.topology_id,
                columns.best_links,
                columns.whole_as,
                columns.row_model,
                columns.mixed,
                columns.share_step_mib,
                statics,
            )
        )
        if key not in known:
            known[key] = len(kinds)
            same = b"".join(
                p[row].tobytes()
                for p in (columns.model_id, columns.whole_as, columns.share_step_mib, statics)
            )
            if same not in needs:
                needs[same] = tuple(_need(world, columns, row, shape, profiles) for shape in shapes)
            kinds.append(_kind(world, columns, row, needs[same], profiles))
        found[row] = known[key]
    return kinds, found


def _kind(
    world: World, columns: Columns, row: int, needs: tuple[Need | None, ...], profiles: Sequence[str]
) -> NodeKind:
    dual, _ = _factors(world)
    count = int(columns.gpu_count[row])
    pools: dict[tuple[int, bool], int] = {}
    tables: list[tuple[float, ...]] = []
    gpus = []
    for position in range(count):
        model, order = int(columns.model_id[row, position]), int(columns.order_id[row, position])
        if columns.mixed[row]:
            pool = (model, order > 0)
        else:
            pool = (int(columns.row_model[row]), bool(columns.order_id[row, 0] > 0))
        if pool not in pools:
            pools[pool] = len(tables)
            table = world.values.free_value if pool[1] else world.values.whole_value
            tables.append(tuple((dual * table[pool[0], : count + 1]).tolist()))
        gpus.append(Gpu(model, order if order > 0 else -1, pools[pool], bool(columns.whole[row, position])))
    topology, turns = int(columns.topology_id[row]), turns_of(columns, row, world.hardware)
    return NodeKind(
        gpus=tuple(gpus),
        pools=tuple(tables),
        needs=needs,
        topology=world.hardware.topologies.values[topology][0] if topology >= 0 else None,
        best_links=bool(columns.best_links[row]),
        turns=tuple(turns.get(profile, ()) for profile in profiles) if turns else (),
    )


def _need(world: World, columns: Columns, row: int, shape: _Shape, profiles: Sequence[str]) -> Need | None:
    demand, _ = shape
    steps: list[tuple[int, int]] = []
    scalars: dict[int, int] = defaultdict(int)
    width = columns.static_total.shape[1]
    whole_as = int(columns.whole_as[row])
    for request in demand.requests:
        fixed = None if request.profile is None else world.profiles.find(request.profile)
        if request.kind == "shared" or (request.kind == "whole" and whole_as == WHOLE_IS_SHARED):
            each = int(parts_each(columns.take(np.array([row])), request).max())
            if not each:
                return None
            scalars[width] += request.count * each
        elif request.kind == "whole" and whole_as != WHOLE_IS_GPU:
            scalars[whole_as] += request.count
        elif request.kind == "whole":
            steps.append((WHOLE, request.count))
        elif fixed is not None and columns.static_total[row, fixed] > 0:
            scalars[fixed] += request.count
        else:
            steps.append((profiles.index(request.profile or ""), request.count))
    if sum(count for step, count in steps if step == WHOLE) > int(columns.gpu_count[row]):
        return None
    gpus = 0xFFFF
    if demand.models is not None:
        models = world.hardware.models
        gpus = sum(
            1 << position
            for position in range(int(columns.gpu_count[row]))
            if models[int(columns.model_id[row, position])].name in demand.models
        )
    for index, amount in ((width + 1, demand.cpu_milli), (width + 2, demand.memory_mib)):
        if amount:
            scalars[index] += amount
    return Need(
        steps=tuple(steps),
        scalars=tuple(sorted(scalars.items())),
        gpus=gpus,
        linked=link_need(demand, world.policy) == "required",
    )
