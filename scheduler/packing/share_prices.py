"""What the free space of a node with shared GPUs is worth: V under the duals of
``scheduler.packing.node_columns``.

    V(node) = min over CPU prices π of [ π · free CPU + Σ partly used GPUs T_π(free share) + W_π(entirely
    free GPUs) ]

T and W are the knapsacks of ``scheduler.packing.shares`` with each class at its net price less π × its CPU,
tabled for a few π. The minimum is the Lagrangian bound on the best filling of that one node: with CPU to
spare it is attained at π = 0, and as CPU runs short the π that binds there takes over. So one small table
values GPU and CPU of a node together, where a price per GPU sees no CPU at all.

The net prices are means over scenarios: volumes around what is free, since the mix is known better than the
volume (and since any one LP is degenerate), and with only part of the CPU, since the LP spreads pods over
nodes perfectly and arrivals cannot. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from scheduler.packing.node_columns import FreeNodes, KnownFilling, NodeMaster, demand_of, group_nodes
from scheduler.packing.shares import MILLI, Floats, Ints, ShareClass, ShareOffers, share_table, whole_table

Scenario = tuple[float, float]
"""Demand as a multiple of the free GPUs, and the part of the CPU that is taken to be usable."""

DEFAULT_SCENARIOS: tuple[Scenario, ...] = tuple(product((0.85, 1.0, 1.15), (0.8, 0.6)))
"""More scenarios steady the prices; ``python -m benchmarks.packing_study`` compares sets of them."""
_CPU_LEVELS = 7
_CPU_STEP = 1.7
_CPU_STEPS = 16

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SharePrices:
    """``net``: milli-GPU by class. ``share`` [model, f, π] and ``whole`` [model, F, π]: the tables, an
    entirely free GPU being counted by ``whole`` only. ``levels`` [π]: milli-GPU per milli-CPU. Values are
    milli-GPU.
    """

    models: tuple[str, ...]
    unit_milli: int
    net: Floats
    share: Floats32
    whole: Floats32
    levels: Floats32
    steps: Floats
    converged: bool
    rounds: int
    fillings: frozenset[KnownFilling] = frozenset()

    def node_value(self, nodes: FreeNodes) -> Floats:
        """float64[n]: V of each node."""
        kind, steps = self._kind(nodes), self.share.shape[1]
        # GPU by GPU: sums over whole columns are several times quicker than over short rows.
        flat = self.share.reshape(-1, len(self.levels))
        at = kind * steps
        free = nodes.gpu_free // self.unit_milli
        total = self.whole[kind, (nodes.gpu_free == MILLI).sum(axis=1)] + nodes.cpu[:, None] * self.levels
        for gpu in range(free.shape[1]):
            total += flat[at + free[:, gpu]]
        result: Floats = np.minimum.reduce([total[:, level] for level in range(total.shape[1])]).astype(
            np.float64
        )
        return result

    def after_share(self, nodes: FreeNodes, gpu_milli: int) -> Floats:
        """float64[n, g]: V after taking ``gpu_milli`` from each GPU in turn, ``nodes.cpu`` being what is
        left then; rubbish where the GPU has less.
        """
        parts, whole, kind = self._parts(nodes)
        rest = np.maximum(nodes.gpu_free - gpu_milli, 0)
        taken = self.share[kind[:, None], rest // self.unit_milli]
        base = parts.sum(axis=1) + nodes.cpu[:, None] * self.levels
        opened = (nodes.gpu_free == MILLI)[:, :, None]
        fewer = self.whole[kind, np.maximum(whole - 1, 0)]
        left = np.where(opened, fewer[:, None], self.whole[kind, whole][:, None])
        result: Floats = (base[:, None] - parts + taken + left).min(axis=2).astype(np.float64)
        return result

    def _kind(self, nodes: FreeNodes) -> Ints:
        """int64[n]: the row of the tables for a node's model and free CPU."""
        kind: Ints = nodes.model * (len(self.steps) + 1)
        return kind + np.searchsorted(self.steps, nodes.cpu, side="right")

    def _parts(self, nodes: FreeNodes) -> tuple[Floats32, Ints, Ints]:
        kind = self._kind(nodes)
        parts = self.share[kind[:, None], nodes.gpu_free // self.unit_milli]
        return parts, (nodes.gpu_free == MILLI).sum(axis=1), kind


def solve_share_prices(
    offers: ShareOffers,
    nodes: FreeNodes,
    *,
    scenarios: Sequence[Scenario] = DEFAULT_SCENARIOS,
    time_limit_seconds: float = float("inf"),
    known: frozenset[KnownFilling] = frozenset(),
) -> SharePrices:
    """Solve the LP of every scenario in turn, within the time limit, and table the mean prices. ``known``:
    the ``fillings`` of earlier prices for the same offers, a warm start.
    """
    master = NodeMaster(offers, group_nodes(nodes, offers), known=known)
    free = float(nodes.gpu_free.sum())
    nets, converged = [], True
    for saturation, cpu_share in scenarios:
        demand = demand_of(offers.classes, free, saturation)
        converged &= master.solve(demand, cpu_share=cpu_share, deadline_seconds=time_limit_seconds)
        nets.append(master.net_prices())
    net = np.mean(nets, axis=0)
    most = int(max((nodes.gpu_free > 0).sum(axis=1).max(initial=1), nodes.gpu_free.shape[1]))
    return _tabled(offers, net, most, converged, master)


def cpu_levels(classes: Sequence[ShareClass]) -> Floats:
    """The CPU prices worth tabling: 0, and down from the dearest that some pod could pay, in milli-GPU
    per milli-CPU.
    """
    dearest = max((item.total_gpu_milli / max(1, item.cpu_milli) for item in classes), default=1.0)
    return np.concatenate([[0.0], min(dearest, 1.0) / 2.0 * _CPU_STEP ** -np.arange(_CPU_LEVELS)[::-1]])


def cpu_steps(classes: Sequence[ShareClass]) -> Floats:
    """The free CPU at which a node can run one more kind of pod, milli: of the distinct amounts asked for, at
    most ``_CPU_STEPS``, those with the most GPUs behind them.
    """
    weight: dict[int, float] = {}
    for item in classes:
        if item.gpus:
            weight[item.cpu_milli] = weight.get(item.cpu_milli, 0.0) + item.count * item.total_gpu_milli
    kept = sorted(weight, key=lambda cpu: (-weight[cpu], cpu))[:_CPU_STEPS]
    several = {item.cpu_milli for item in classes if item.gpus > 1}
    return np.array(sorted(several.union(kept)), dtype=np.float64)


def _tabled(offers: ShareOffers, net: Floats, most: int, converged: bool, master: NodeMaster) -> SharePrices:
    levels, steps = cpu_levels(offers.classes), cpu_steps(offers.classes)
    kinds = len(offers.models) * (len(steps) + 1)
    model = np.repeat(np.arange(len(offers.models)), (len(steps) + 1) * len(levels))
    below = np.append(steps, np.inf)
    fits = offers.cpu_milli < np.tile(np.repeat(below, len(levels)), len(offers.models))[:, None]
    shares, wholes = offers.worth(net, model, np.tile(levels, kinds), fits)
    table = share_table(shares.value, offers.weights, offers.units)
    whole, _ = whole_table(wholes.value, table.values[:, -1], offers.sizes, most)
    share = table.values.copy()
    share[:, -1] = 0.0  # an entirely free GPU is counted by ``whole``

    def laid_out(values: Floats) -> Floats32:
        return np.ascontiguousarray(
            values.reshape(kinds, len(levels), -1).transpose(0, 2, 1), dtype=np.float32
        )

    return SharePrices(
        models=offers.models,
        unit_milli=offers.unit_milli,
        net=net,
        share=laid_out(share),
        whole=laid_out(whole),
        levels=levels.astype(np.float32),
        steps=steps,
        converged=converged,
        rounds=master.rounds,
        fillings=master.useful(),
    )
