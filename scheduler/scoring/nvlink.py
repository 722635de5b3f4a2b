"""Price of slow links between the GPUs of one pod.

    price = gpu_hour × k × weight × (1 − share)

``share`` is the bandwidth of the set of k GPUs that the node would give, over the best set of that size
(``dra.nvlink``; where no NVLink joins even the best set, over the speed of NVLink, see
``scheduler.hardware``). The set is the first k free GPUs under DRA, the best free set under the device
plugin, whose preferred allocation looks for links. ``weight`` is the part of the pod's work that waits for
the links: annotation, else policy. Pods with fewer than two whole GPUs have no such price; k is the pod's
total, since containers of one pod that share GPUs' work are the case that matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster.policy import ClusterPolicy
from scheduler.columns import Columns, Masks
from scheduler.demand import Demand
from scheduler.hardware import Hardware
from scheduler.scoring.context import Floats, TermContext


def price(context: TermContext) -> Floats:
    """Money per hour on each row."""
    demand = context.demand
    if demand.whole_gpus < 2 or link_weight(demand, context.world.policy) == 0.0:
        return np.zeros(len(context.columns))
    return _slow(demand, context, context.columns, context.before, context.row_hour)


def price_on(demand: Demand, context: TermContext, rows: NDArray[np.int64]) -> Floats:
    """Money per hour of a demand on some rows of a context that stands for several pods."""
    if demand.whole_gpus < 2 or link_weight(demand, context.world.policy) == 0.0:
        return np.zeros(len(rows))
    return _slow(demand, context, context.columns.take(rows), context.before[rows], context.row_hour[rows])


def _slow(demand: Demand, context: TermContext, columns: Columns, masks: Masks, row_hour: Floats) -> Floats:
    share, _ = link_shares(columns, masks, demand, context.world.hardware)
    slow = np.where(np.isnan(share), 0.0, 1.0 - share)
    result: Floats = row_hour * demand.whole_gpus * link_weight(demand, context.world.policy) * slow
    return result


def link_need(demand: Demand, policy: ClusterPolicy) -> str:
    """What the pod needs: its annotation, else the policy's default; pods with fewer than two whole GPUs
    need nothing.
    """
    if demand.whole_gpus < 2:
        return "none"
    return demand.nvlink_need if demand.nvlink_need is not None else policy.nvlink.default_need


def link_weight(demand: Demand, policy: ClusterPolicy) -> float:
    """The weight in force; 0 for a pod that needs no links."""
    if link_need(demand, policy) == "none":
        return 0.0
    return demand.nvlink_weight if demand.nvlink_weight is not None else policy.nvlink.default_weight


def link_shares(
    columns: Columns, masks: Masks, demand: Demand, hardware: Hardware
) -> tuple[Floats, NDArray[np.bool_]]:
    """float64[k] share of the full speed (NaN where too few GPUs are free) and bool[k] whether NVLink joins
    the set.
    """
    gpus = demand.whole_gpus
    rows = len(columns)
    if not hardware.topologies.values:
        return np.full(rows, np.nan), np.zeros(rows, dtype=np.bool_)
    tables = hardware.links(gpus)
    free = (masks == 0) & columns.whole
    if demand.models is not None:
        good = np.array([model.name in demand.models for model in hardware.models] + [False], dtype=np.bool_)
        free &= good[columns.model_id]
    bits = (free * (1 << np.arange(columns.gpus, dtype=np.int64))).sum(axis=1)
    has = columns.topology_id >= 0
    index = np.where(has, tables.offset[columns.topology_id] + bits, 0)
    best = columns.best_links
    share = np.where(best, tables.best_share[index], tables.first_fit_share[index]).astype(np.float64)
    linked = np.where(best, tables.best_linked[index], tables.first_fit_linked[index]) & has
    return np.where(has, share, np.nan), linked
