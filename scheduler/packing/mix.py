"""The expected demand: how many requests of each class the cluster is likely to see.

A class is what the packing LP can tell apart: ``mig:<profile>``, ``whole:<k>`` (k whole GPUs on one node) and
``shared`` (a time-sliced replica), each with an optional model restriction, ``whole:1@A100-80GB,H100-80GB``.
Its count is an exponentially smoothed mean (half-life of the policy) of what runs plus what waits; the
policy's prior enters as so many pods always present, so that it fades as real pods arrive. With neither,
every profile of the fleet's own models is equally likely.

The counts only fix proportions. ``saturations`` then scales them against the free capacity: with the counts
as they are, a half-empty cluster would price everything at zero (nothing is scarce today) and the scheduler
would fragment it for the pods that come tomorrow. Solving at several levels and averaging the dual prices
also answers the LP's degeneracy: it is the expected marginal value under an uncertain volume instead of
whichever vertex the solver happened to stop at. ``saturations=None`` keeps the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dra.catalog import GpuModel
    from scheduler.demand import Demand

DEFAULT_SATURATIONS = (0.7, 0.85, 1.0, 1.15, 1.3)
_FORGET_BELOW = 1e-3


@dataclass(frozen=True, slots=True)
class DemandClass:
    """One row of the LP. ``profile`` is set for kind mig, ``gpus`` (≥ 1) for kind whole; ``models`` None
    means any model.
    """

    kind: Literal["mig", "whole", "shared"]
    profile: str = ""
    gpus: int = 0
    models: frozenset[str] | None = None

    @property
    def name(self) -> str:
        body = {"mig": f"mig:{self.profile}", "whole": f"whole:{self.gpus}", "shared": "shared"}[self.kind]
        return body if self.models is None else f"{body}@{','.join(sorted(self.models))}"

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models


def parse_class(name: str) -> DemandClass | None:
    """Read a class name as users write it in the policy; None when it is none of the three forms."""
    body, _, suffix = name.partition("@")
    models = frozenset(filter(None, (part.strip() for part in suffix.split(",")))) or None
    kind, _, argument = body.partition(":")
    if kind == "mig" and argument:
        return DemandClass("mig", profile=argument, models=models)
    if kind == "whole" and argument.isdecimal() and int(argument) > 0:
        return DemandClass("whole", gpus=int(argument), models=models)
    if body == "shared":
        return DemandClass("shared", models=models)
    return None


@dataclass(frozen=True, slots=True)
class DemandMix:
    """Expected requests by class name, and the multiples of the free capacity at which they are priced
    (None: as counted).
    """

    counts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS

    def classes(self) -> tuple[tuple[DemandClass, float], ...]:
        """The understood classes with a positive count, in name order."""
        read = ((parse_class(name), count) for name, count in sorted(self.counts.items()))
        return tuple((cls, count) for cls, count in read if cls is not None and count > 0.0)


def classes_of(demand: Demand) -> dict[str, float]:
    """The class counts one pod adds to the mix; nothing for a demand that was not understood."""
    if not demand.understood:
        return {}
    found: dict[str, float] = {}
    for request in demand.requests:
        if request.kind == "whole":
            name, count = DemandClass("whole", gpus=request.count, models=demand.models).name, 1.0
        elif request.kind == "mig" and request.profile is not None:
            name, count = (
                DemandClass("mig", profile=request.profile, models=demand.models).name,
                float(request.count),
            )
        else:
            name, count = DemandClass("shared", models=demand.models).name, float(request.count)
        found[name] = found.get(name, 0.0) + count
    return found


def observe(demands: Iterable[tuple[Demand, int]]) -> dict[str, float]:
    """Count the classes of demands given as (demand, number of pods)."""
    total: dict[str, float] = {}
    for demand, pods in demands:
        for name, count in classes_of(demand).items():
            total[name] = total.get(name, 0.0) + pods * count
    return total


def smooth(
    previous: Mapping[str, float] | None,
    observed: Mapping[str, float],
    *,
    half_life_seconds: float,
    elapsed_seconds: float,
) -> dict[str, float]:
    """Move the smoothed counts towards what is observed now; classes that have faded to nothing are
    dropped.
    """
    if previous is None:
        return {name: count for name, count in observed.items() if count > 0.0}
    kept = 0.5 ** (max(0.0, elapsed_seconds) / half_life_seconds) if half_life_seconds > 0.0 else 0.0
    names = previous.keys() | observed.keys()
    moved = {
        name: kept * previous.get(name, 0.0) + (1.0 - kept) * observed.get(name, 0.0)
        for name in sorted(names)
    }
    return {name: count for name, count in moved.items() if count > _FORGET_BELOW}


def mix_of(
    smoothed: Mapping[str, float],
    prior: Mapping[str, float],
    models: Iterable[GpuModel],
    *,
    saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS,
) -> DemandMix:
    """The smoothed counts plus the policy's prior, or the uniform mix over ``models`` when both are empty
    or unreadable.
    """
    counts = dict(smoothed)
    for name, count in prior.items():
        cls = parse_class(name)
        if cls is not None and count > 0.0:
            counts[cls.name] = counts.get(cls.name, 0.0) + count
    mix = DemandMix(MappingProxyType(counts), saturations)
    return mix if mix.classes() else uniform(models, saturations=saturations)


def uniform(
    models: Iterable[GpuModel], *, saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS
) -> DemandMix:
    """One request of every plain MIG profile of ``models`` and one of a whole GPU."""
    names = {f"mig:{profile.name}" for model in models for profile in model.profiles if profile.plain}
    return DemandMix(MappingProxyType(dict.fromkeys(sorted(names | {"whole:1"}), 1.0)), saturations)
