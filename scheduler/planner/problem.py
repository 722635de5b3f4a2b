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

from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.packing.plan_problem import (
    Gang,
    NodeClass,
    Order,
    Placing,
    PlanProblem,
    Profile,
    Wanted,
)
from scheduler.planner.admission import Constraints
from scheduler.planner.node_kinds import Shape, free_scalars, node_kinds
from scheduler.planner.plan_prices import first_pods, gpu_values
from scheduler.scoring.context import World


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
            prices = first_pods(demand, world, columns)
            other[:, index] = np.where(mask, prices, np.inf)
        profiles = _profile_names(shapes)
        scalars = free_scalars(columns, shapes)
        kinds, kind_of = node_kinds(world, columns, shapes, profiles)
        values, orders = gpu_values(world), _orders(world, profiles)
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


def _shapes(asked: Sequence[Asked]) -> tuple[list[Shape], list[int]]:
    known: dict[Shape, int] = {}
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


def _orders(world: World, profiles: Sequence[str]) -> tuple[Order, ...]:
    index = {name: position for position, name in enumerate(profiles)}
    return tuple(
        Order(tuple((index[p.profile], p.start, p.size) for p in order if p.profile in index))
        for _, order in world.hardware.orders.values
    )


def _profile_names(shapes: Sequence[Shape]) -> list[str]:
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
