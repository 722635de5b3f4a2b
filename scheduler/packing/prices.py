"""Price tables: what a GPU, or a node's free GPUs, in each state can still earn from the expected demand.

The packing LP (``master``) is solved for the expected mix (``mix``) over the free capacity (``supply``). Its
duals give each class a net price; the tables are the knapsack values of every state under those prices:

    gpu_value[model][mask]    V, money per hour one GPU with occupied units ``mask`` can still earn; V(0) =
                              W(1). Where MIG instances are expected: the value table of ``mig_tables``
    node_value[model][F]      W, the same for F entirely free GPUs of one node
    whole_value[model][F]     W where the GPUs cannot be cut (MIG mode off): whole-GPU pods only
    gradient[model][mask]     FGD's F in GPU equivalents (``gradient``), by threshold of free CPU
    class_price[name]         best net price of a class over the models that can serve it
    hosts                     the same where CPU or memory is short (``host_tables``), None where no class
                              of the mix says what it needs of its node
    shared                    the same for GPUs in shared mode (``shared_fleet``), None where there are none
    mig                       the value tables that ``gpu_value`` is made of, 1 for an empty GPU
    mig_asked                 the profiles that these expect pods to ask for, by model
    coming                    the requests by class that ``mig`` was made for

A placement costs V(before) − V(after). A request of class d is worth v_dm = gpu_hour(m) × GPU equivalents on
model m, so capacity on a dear model is dear to destroy. With several saturations the prices are averaged
before the tables are solved: each table is the knapsack under one set of prices, therefore monotone (less
free space is never worth more) and W superadditive.

The LP spreads pods over nodes perfectly and arrivals cannot, so with hosts only part of the CPU and memory is
taken to be usable (``USABLE``), and the prices are means over these scenarios too. A forecast's uncertainty
goes with the saturation (``mix``).

Degenerate duals: whole numbers of identical states and requests put many LP vertices on one point, where any
dual is optimal and the solver's choice may jump from one solve to the next. Two things hold them still: each
class's demand is perturbed by a fixed fraction below 1e-4, which makes the vertex simple, and prices are
averaged over the saturations.

Pure: no clock of its own (the time limit is the LP solver's), no randomness; the same input gives the same
tables unless the limit was hit (``converged`` says so).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

import numpy as np

from dra.catalog import GpuModel
from dra.mig import geometry
from scheduler.packing.columns import MIN_NODE_GPUS, Floats, ModelClasses, model_classes
from scheduler.packing.gradient import fragmentation, thresholds_of
from scheduler.packing.host_tables import HostTables, host_levels, host_tables
from scheduler.packing.master import NO_HOST, Group, Hosts, Master, knapsacks
from scheduler.packing.mig_tables import linear_gradient, mig_demand, shaped_hosts
from scheduler.packing.mix import DemandClass, DemandMix, Expected, parse_class, quantiles, uniform
from scheduler.packing.shared_fleet import SharedNodes, SharedTables, solve_shared
from scheduler.packing.supply import FleetSummary, HostPool

__all__ = ["FleetSummary", "PriceTables", "solve_prices", "unsolved"]

USABLE = (0.8, 0.6)
"""Parts of the nodes' CPU and memory taken to be usable; as in ``share_prices``, where they were measured."""

_PERTURBATION = 1e-4
_COLUMNS_KEPT = 24  # per group, to start the next solve from
_TRACE = 1e-3  # of all arrivals: the value tables round up to their least share
_OTHERS_FIRST = 2.0  # pods without a GPU pay for CPU this many times what any pod with one could

NamedFilling = tuple[tuple[str, int], ...]
GroupKey = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class PriceTables:
    """One published set of tables; arrays are read-only. ``objective`` ≤ ``bound`` (money/h) of the last
    LP solved. ``gradient_steps``: by model [thresholds + 1, masks], row k where the free CPU reaches k of
    ``gradient_cpu`` (milli-CPU, ascending); ``gradient`` is the last row, CPU in plenty.
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
    hosts: HostTables | None = None
    gradient_cpu: Floats = field(default_factory=lambda: np.zeros(0))
    gradient_steps: Mapping[str, Floats] = field(default_factory=dict)
    shared: SharedTables | None = None
    mig: Mapping[str, Floats] = field(default_factory=dict)
    mig_asked: Mapping[str, frozenset[str]] = field(default_factory=dict)
    coming: Mapping[str, float] = field(default_factory=dict)


def unsolved() -> PriceTables:
    """Tables before the first solve: no model is known, so no placement has a fragmentation price."""
    return PriceTables()


def solve_prices(
    fleet_summary: FleetSummary,
    mix: DemandMix,
    gpu_hour: Callable[[str], float],
    previous: PriceTables | None = None,
    time_limit_seconds: float = 1.0,
    waiting: Iterable[str] = (),
    arrivals: Mapping[str, float] = MappingProxyType({}),
) -> PriceTables:
    """Solve the LP and return the next version of the tables.

    ``gpu_hour(model)``: money per hour of one whole GPU. ``previous`` seeds the columns and the version.
    ``waiting``: names of the classes of which some pod waits; ``arrivals``: requests by class as they come,
    for MIG cards; the mix where there are none. A mix without a class that any model can serve
    is replaced by the uniform one.
    """
    models = dict(sorted(fleet_summary.models.items()))
    expected = _servable(mix, fleet_summary)
    classes = [item.cls for item in expected]
    offers = {name: model_classes(model, geometry(model), classes) for name, model in models.items()}
    values = {name: _values(offer, len(classes), gpu_hour(name)) for name, offer in offers.items()}
    need = np.array([[cls.cpu_milli, cls.memory_mib] for cls in classes], dtype=np.float64).reshape(-1, 2)
    dearest = max((gpu_hour(name) for name in models), default=0.0)
    levels = host_levels(values, need, dearest) if need.any() and values else np.zeros((1, 2))
    with_hosts = bool(fleet_summary.hosts) and len(levels) > 1
    groups = _all_groups(fleet_summary) if with_hosts else _groups(fleet_summary, models)
    widest = max((group.state for group in groups if group.kind in ("node", "whole")), default=0)
    max_gpus = max(MIN_NODE_GPUS, widest)

    hosts = _hosts(fleet_summary, need, mix, levels) if with_hosts else None
    master = Master(groups, offers, values, hosts)
    _seed(master, [cls.name for cls in classes], previous)
    multipliers, demands, converged = [], [], True
    for usable in USABLE if with_hosts else (1.0,):
        for demand, scale in _demands(expected, mix, fleet_summary, offers):
            converged &= master.solve(demand, max_gpus, time_limit_seconds, usable=usable, others=scale)
            multipliers.append(master.multipliers)
            demands.append(demand)
    mean = np.mean(multipliers, axis=0) if multipliers else np.zeros(len(classes))

    net = {name: np.maximum(0.0, value - mean) for name, value in values.items()}
    tables = knapsacks(offers, {name: price[None] for name, price in net.items()}, max_gpus)
    popularity = np.array([item.count for item in expected], dtype=np.float64)
    thresholds = thresholds_of(need[:, 0], popularity) if with_hosts else np.zeros(0)
    gradients = {
        name: fragmentation(offer, popularity, need[:, 0], thresholds) for name, offer in offers.items()
    }
    waits = [cls for name in waiting if (cls := parse_class(name)) is not None]
    coming = _coming(arrivals, expected)
    instances = mig_demand(models.values(), coming, waits)
    shapes = {name: one.shape(models[name]) for name, one in instances.items()}
    for name in shapes:
        gradients[name] = linear_gradient(models[name], gradients[name])
    return PriceTables(
        version=previous.version + 1 if previous is not None else 1,
        gpu_value=_published(
            {n: _gpu_value(t.gpu.values[0], t.node.values[0], shapes.get(n)) for n, t in tables.items()}
        ),
        node_value=_published({name: t.node.values[0] for name, t in tables.items()}),
        class_price=MappingProxyType(_class_prices(classes, offers, net)),
        gradient=_published({name: found[-1] for name, found in gradients.items()}),
        whole_value=_published({name: t.whole.values[0] for name, t in tables.items()}),
        demand=MappingProxyType(
            dict(zip((cls.name for cls in classes), demands[-1].tolist(), strict=True)) if demands else {}
        ),
        objective=master.objective,
        bound=master.upper_bound,
        rounds=master.rounds,
        converged=converged,
        columns=_named(master, [cls.name for cls in classes]),
        hosts=shaped_hosts(host_tables(offers, net, need, levels, _profiles(fleet_summary), max_gpus), shapes)
        if with_hosts
        else None,
        gradient_cpu=thresholds,
        gradient_steps=_published(gradients),
        shared=_shared(fleet_summary.shared, mix, previous, time_limit_seconds - master.elapsed_seconds()),
        mig=_published(shapes),
        mig_asked=MappingProxyType({name: one.asked for name, one in instances.items()}),
        coming=MappingProxyType({cls.name: count for cls, count in coming}),
    )


def _shared(
    nodes: SharedNodes | None, mix: DemandMix, previous: PriceTables | None, left_seconds: float
) -> SharedTables | None:
    if nodes is None:
        return None
    last = previous.shared if previous is not None else None
    if left_seconds <= 0.0 and last is not None and last.kinds == nodes.kinds:
        return last
    return solve_shared(nodes, mix.expected(), max(0.01, left_seconds))


def _servable(mix: DemandMix, summary: FleetSummary) -> tuple[Expected, ...]:
    """The classes with a count, keeping those some model offers; the uniform mix when there is none."""
    for candidate in (mix, uniform(summary.models.values())):
        found = tuple(item for item in candidate.expected() if _offered(item.cls, summary))
        if found:
            return found
    return ()


def _coming(arrivals: Mapping[str, float], expected: Sequence[Expected]) -> list[tuple[DemandClass, float]]:
    """What MIG cards are valued for: arrivals, and a trace of what runs or waits and came long ago."""
    found = {cls: count for name, count in arrivals.items() if (cls := parse_class(name)) is not None}
    if not found:
        return [(item.cls, item.count) for item in expected]
    least = _TRACE * sum(found.values())
    names = {cls.base for cls in found}
    return [*found.items(), *((item.cls, least) for item in expected if item.cls.base not in names)]


def _offered(cls: DemandClass, summary: FleetSummary) -> bool:
    models = [model for name, model in summary.models.items() if cls.allows(name)]
    if cls.kind == "mig":
        return any(model.profile(cls.profile) is not None for model in models)
    return cls.kind == "whole" and bool(models)


def _values(offer: ModelClasses, classes: int, gpu_hour: float) -> Floats:
    return np.array([gpu_hour * offer.share.get(index, 0.0) for index in range(classes)], dtype=np.float64)


def _class_prices(
    classes: Sequence[DemandClass], offers: Mapping[str, ModelClasses], net: Mapping[str, Floats]
) -> dict[str, float]:
    """The best net price of each class, whatever it needs of its node, over the models that serve it."""
    found: dict[str, float] = {}
    for index, cls in enumerate(classes):
        prices = [float(net[name][index]) for name, offer in offers.items() if index in offer.share]
        found[cls.base] = max(found.get(cls.base, 0.0), *prices, 0.0)
    return found


def _hosts(summary: FleetSummary, need: Floats, mix: DemandMix, levels: Floats) -> Hosts:
    free = [(pool.cpu_milli, pool.memory_mib) for pool in summary.hosts]
    value = _OTHERS_FIRST * 2.0 * float(levels[:, 0].max())
    return Hosts(np.array(free, dtype=np.float64).reshape(-1, 2), need, mix.without_gpu, value)


def _all_groups(summary: FleetSummary) -> list[Group]:
    return [
        group
        for index, pool in enumerate(summary.hosts)
        for group in _groups(
            pool, summary.models, index if pool.cpu_milli + pool.memory_mib < inf else NO_HOST
        )
    ]


def _groups(
    states: FleetSummary | HostPool, models: Mapping[str, GpuModel], host: int = NO_HOST
) -> list[Group]:
    groups = []
    for (name, mask), count in sorted(states.gpu_states.items()):
        full = (1 << models[name].units) - 1
        if count > 0 and 0 < (mask & full) < full:
            groups.append(Group("gpu", name, mask & full, "", count, host))
    for (name, free), count in sorted(states.free_nodes.items()):
        if count > 0 and free > 0:
            groups.append(Group("node", name, free, "", count, host))
    for (name, free), count in sorted(states.whole_nodes.items()):
        if count > 0 and free > 0:
            groups.append(Group("whole", name, free, "", count, host))
    for (name, profile), count in sorted(states.static_instances.items()):
        if count > 0:
            groups.append(Group("static", name, 0, profile, count, host))
    return groups


def _profiles(summary: FleetSummary) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for model, profile in sorted(summary.static_instances):
        found.setdefault(model, []).append(profile)
    return found


def _demands(
    expected: Sequence[Expected],
    mix: DemandMix,
    summary: FleetSummary,
    offers: Mapping[str, ModelClasses],
) -> list[tuple[Floats, float]]:
    """The right-hand sides to solve for, each with what its counts were multiplied by: the counts as they
    are, or scaled to each multiple of the free capacity.
    """
    if not expected:
        return []
    size = []
    for index in range(len(expected)):
        shares = [offer.share[index] for offer in offers.values() if index in offer.share]
        size.append(sum(shares) / len(shares))
    nudge = 1.0 + _PERTURBATION * np.arange(1, len(expected) + 1) / (len(expected) + 1)
    mean = np.array([item.count for item in expected], dtype=np.float64)
    spread = np.array([item.spread for item in expected], dtype=np.float64)
    if mix.saturations is None:
        return [(mean * nudge, 1.0)]
    free, sizes = summary.free_gpus(), np.array(size)
    found = []
    levels = sorted(mix.saturations)
    for saturation, deviations in zip(levels, quantiles(len(levels)), strict=True):
        # Something of each class stays: a price of nothing would say nothing.
        base = np.maximum(mean + deviations * spread, 0.05 * mean) * nudge
        # A full cluster still needs tables for the states it will be in once something ends: then price one
        # free GPU's worth.
        scale = saturation * max(free, 1.0) / float(base @ sizes)
        found.append((base * scale, scale))
    return found


def _gpu_value(values: Floats, node: Floats, shape: Floats | None) -> Floats:
    """V with the free GPU at what it earns as part of a node, where a whole-GPU pod may beat any MIG
    filling; with a shape, that times the shape.
    """
    if shape is not None:
        return shape * float(node[1])
    table = values.copy()
    table[0] = max(table[0], node[1])
    return table


def _seed(master: Master, names: list[str], previous: PriceTables | None) -> None:
    if previous is None:
        return
    index = {name: position for position, name in enumerate(names)}
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
