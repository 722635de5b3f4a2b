"""What free space is worth on a node that may be short of CPU or memory.

    V(node) = min over (π, ρ) of [ π · free CPU + ρ · free memory + Σ partly used GPUs V_πρ(mask)
                                   + W_πρ(free GPUs) + Σ free fixed instances ]

V and W are the knapsacks of ``columns`` with each class at its net price less π × its CPU and ρ × its memory,
tabled for a few (π, ρ). Each is an upper bound on the best filling of that one node (Lagrangian relaxation of
its CPU and memory), so the least of them is the tightest known: with plenty to spare it is attained at
(0, 0), and as CPU or memory runs short the price that binds takes over. Prices of one resource at a time are
tabled, not pairs: a node short of both is valued by the one that binds harder.

``need`` says what the best fillings at (0, 0) take. A node that has that much is worth exactly its (0, 0)
value, since π · (free − need) ≥ 0 for every price: the other tables need not be looked at, and in most fleets
almost no node has to. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.packing.columns import Floats, ModelClasses
from scheduler.packing.master import instance_classes, knapsacks

_CPU_LEVELS, _CPU_STEP = 7, 1.7
_MEMORY_LEVELS, _MEMORY_STEP = 4, 3.0
_DEAREST_PER_CPU = 1e-3  # GPUs a milli-CPU: a class that asks for next to no CPU does not set the scale
_DEAREST_PER_MIB = 1e-3


@dataclass(frozen=True, slots=True)
class HostTables:
    """``price`` [levels, 2]: money/h per milli-CPU and per MiB, level 0 is (0, 0). By model: ``gpu``
    [masks, levels], ``node`` and ``whole`` [free GPUs, levels], ``static`` by profile [levels]; what the best
    fillings at level 0 take of CPU and memory: ``gpu_need`` [masks, 2], ``node_need``, ``whole_need`` [free
    GPUs, 2], ``static_need`` by profile [2].
    """

    price: Floats
    gpu: Mapping[str, Floats]
    node: Mapping[str, Floats]
    whole: Mapping[str, Floats]
    static: Mapping[str, Mapping[str, Floats]]
    gpu_need: Mapping[str, Floats]
    node_need: Mapping[str, Floats]
    whole_need: Mapping[str, Floats]
    static_need: Mapping[str, Mapping[str, Floats]]


def host_levels(values: Mapping[str, Floats], need: Floats, gpu_hour: float) -> Floats:
    """The prices worth tabling: (0, 0), then CPU and memory down from half of the dearest that some class
    could pay. ``values``: by model, money/h of a class; ``need`` [classes, 2]; ``gpu_hour``: of the dearest
    model.
    """
    scales = (
        (0, _CPU_LEVELS, _CPU_STEP, _DEAREST_PER_CPU),
        (1, _MEMORY_LEVELS, _MEMORY_STEP, _DEAREST_PER_MIB),
    )
    found = [np.zeros((1, 2))]
    for resource, levels, step, most in scales:
        asked = need[:, resource] > 0.0
        if not asked.any():
            continue
        dearest = max(float((value[asked] / need[asked, resource]).max()) for value in values.values())
        prices = np.zeros((levels, 2))
        # Snapped to a power of the step: a mix that drifts should not move all tables.
        scale = step ** float(np.round(np.log(min(dearest, most * gpu_hour) / 2.0) / np.log(step)))
        prices[:, resource] = scale * step ** -np.arange(levels, dtype=np.float64)[::-1]
        found.append(prices)
    return np.vstack(found)


def host_tables(
    offers: Mapping[str, ModelClasses],
    net: Mapping[str, Floats],
    need: Floats,
    level_prices: Floats,
    profiles: Mapping[str, Sequence[str]],
    max_gpus: int,
) -> HostTables:
    """Table every model at every level. ``net``: by model, net class prices at level 0; ``profiles``: by
    model, those of fixed instances.
    """
    price = {name: values - level_prices @ need.T for name, values in net.items()}
    tables = knapsacks(offers, price, max_gpus)
    static: dict[str, Mapping[str, Floats]] = {}
    static_need: dict[str, Mapping[str, Floats]] = {}
    for name, found in profiles.items():
        worths = {profile: _instance(offers[name], profile, price[name], need) for profile in found}
        static[name] = {profile: worth for profile, (worth, _) in worths.items()}
        static_need[name] = {profile: taken for profile, (_, taken) in worths.items()}
    return HostTables(
        price=level_prices,
        gpu={name: _laid_out(table.gpu.values) for name, table in tables.items()},
        node={name: _laid_out(table.node.values) for name, table in tables.items()},
        whole={name: _laid_out(table.whole.values) for name, table in tables.items()},
        static=static,
        gpu_need={name: table.gpu.needs(need) for name, table in tables.items()},
        node_need={name: table.node.needs(need) for name, table in tables.items()},
        whole_need={name: table.whole.needs(need) for name, table in tables.items()},
        static_need=static_need,
    )


def _laid_out(values: Floats) -> Floats:
    return np.ascontiguousarray(values.T)


def _instance(offer: ModelClasses, profile: str, price: Floats, need: Floats) -> tuple[Floats, Floats]:
    members = instance_classes(offer, profile)
    if not members:
        return np.zeros(len(price)), np.zeros(2)
    own = price[:, list(members)]
    first = members[int(own[0].argmax())]
    taken = need[first] if own[0].max() > 0.0 else np.zeros(2)
    return np.maximum(0.0, own.max(axis=1)), taken
