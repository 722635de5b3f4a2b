"""What a cluster policy names that nothing answers to: allowed, read, and hardly meant.

Names of GPU models, MIG profiles and demands are open, since cards and layouts come that the catalogue does
not know; a name with a slip of the pen is then simply never met. Told by ``policy validate`` as notes. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

from cluster.policy import ClusterPolicy
from dra.catalog import models
from scheduler.packing.mix import DemandClass, parse_class


def cluster_notes(policy: ClusterPolicy) -> tuple[str, ...]:
    """One sentence for each name that the catalogue, or the grammar of demands, does not know."""
    return tuple(_notes(policy))


def _notes(policy: ClusterPolicy) -> Iterator[str]:
    known = models()
    profiles = {profile.name for model in known.values() for profile in model.profiles}
    for name in policy.prices.gpu_hour_by_model:
        if name not in known:
            yield f"prices.gpuHourByModel: {_unknown('GPU model', name, known)}"
    demands = [("demand.classes", name) for name in policy.demand.classes]
    demands += [("scaleDown.keepFor", name) for name in policy.scale_down.keep_for]
    for key, name in demands:
        yield from _of_demand(key, name, set(known), profiles)
    for config in policy.mig_geometry.configs:
        if config.model is not None and config.model not in known:
            yield f"migGeometry.configs, {config.name}: {_unknown('GPU model', config.model, known)}"
        for profile in config.devices:
            if profile not in profiles:
                yield f"migGeometry.configs, {config.name}: {_unknown('MIG profile', profile, profiles)}"


def _of_demand(key: str, name: str, known: set[str], profiles: set[str]) -> Iterator[str]:
    demand: DemandClass | None = parse_class(name)
    if demand is None:
        yield (
            f"{key}: {name!r} is not read; expected mig:PROFILE, whole:COUNT or shared, each with "
            "@MODEL,MODEL and /CPUm/MEMORYMi if need be"
        )
        return
    if demand.kind == "mig" and demand.profile not in profiles:
        yield f"{key}: {_unknown('MIG profile', demand.profile, profiles)}"
    for model in sorted((demand.models or frozenset()) - known):
        yield f"{key}: {_unknown('GPU model', model, known)}"


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"the catalogue has no {what} {name!r}, so it counts only where a node says just that{meant}"
