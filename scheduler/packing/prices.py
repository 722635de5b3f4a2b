"""Price tables: what a GPU, or a node's free GPUs, in each state can still earn from the expected demand.

The packing LP (``master``) is solved for the expected mix (``mix``) over the free capacity (``supply``). Its
duals give each class a net price; the tables are the knapsack values of every state under those prices:

    gpu_value[model][mask]    V, money per hour one GPU with occupied units ``mask`` can still earn; V(0) =
                              W(1)
    node_value[model][F]      W, the same for F entirely free GPUs of one node
    whole_value[model][F]     W where the GPUs cannot be cut (MIG mode off): whole-GPU pods only
    gradient[model][mask]     FGD's F in GPU equivalents (``gradient``)
    class_price[name]         best net price of a class over the models that can serve it

A placement costs V(before) − V(after). A request of class d is worth v_dm = gpu_hour(m) × GPU equivalents on
model m, so capacity on a dear model is dear to destroy. With several saturations the prices are averaged
before the tables are solved: each table is the knapsack under one set of prices, therefore monotone (less
free space is never worth more) and W superadditive.

Degenerate duals: whole numbers of identical states and requests put many LP vertices on one point, where any
dual is optimal and the solver's choice may jump from one solve to the next. Two things hold them still: each
class's demand is perturbed by a fixed fraction below 1e-4, which makes the vertex simple, and prices are
averaged over the saturations.

Pure: no clock of its own (the time limit is the LP solver's), no randomness; the same input gives the same
tables unless the limit was hit (``converged`` says so).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from dra.mig import geometry
from scheduler.packing.columns import MIN_NODE_GPUS, Floats, ModelClasses, model_classes
from scheduler.packing.gradient import fragmentation
from scheduler.packing.master import Group, Master, knapsacks
from scheduler.packing.mix import DemandClass, DemandMix, uniform
from scheduler.packing.supply import FleetSummary

__all__ = ["FleetSummary", "PriceTables", "solve_prices", "unsolved"]

_PERTURBATION = 1e-4
_COLUMNS_KEPT = 24  # per group, to start the next solve from

NamedFilling = tuple[tuple[str, int], ...]
GroupKey = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class PriceTables:
    """One published set of tables; arrays are read-only. ``objective`` ≤ ``bound`` (money/h) of the last
    LP solved.
    """

    version: int = 0
    gpu_value: Mapping[str, Floats] = field(default_factory=dict)
    node_value: Mapping[str, Floats] = field(default_factory=dict)
    class_price: Mapping[str, float] = field(default_factory=dict)
    gradient: Mapping[str, Floats] = field(default_factory=dict)
    whole_value: Mapping[str, Floats] = field(default_factory=dict)
    demand: Mapping[str, float] = field(default_factory=dict)
    objective: float = 0.0
    bound: float = 0.0
    rounds: int = 0
    converged: bool = True
    columns: Mapping[GroupKey, tuple[NamedFilling, ...]] = field(default_factory=dict, repr=False)


def unsolved() -> PriceTables:
    """Tables before the first solve: no model is known, so no placement has a fragmentation price."""
    return PriceTables()


def solve_prices(
    fleet_summary: FleetSummary,
    mix: DemandMix,
    gpu_hour: Callable[[str], float],
    previous: PriceTables | None = None,
    time_limit_seconds: float = 1.0,
) -> PriceTables:
    """Solve the LP and return the next version of the tables.

    ``gpu_hour(model)``: money per hour of one whole GPU. ``previous`` seeds the columns and the version. A
    mix without a class that any model can serve is replaced by the uniform one.
    """
    models = dict(sorted(fleet_summary.models.items()))
    classes, counts = _servable(mix, fleet_summary)
    offers = {name: model_classes(model, geometry(model), classes) for name, model in models.items()}
    values = {name: _values(offer, len(classes), gpu_hour(name)) for name, offer in offers.items()}
    groups = _groups(fleet_summary)
    widest = max((group.state for group in groups if group.kind in ("node", "whole")), default=0)
    max_gpus = max(MIN_NODE_GPUS, widest)

    master = Master(groups, offers, values)
    _seed(master, classes, previous)
    multipliers, demands, converged = [], [], True
    for demand in _demands(classes, counts, mix, fleet_summary, offers):
        converged &= master.solve(demand, max_gpus, time_limit_seconds)
        multipliers.append(master.multipliers)
        demands.append(demand)
    mean = np.mean(multipliers, axis=0) if multipliers else np.zeros(len(classes))

    prices = {name: np.maximum(0.0, value - mean) for name, value in values.items()}
    tables = knapsacks(offers, prices, max_gpus)
    popularity = np.array(counts, dtype=np.float64)
    names = [cls.name for cls in classes]
    best = {
        name: max((float(prices[m][i]) for m, offer in offers.items() if i in offer.share), default=0.0)
        for i, name in enumerate(names)
    }
    return PriceTables(
        version=previous.version + 1 if previous is not None else 1,
        gpu_value=_published({name: _gpu_value(t.gpu.values, t.node.values) for name, t in tables.items()}),
        node_value=_published({name: t.node.values for name, t in tables.items()}),
        class_price=MappingProxyType(best),
        gradient=_published({name: fragmentation(offer, popularity) for name, offer in offers.items()}),
        whole_value=_published({name: t.whole.values for name, t in tables.items()}),
        demand=MappingProxyType(dict(zip(names, demands[-1].tolist(), strict=True)) if demands else {}),
        objective=master.objective,
        bound=master.upper_bound,
        rounds=master.rounds,
        converged=converged,
        columns=_named(master, names),
    )


def _servable(mix: DemandMix, summary: FleetSummary) -> tuple[list[DemandClass], list[float]]:
    """The classes with a count, keeping those some model offers; the uniform mix when there is none."""
    for candidate in (mix, uniform(summary.models.values())):
        found = [(cls, count) for cls, count in candidate.classes() if _offered(cls, summary)]
        if found:
            return [cls for cls, _ in found], [count for _, count in found]
    return [], []


def _offered(cls: DemandClass, summary: FleetSummary) -> bool:
    models = [model for name, model in summary.models.items() if cls.allows(name)]
    if cls.kind == "mig":
        return any(model.profile(cls.profile) is not None for model in models)
    return cls.kind == "whole" and bool(models)


def _values(offer: ModelClasses, classes: int, gpu_hour: float) -> Floats:
    return np.array([gpu_hour * offer.share.get(index, 0.0) for index in range(classes)], dtype=np.float64)


def _groups(summary: FleetSummary) -> list[Group]:
    groups = []
    for (name, mask), count in sorted(summary.gpu_states.items()):
        full = (1 << summary.models[name].units) - 1
        if count > 0 and 0 < (mask & full) < full:
            groups.append(Group("gpu", name, mask & full, "", count))
    for (name, free), count in sorted(summary.free_nodes.items()):
        if count > 0 and free > 0:
            groups.append(Group("node", name, free, "", count))
    for (name, free), count in sorted(summary.whole_nodes.items()):
        if count > 0 and free > 0:
            groups.append(Group("whole", name, free, "", count))
    for (name, profile), count in sorted(summary.static_instances.items()):
        if count > 0:
            groups.append(Group("static", name, 0, profile, count))
    return groups


def _demands(
    classes: list[DemandClass],
    counts: list[float],
    mix: DemandMix,
    summary: FleetSummary,
    offers: Mapping[str, ModelClasses],
) -> list[Floats]:
    """The right-hand sides to solve for: the counts as they are, or scaled to each multiple of the free
    capacity.
    """
    if not classes:
        return []
    size = []
    for index in range(len(classes)):
        shares = [offer.share[index] for offer in offers.values() if index in offer.share]
        size.append(sum(shares) / len(shares))
    nudge = 1.0 + _PERTURBATION * np.arange(1, len(classes) + 1) / (len(classes) + 1)
    base = np.array(counts, dtype=np.float64) * nudge
    if mix.saturations is None:
        return [base]
    wanted, free = float(base @ np.array(size)), summary.free_gpus()
    # A full cluster still needs tables for the states it will be in once something ends: then price one free
    # GPU's worth.
    return [base * (saturation * max(free, 1.0) / wanted) for saturation in sorted(mix.saturations)]


def _gpu_value(values: Floats, node: Floats) -> Floats:
    """V with the free GPU at what it earns as part of a node, where a whole-GPU pod may beat any MIG
    filling.
    """
    table = values.copy()
    table[0] = max(table[0], node[1])
    return table


def _seed(master: Master, classes: list[DemandClass], previous: PriceTables | None) -> None:
    if previous is None:
        return
    index = {cls.name: position for position, cls in enumerate(classes)}
    for position, group in enumerate(master.groups):
        for filling in previous.columns.get(group.key, ()):
            if all(name in index for name, _ in filling):
                master.add(position, tuple(sorted((index[name], number) for name, number in filling)))


def _named(master: Master, names: list[str]) -> Mapping[GroupKey, tuple[NamedFilling, ...]]:
    return MappingProxyType(
        {
            key: tuple(
                tuple((names[i], number) for i, number in filling) for filling in fillings[-_COLUMNS_KEPT:]
            )
            for key, fillings in master.columns().items()
        }
    )


def _published(tables: dict[str, Floats]) -> Mapping[str, Floats]:
    for table in tables.values():
        table.flags.writeable = False
    return MappingProxyType(tables)
