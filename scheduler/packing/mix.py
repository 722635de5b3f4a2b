"""The expected demand: how many requests of each class the cluster is likely to see, and how surely.

A class is what the packing LP can tell apart: ``mig:<profile>``, ``whole:<k>`` (k whole GPUs on one node) and
``shared`` (a time-sliced replica), each with an optional model restriction, ``whole:1@A100-80GB,H100-80GB``,
and an optional need of the node's CPU and memory, ``whole:1/8000m/65536Mi``. Its count is an exponentially
smoothed mean (half-life of the policy) of what runs plus what waits, plus what the autoscaler forecasts
(``forecast``: mean and standard deviation, not smoothed: it looks ahead already); the policy's prior enters
as so many pods always present, so that it fades as real pods arrive. With nothing at all, every profile of
the fleet's own models is equally likely.

Needs differ from pod to pod; what is kept apart in the LP is coarsened until at most ``MOST_CLASSES`` classes
remain, down to one mean need a class.

The counts only fix proportions. ``saturations`` then scales them against the free capacity: with the counts
as they are, a half-empty cluster would price everything at zero (nothing is scarce today) and the scheduler
would fragment it for the pods that come tomorrow. Solving at several levels and averaging the dual prices
also answers the LP's degeneracy: it is the expected marginal value under an uncertain volume instead of
whichever vertex the solver happened to stop at. ``saturations=None`` keeps the counts. A forecast's
uncertainty enters by the same levels: the k-th of n takes every class at the (k - 1/2)/n quantile of its
normal distribution, since more pods than foreseen and more of the fleet in use come together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import floor, hypot, log2
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from scheduler.packing.forecast import Forecast

if TYPE_CHECKING:
    from dra.catalog import GpuModel
    from scheduler.demand import Demand

DEFAULT_SATURATIONS = (0.7, 0.85, 1.0, 1.15, 1.3)
MOST_CLASSES = 48
_FORGET_BELOW = 1e-3
_STEPS_AN_OCTAVE = (4.0, 2.0, 1.0, 0.5)
_NEED = re.compile(r"(\d{1,9})m/(\d{1,9})Mi")


@dataclass(frozen=True, slots=True)
class DemandClass:
    """One row of the LP. ``profile`` is set for kind mig, ``gpus`` (≥ 1) for kind whole; ``models`` None
    means any model. ``cpu_milli`` and ``memory_mib``: what one request needs of its node, 0 where nothing is
    known.
    """

    kind: Literal["mig", "whole", "shared"]
    profile: str = ""
    gpus: int = 0
    models: frozenset[str] | None = None
    cpu_milli: int = 0
    memory_mib: int = 0

    @property
    def base(self) -> str:
        """The name without the needs of the node."""
        body = {"mig": f"mig:{self.profile}", "whole": f"whole:{self.gpus}", "shared": "shared"}[self.kind]
        return body if self.models is None else f"{body}@{','.join(sorted(self.models))}"

    @property
    def name(self) -> str:
        needs = self.cpu_milli > 0 or self.memory_mib > 0
        return f"{self.base}/{self.cpu_milli}m/{self.memory_mib}Mi" if needs else self.base

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models


@lru_cache(maxsize=8192)
def parse_class(name: str) -> DemandClass | None:
    """Read a class name as users write it in the policy; None when it is none of the three forms."""
    base, slash, needs = name.partition("/")
    body, _, suffix = base.partition("@")
    models = frozenset(filter(None, (part.strip() for part in suffix.split(",")))) or None
    kind, _, argument = body.partition(":")
    found = _NEED.fullmatch(needs)
    if slash and found is None:
        return None
    cpu_milli, memory_mib = (int(found[1]), int(found[2])) if found is not None else (0, 0)
    if kind == "mig" and argument:
        return DemandClass("mig", argument, 0, models, cpu_milli, memory_mib)
    if kind == "whole" and argument.isdecimal() and int(argument) > 0:
        return DemandClass("whole", "", int(argument), models, cpu_milli, memory_mib)
    if body == "shared":
        return DemandClass("shared", "", 0, models, cpu_milli, memory_mib)
    return None


@dataclass(frozen=True, slots=True)
class Expected:
    """A class with the mean and the standard deviation of its requests."""

    cls: DemandClass
    count: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class DemandMix:
    """Expected requests by class name, and the multiples of the free capacity at which they are priced
    (None: as counted).

    ``spread``: standard deviations by class name, 0 where missing. ``without_gpu``: milli-CPU and MiB that
    pods without a GPU take on GPU nodes where the rest of the mix runs.
    """

    counts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS
    spread: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    without_gpu: tuple[float, float] = (0.0, 0.0)

    def classes(self) -> tuple[tuple[DemandClass, float], ...]:
        """The understood classes with a positive count, in name order."""
        return tuple((item.cls, item.count) for item in self.expected())

    def expected(self) -> tuple[Expected, ...]:
        """The same with their spread; needs of the node are merged until at most MOST_CLASSES remain."""
        read = [
            Expected(cls, count, max(0.0, self.spread.get(name, 0.0)))
            for name, count in sorted(self.counts.items())
            if count > 0.0 and (cls := parse_class(name)) is not None
        ]
        merged = _merged(read, None)
        if len(merged) == len(read):
            return tuple(read)
        for steps in _STEPS_AN_OCTAVE:
            found = _merged(read, steps)
            if len(found) <= MOST_CLASSES:
                return found
        return merged


def _merged(items: Iterable[Expected], steps: float | None) -> tuple[Expected, ...]:
    """Merge classes that differ only in what they need of the node, by so many steps an octave (None: all).
    The merged class needs their mean.
    """
    groups: dict[tuple[str, int, int], list[Expected]] = {}
    for item in items:
        cls = item.cls
        key = (cls.base, _step(cls.cpu_milli, steps), _step(cls.memory_mib, steps))
        groups.setdefault(key, []).append(item)
    found = []
    for members in groups.values():
        if len(members) == 1:
            found.append(members[0])
            continue
        total = sum(item.count for item in members)
        first = members[0].cls
        cls = DemandClass(
            first.kind,
            first.profile,
            first.gpus,
            first.models,
            round(sum(item.count * item.cls.cpu_milli for item in members) / total),
            round(sum(item.count * item.cls.memory_mib for item in members) / total),
        )
        found.append(Expected(cls, total, hypot(*(item.spread for item in members))))
    return tuple(sorted(found, key=lambda item: item.cls.name))


def _step(need: int, steps: float | None) -> int:
    if steps is None:
        return 0
    return -1 if need <= 0 else floor(log2(need) * steps)


def quantiles(levels: int) -> tuple[float, ...]:
    """Standard normal quantiles (k - 1/2) / levels, ascending."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((k + 0.5) / levels) for k in range(levels))


def classes_of(demand: Demand) -> dict[str, float]:
    """The class counts one pod adds to the mix; nothing for a demand that was not understood. Its CPU and
    memory are shared out equally over its requests.
    """
    if not demand.understood:
        return {}
    parts = sum(1 if request.kind == "whole" else request.count for request in demand.requests)
    cpu_milli, memory_mib = demand.cpu_milli // max(1, parts), demand.memory_mib // max(1, parts)
    found: dict[str, float] = {}
    for request in demand.requests:
        # How many shares a wish for memory is depends on the GPU.
        count = float(request.count * max(request.part()))
        if request.kind == "whole":
            cls = DemandClass("whole", "", request.count, demand.models, cpu_milli, memory_mib)
            count = 1.0
        elif request.kind == "mig" and request.profile is not None:
            cls = DemandClass("mig", request.profile, 0, demand.models, cpu_milli, memory_mib)
        else:
            cls = DemandClass("shared", "", 0, demand.models, cpu_milli, memory_mib)
        found[cls.name] = found.get(cls.name, 0.0) + count
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
    forecast: Mapping[str, Forecast] = MappingProxyType({}),
    without_gpu: tuple[float, float] = (0.0, 0.0),
    saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS,
) -> DemandMix:
    """The smoothed counts plus the forecast and the policy's prior, or the uniform mix over ``models`` when
    all are empty or unreadable.
    """
    counts = dict(smoothed)
    spread: dict[str, float] = {}
    for name, count in prior.items():
        _add(counts, name, count)
    for name, expected in forecast.items():
        _add(counts, name, expected.mean)
        _add(spread, name, expected.spread)
    mix = DemandMix(MappingProxyType(counts), saturations, MappingProxyType(spread), without_gpu)
    return mix if mix.classes() else uniform(models, saturations=saturations)


def expected_arrivals(
    arrived: Mapping[str, float], prior: Mapping[str, float], forecast: Mapping[str, Forecast]
) -> dict[str, float]:
    """Requests by class, needs of the node left out, in name order: those that came, those that the policy
    takes for granted and those foreseen.
    """
    counts: dict[str, float] = {}
    for source in (arrived, prior, {name: found.mean for name, found in forecast.items()}):
        for name, count in source.items():
            _add(counts, name.partition("/")[0], count)
    return dict(sorted(counts.items()))


def _add(counts: dict[str, float], name: str, count: float) -> None:
    cls = parse_class(name)
    if cls is not None and count > 0.0:
        counts[cls.name] = counts.get(cls.name, 0.0) + count


def uniform(
    models: Iterable[GpuModel], *, saturations: tuple[float, ...] | None = DEFAULT_SATURATIONS
) -> DemandMix:
    """One request of every plain MIG profile of ``models`` and one of a whole GPU."""
    names = {f"mig:{profile.name}" for model in models for profile in model.profiles if profile.plain}
    return DemandMix(MappingProxyType(dict.fromkeys(sorted(names | {"whole:1"}), 1.0)), saturations)
