"""MIG cards in the price tables: the packing LP says what a free GPU is worth, the value table of
``mig_values`` how that worth goes down as instances fill it.

The LP sees volumes: it prices what is scarce, and every state of a card by the best filling left. It cannot
see that instances end at random, that a queue takes the next free place of its kind at once, or that free
space is better kept in one piece. The value table knows these, but one card only. So wherever MIG instances
are expected on a model, its states are valued as

    gpu_value[mask] = shape[mask] × W(1)         shape: ``mig_values.mask_values``, 1 empty, 0 full

and the same at each CPU and memory price (``host_tables``): the shape times that level's W(1). What the rest
of a card needs of CPU and memory goes in proportion to its worth, which keeps a node with enough of both at
exactly its value at level 0.

Before ``_PRIOR_REQUESTS`` have come, or are named by the policy (``demand.classes``), nothing is known: each
plain profile then counts its part of them. One with a share below ``_LEAST_SHARE`` is left out unless it
waits, since the value tables round up.

A request for k whole GPUs counts as k arrivals of the profile that takes the card; one for a profile with a
suffix as one for the plain profile of its size. FGD's gradient is made linear in the free units of such
models: it still charges whole GPUs, and no longer votes on where an instance goes, which the value table was
settled without. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from dra.catalog import GpuModel, MigProfile
from scheduler.packing.columns import Floats
from scheduler.packing.host_tables import HostTables
from scheduler.packing.mig_values import mask_values
from scheduler.packing.mix import DemandClass

_PRIOR_REQUESTS = 4.0  # of all plain profiles alike
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class MigDemand:
    """What is expected of one model. ``counts``: requests by plain profile; ``waits``: those profiles of
    which some pod waits; ``asked``: every profile that pods name or the prior assumes, with suffixes.
    """

    counts: Mapping[str, float]
    waits: frozenset[str]
    asked: frozenset[str]

    def shape(self, model: GpuModel) -> Floats:
        """float64[masks], 1 when empty, 0 when full."""
        return mask_values(model, self.counts, self.waits)


def mig_demand(
    models: Iterable[GpuModel],
    expected: Iterable[tuple[DemandClass, float]],
    waiting: Iterable[DemandClass] = (),
) -> dict[str, MigDemand]:
    """By name of each model on which MIG instances are expected. ``expected``: classes with their counts;
    ``waiting``: classes of which some pod waits.
    """
    classes, held = tuple(expected), tuple(waiting)
    found = {}
    for model in models:
        requests: Counter[str] = Counter()
        named: set[str] = set()
        for cls, count in classes:
            profile = _profile(model, cls)
            if profile is not None:
                requests[profile] += count * (cls.gpus if cls.kind == "whole" else 1)  # type: ignore[assignment]
                if cls.kind == "mig":
                    named.add(cls.profile)
        if named:
            waits = frozenset(name for cls in held if (name := _profile(model, cls)) is not None)
            counts = _with_prior(model, requests, waits)
            found[model.name] = MigDemand(counts, waits, frozenset(counts.keys() | named))
    return found


def _with_prior(model: GpuModel, counts: Mapping[str, float], waits: frozenset[str]) -> dict[str, float]:
    plain = [profile.name for profile in model.profiles if profile.plain]
    prior = _PRIOR_REQUESTS / len(plain) if sum(counts.values()) < _PRIOR_REQUESTS else 0.0
    known = {name: prior + counts.get(name, 0.0) for name in plain}
    least = _LEAST_SHARE * sum(known.values())
    found = {name: count for name, count in known.items() if count >= max(least, 1e-9)}
    return {**dict.fromkeys(sorted(waits - found.keys()), least), **found}


def shaped_hosts(hosts: HostTables, shapes: Mapping[str, Floats]) -> HostTables:
    """The tables by CPU and memory price with the shaped models' GPUs valued by their shapes."""
    gpu, gpu_need = dict(hosts.gpu), dict(hosts.gpu_need)
    for name, shape in shapes.items():
        if name in gpu:
            gpu[name] = np.outer(shape, hosts.node[name][1])
            gpu_need[name] = np.outer(shape, hosts.node_need[name][1])
    return replace(hosts, gpu=gpu, gpu_need=gpu_need)


def linear_gradient(model: GpuModel, gradient: Floats) -> Floats:
    """FGD's F [..., masks] drawn straight from the empty to the full card, by free units."""
    free = model.units - np.bitwise_count(np.arange(1 << model.units))
    straight: Floats = gradient[..., :1] * (free / model.units)
    return straight


@lru_cache(maxsize=4096)
def _profile(model: GpuModel, cls: DemandClass) -> str | None:
    """The plain profile as which a request of the class counts on the model, or None."""
    if not cls.allows(model.name):
        return None
    if cls.kind == "whole":
        return next((p.name for p in model.profiles if p.plain and p.size == model.units), None)
    asked = model.profile(cls.profile) if cls.kind == "mig" else None
    if asked is None or asked.plain:
        return asked.name if asked is not None else None
    return next((p.name for p in model.profiles if p.plain and _alike(p, asked)), None)


def _alike(one: MigProfile, other: MigProfile) -> bool:
    return (one.size, one.compute_slices) == (other.size, other.compute_slices)
