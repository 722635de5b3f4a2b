"""The nodes of a plan laid out for ``plan_relaxation``: every GPU a lane, equal lanes of equal nodes one
cell.

Node classes that price all shapes alike form a *group*. A cell is (group, published order, value table): one
dynamic program over masks. Entirely free GPUs are counted by pool instead. Built once a plan. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.packing.plan_problem import MEDIA, WHOLE, Need, NodeKind, PlanProblem
from scheduler.packing.plan_replay import Replay

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partials:
    """Partly used GPUs: int64 ``node``, ``cell``, ``mask`` and how many equal ones (``count``)."""

    node: Ints
    cell: Ints
    mask: Ints
    count: Ints


@dataclass(frozen=True, slots=True)
class CutTable:
    """Cells of one grid size. int64[orders, profiles, states] ``taken``, float64[values, states] ``worth``,
    int64[cells] ``order``, ``value``, ``group``. ``steps``: by occupied units, fullest first, and by profile:
    (masks, profile, int64[cells, masks] where the state after one instance stands in a flat [cells, states +
    1] array, the last column of which stands for "does not fit").
    """

    taken: Ints
    worth: Floats
    order: Ints
    value: Ints
    group: Ints
    steps: tuple[tuple[Ints, int, Ints], ...]
    partial: Partials


@dataclass(frozen=True, slots=True)
class Lanes:
    """See the module docstring. ``other``: [groups, shapes], ``runs`` where the shape may run; ``cut_share``
    and ``whole_share``: [groups, shapes, profiles | k], what part of a pod's value one instance, or its k
    whole GPUs, carry; pools as parallel arrays; ``tight``: by scalar, the nodes on which it may run out
    before the GPU units do; ``slack``: what placing pods may gain in worth at most.
    """

    group: Ints
    other: Floats
    runs: npt.NDArray[np.bool_]
    cut_share: Floats
    whole_share: Floats
    tables: list[CutTable]
    partials: list[list[tuple[int, int, int, int]]]
    pool_node: Ints
    pool_free: Ints
    pool_worth: Floats
    pool_used_up: Floats
    pool_split: npt.NDArray[np.bool_]
    pool_opens: list[list[tuple[int, int]]]
    pools_of: list[list[int]]
    scalars: Ints
    amounts: Ints
    counted: list[list[int]]
    counted_by: list[tuple[int, int, Ints]]
    tight: list[Ints]
    slack: Floats


def lanes_of(replay: Replay) -> Lanes:
    """Lay the nodes out."""
    problem = replay.problem
    group, firsts = _groups(problem)
    needs = [problem.kinds[problem.nodes[node].kind].needs for node in firsts]
    others = [problem.nodes[node].other for node in firsts]
    shapes, profiles = problem.shapes, len(problem.profiles)
    most_whole = max((len(kind.gpus) for kind in problem.kinds), default=0)
    other = np.zeros((len(firsts), shapes))
    runs = np.zeros((len(firsts), shapes), dtype=np.bool_)
    cut_share = np.zeros((len(firsts), shapes, profiles))
    whole_share = np.zeros((len(firsts), shapes, most_whole + 1))
    width = len(problem.nodes[0].scalars) if problem.nodes else 0
    amounts = np.zeros((len(firsts), shapes, width), dtype=np.int64)
    counted: list[list[int]] = [[] for _ in firsts]
    sizes = _sizes(problem)
    for index, (need_by, other_by) in enumerate(zip(needs, others, strict=True)):
        units = max((problem.values[g.value].units for g in _kind(problem, firsts[index]).gpus), default=1)
        for shape, (need, price) in enumerate(zip(need_by, other_by, strict=True)):
            if need is None or price is None:
                continue
            runs[index, shape], other[index, shape] = True, price
            for scalar, amount in need.scalars:
                amounts[index, shape, scalar] = amount
            if not need.steps:
                counted[index].append(shape)
            _shares(need, sizes, units, cut_share[index, shape], whole_share[index, shape])
    tables, partials, opens = _tables(replay, group)
    pools = _pools(problem, opens)
    nodes = problem.nodes
    scalars = np.array([node.scalars for node in nodes], dtype=np.int64).reshape(len(nodes), width)
    return Lanes(
        group=group,
        other=other,
        runs=runs,
        cut_share=cut_share,
        whole_share=whole_share,
        tables=tables,
        partials=partials,
        pool_node=pools.node,
        pool_free=pools.free,
        pool_worth=pools.worth,
        pool_used_up=pools.used_up,
        pool_split=pools.split,
        pool_opens=pools.opens,
        pools_of=pools.of_node,
        scalars=scalars,
        amounts=amounts,
        counted=counted,
        counted_by=_counted_by(counted, amounts, group),
        tight=_tight(problem, counted, amounts, group, scalars),
        slack=_slack(problem),
    )


def _kind(problem: PlanProblem, node: int) -> NodeKind:
    return problem.kinds[problem.nodes[node].kind]


def _groups(problem: PlanProblem) -> tuple[Ints, list[int]]:
    known: dict[tuple[object, ...], int] = {}
    firsts: list[int] = []
    found = []
    for index, node in enumerate(problem.nodes):
        key = (node.kind, node.other)
        if key not in known:
            known[key] = len(firsts)
            firsts.append(index)
        found.append(known[key])
    return np.array(found, dtype=np.int64), firsts


def _sizes(problem: PlanProblem) -> list[int]:
    sizes = [1] * len(problem.profiles)
    for order in problem.orders:
        for profile, _, size in order.placements:
            sizes[profile] = max(sizes[profile], size)
    return sizes


def _shares(need: Need, sizes: list[int], units: int, cut: Floats, whole: Floats) -> None:
    """Split a pod's value over its parts by the units they take: any split bounds from above."""
    total = sum(count * (units if step == WHOLE else sizes[step]) for step, count in need.steps)
    for step, count in need.steps:
        if step == WHOLE:
            if count < len(whole):
                whole[count] = max(whole[count], count * units / total)
        else:
            cut[step] = max(cut[step], sizes[step] / total)


def _tables(
    replay: Replay, group: Ints
) -> tuple[
    list[CutTable], list[list[tuple[int, int, int, int]]], dict[tuple[int, int], list[tuple[int, int]]]
]:
    """Cells and partly used GPUs by grid size; also, by (node, pool), the cells that a free GPU may open
    as.
    """
    problem = replay.problem
    order_units = [
        max((start + size for _, start, size in order.placements), default=0) for order in problem.orders
    ]
    grids = sorted({units for units in order_units if units})
    cells: list[dict[tuple[int, int, int], int]] = [{} for _ in grids]
    parts: list[dict[tuple[int, int, int], int]] = [{} for _ in grids]
    opens: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, node in enumerate(problem.nodes):
        for gpu, mask in zip(problem.kinds[node.kind].gpus, node.masks, strict=True):
            units = order_units[gpu.order] if gpu.order >= 0 else 0
            full = (1 << problem.values[gpu.value].units) - 1
            if not units or mask & full == full:
                continue
            grid = grids.index(units)
            cell = cells[grid].setdefault((int(group[index]), gpu.order, gpu.value), len(cells[grid]))
            if mask == 0:
                found = opens.setdefault((index, gpu.pool), [])
                if (grid, cell) not in found:
                    found.append((grid, cell))
            else:
                key = (index, cell, mask & full)
                parts[grid][key] = parts[grid].get(key, 0) + 1
    partials: list[list[tuple[int, int, int, int]]] = [[] for _ in problem.nodes]
    tables = []
    for grid, units in enumerate(grids):
        own = sorted({order for _, order, _ in cells[grid]})
        number = {order: position for position, order in enumerate(own)}
        states = 1 << units
        taken = np.array(
            [[replay.taken[order][p] for p in range(len(problem.profiles))] for order in own], dtype=np.int64
        ).reshape(len(own), len(problem.profiles), states)
        worth = np.zeros((len(problem.values), states))
        for value, table in enumerate(problem.values):
            count = min(states, len(table.worth))
            worth[value, :count] = table.worth[:count]
        keys = list(cells[grid])
        entries = [(*key, count) for key, count in parts[grid].items()]
        for node_index, cell, mask, count in entries:
            partials[node_index].append((grid, cell, mask, count))
        columns = np.array(entries, dtype=np.int64).reshape(len(entries), 4)
        tables.append(
            CutTable(
                taken=taken,
                worth=worth,
                order=np.array([number[order] for _, order, _ in keys], dtype=np.int64),
                value=np.array([value for _, _, value in keys], dtype=np.int64),
                group=np.array([owner for owner, _, _ in keys], dtype=np.int64),
                steps=_steps(taken, np.array([number[order] for _, order, _ in keys], dtype=np.int64)),
                partial=Partials(*(columns[:, column] for column in range(4))),
            )
        )
    return tables, partials, opens


def _steps(taken: Ints, order: Ints) -> tuple[tuple[Ints, int, Ints], ...]:
    cells, (_, profiles, states) = len(order), taken.shape
    masks = np.arange(states, dtype=np.int64)
    units = np.bitwise_count(masks)
    base = np.arange(cells, dtype=np.int64)[:, None] * (states + 1)
    found = []
    for level in range(int(units.max(initial=0)), -1, -1):
        own = masks[units == level]
        for profile in range(profiles):
            bits = taken[:, profile, own]
            if bits.any():
                after = np.where(bits > 0, own | bits, states)
                found.append((own, profile, base + after[order]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Pools:
    node: Ints
    free: Ints
    worth: Floats
    used_up: Floats
    split: npt.NDArray[np.bool_]
    opens: list[list[tuple[int, int]]]
    of_node: list[list[int]]


def _pools(problem: PlanProblem, opens: dict[tuple[int, int], list[tuple[int, int]]]) -> _Pools:
    nodes: list[int] = []
    frees: list[int] = []
    tables: list[tuple[float, ...]] = []
    used_up: list[float] = []
    split: list[bool] = []
    own_opens: list[list[tuple[int, int]]] = []
    of_node: list[list[int]] = [[] for _ in problem.nodes]
    for index, node in enumerate(problem.nodes):
        kind = problem.kinds[node.kind]
        free: dict[int, int] = {}
        change: dict[int, float] = {}
        for gpu, mask in zip(kind.gpus, node.masks, strict=True):
            if mask == 0:
                value = problem.values[gpu.value]
                free[gpu.pool] = free.get(gpu.pool, 0) + 1
                full = value.worth[(1 << value.units) - 1] - value.worth[0]
                change[gpu.pool] = max(change.get(gpu.pool, full), full)
        for pool, number in sorted(free.items()):
            of_node[index].append(len(nodes))
            nodes.append(index)
            frees.append(number)
            tables.append(kind.pools[pool])
            used_up.append(change[pool])
            split.append(len(free) > 1)
            own_opens.append(opens.get((index, pool), []))
    width = max((len(table) for table in tables), default=1)
    worth = np.zeros((len(tables), width))
    for row, table in enumerate(tables):
        worth[row, : len(table)] = table
        worth[row, len(table) :] = table[-1]
    return _Pools(
        node=np.array(nodes, dtype=np.int64),
        free=np.array(frees, dtype=np.int64),
        worth=worth,
        used_up=np.array(used_up, dtype=np.float64),
        split=np.array(split, dtype=np.bool_),
        opens=own_opens,
        of_node=of_node,
    )


def _counted_by(counted: list[list[int]], amounts: Ints, group: Ints) -> list[tuple[int, int, Ints]]:
    """Shapes that take scalars alone: (shape, the scalar they are counted by, int64[classes] its amount)."""
    found = []
    for shape in sorted({shape for shapes in counted for shape in shapes}):
        own = np.array([shape in shapes for shapes in counted], dtype=np.bool_)
        for scalar in range(amounts.shape[2]):
            here = np.where(own, amounts[:, shape, scalar], 0)
            first = ~np.array([amounts[g, shape, :scalar].any() for g in range(len(own))], dtype=np.bool_)
            here = np.where(first, here, 0)
            if here.any():
                found.append((shape, scalar, here[group]))
    return found


def _tight(
    problem: PlanProblem, counted: list[list[int]], amounts: Ints, group: Ints, scalars: Ints
) -> list[Ints]:
    units = np.array(
        [
            sum(
                problem.values[gpu.value].units - (mask & ~MEDIA).bit_count()
                for gpu, mask in zip(problem.kinds[node.kind].gpus, node.masks, strict=True)
            )
            for node in problem.nodes
        ],
        dtype=np.int64,
    )
    by_count = np.array([bool(shapes) for shapes in counted], dtype=np.bool_)[group]
    found = []
    for index in range(scalars.shape[1]):
        most = amounts[:, :, index].max(axis=1, initial=0)[group]
        # Every pod takes a unit at least, so that many pods there can be.
        found.append(np.flatnonzero((most > 0) & (by_count | (scalars[:, index] < units * most))))
    return found


def _slack(problem: PlanProblem) -> Floats:
    gains = []
    for value in problem.values:
        worth = np.array(value.worth, dtype=np.float64)
        upper = worth.copy()
        masks = np.arange(len(worth))
        for bit in range(value.units):
            low = masks[(masks >> bit) & 1 == 0]
            upper[low] = np.maximum(upper[low], upper[low | (1 << bit)])
        gains.append(upper - worth)
    found = []
    for node in problem.nodes:
        kind = problem.kinds[node.kind]
        free = [0] * len(kind.pools)
        total = 0.0
        for gpu, mask in zip(kind.gpus, node.masks, strict=True):
            free[gpu.pool] += mask == 0
            total += float(gains[gpu.value][mask & ((1 << problem.values[gpu.value].units) - 1)])
        total += sum(max(t[: n + 1]) - t[n] for t, n in zip(kind.pools, free, strict=True))
        found.append(total)
    return np.array(found)
