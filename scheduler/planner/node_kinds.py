"""What nodes have in common for a plan: hardware, what is free of the countable, what each pod would take.

Rows of equal hardware, published order and topology are one ``NodeKind``; what a pod needs there is read once
for all kinds that differ only in what their GPUs are worth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import WHOLE_IS_GPU, WHOLE_IS_SHARED, Columns
from scheduler.demand import Demand
from scheduler.packing.plan_problem import WHOLE, Gpu, Need, NodeKind
from scheduler.planner.admission import Constraints
from scheduler.planner.plan_prices import factors
from scheduler.prediction import parts_each, turns_of
from scheduler.scoring.context import World
from scheduler.scoring.nvlink import link_need

Shape = tuple[Demand, Constraints]
"""What pods have in common that a plan may take for one another."""


def free_scalars(columns: Columns, shapes: Sequence[Shape]) -> NDArray[np.int64]:
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


def node_kinds(
    world: World, columns: Columns, shapes: Sequence[Shape], profiles: Sequence[str]
) -> tuple[list[NodeKind], NDArray[np.int64]]:
    """The kinds of node, and which of them each row is."""
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
    dual, _ = factors(world)
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


def _need(world: World, columns: Columns, row: int, shape: Shape, profiles: Sequence[str]) -> Need | None:
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
