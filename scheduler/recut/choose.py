"""Choose configurations for idle nodes by what their instances are expected to earn.

Newsvendor: of class c (a MIG profile, or whole GPUs) w_c requests wait; the k-th free instance is worth

    v_c                                 k ≤ w_c
    v_c × ½ × P(N_c ≥ k − w_c)          beyond,   N_c ~ Poisson(λ_c),   v_c = GPU share × money per GPU-hour

so the first instances of a wanted class are worth much and the fiftieth little, and a pod that waits counts
twice one that may come. λ_c is the expected mix scaled to fill the idle capacity once (demand beyond what
waits is not known in number, only in kind). The gain of a re-cut is the worth of the new instances less that
of the present ones, all else as it is. Nodes are chosen one after the other, the largest gain first, each
counted before the next: greedy, which for such diminishing returns is near the best.

A node is re-cut only for a gain of at least ``min_gain`` of what its GPUs would earn in full: hysteresis
against a mix that wavers. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dra.catalog import GpuModel
from scheduler.recut.configs import WHOLE, Cut

MAY_COME = 0.5
"""What a request that may come counts, where one that waits counts 1."""


@dataclass(frozen=True, slots=True)
class IdleNode:
    """A node without GPU pods that may be re-cut. ``present``: what it offers now, on all its GPUs."""

    name: str
    model: GpuModel
    gpus: int
    config: str
    present: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """By class: ``waiting`` requests, ``expected`` shares of the mix (any scale), ``free`` instances on nodes
    that are not among the idle ones.
    """

    waiting: Mapping[str, float]
    expected: Mapping[str, float]
    free: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recut:
    """Give ``node`` the configuration ``config``; ``gain_per_hour`` is expected money."""

    node: str
    previous: str
    config: str
    offers: tuple[tuple[str, int], ...]
    gain_per_hour: float
    why: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What waits, and the rates of what may come."""

    waiting: Mapping[str, float]
    rates: Mapping[str, float]

    def likely(self, name: str, k: int) -> float:
        """How far the k-th free instance of a class is likely to earn its price."""
        waiting = math.floor(self.waiting.get(name, 0.0))
        return 1.0 if k <= waiting else MAY_COME * _at_least(k - waiting, self.rates.get(name, 0.0))


def choose(
    nodes: Sequence[IdleNode],
    cuts: Mapping[str, Sequence[Cut]],
    outlook: Outlook,
    gpu_hour: Mapping[str, float],
    *,
    most: int,
    min_gain: float,
) -> list[Recut]:
    """Choose at most ``most`` re-cuts. ``cuts``: by model name; ``gpu_hour``: money per GPU-hour by model."""
    free = dict(outlook.free)
    for node in nodes:
        for name, count in node.present:
            free[name] = free.get(name, 0.0) + count
    wanted = _Wanted(outlook.waiting, _rates(nodes, cuts, outlook))
    left = sorted(nodes, key=lambda node: node.name)
    chosen: list[Recut] = []
    while left and len(chosen) < most:
        best: tuple[float, str, IdleNode, Cut] | None = None
        seen: set[tuple[object, ...]] = set()
        for node in left:
            kind = (node.model.name, node.gpus, node.config, node.present)
            if kind in seen:
                continue
            seen.add(kind)
            hourly = gpu_hour[node.model.name]
            for cut in cuts.get(node.model.name, ()):
                gain = _gain(node, cut, free, wanted, hourly)
                enough = gain >= min_gain * hourly * node.gpus and gain > 0.0
                if cut.name != node.config and enough and (best is None or gain > best[0] + 1e-9):
                    best = (gain, cut.name, node, cut)
        if best is None:
            break
        gain, _, node, cut = best
        left.remove(node)
        for name, count in node.present:
            free[name] = free.get(name, 0.0) - count
        offers = _offers(node, cut)
        for name, count in offers:
            free[name] = free.get(name, 0.0) + count
        chosen.append(Recut(node.name, node.config, cut.name, offers, gain, _why(node, cut, outlook, gain)))
    return chosen


def _rates(
    nodes: Sequence[IdleNode], cuts: Mapping[str, Sequence[Cut]], outlook: Outlook
) -> dict[str, float]:
    """λ by class: the mix scaled to the idle GPUs."""
    shares: dict[str, float] = {}
    idle = 0.0
    for node in nodes:
        idle += node.gpus
        for cut in cuts.get(node.model.name, ()):
            for name, _ in cut.offers:
                shares[name] = _share(node.model, name)
    mix = {name: amount for name, amount in outlook.expected.items() if name in shares and amount > 0.0}
    total = sum(amount * shares[name] for name, amount in mix.items())
    scale = idle / total if total > 0.0 else 0.0
    return {name: scale * amount for name, amount in mix.items()}


def _gain(node: IdleNode, cut: Cut, free: Mapping[str, float], wanted: _Wanted, hourly: float) -> float:
    rest = dict(free)
    for name, count in node.present:
        rest[name] = rest.get(name, 0.0) - count
    return _worth(node, _offers(node, cut), rest, wanted, hourly) - _worth(
        node, node.present, rest, wanted, hourly
    )


def _worth(
    node: IdleNode,
    offers: Sequence[tuple[str, int]],
    rest: Mapping[str, float],
    wanted: _Wanted,
    hourly: float,
) -> float:
    total = 0.0
    for name, count in offers:
        there = max(0, math.floor(rest.get(name, 0.0)))
        likely = sum(wanted.likely(name, there + k) for k in range(1, count + 1))
        total += hourly * _share(node.model, name) * likely
    return total


def _offers(node: IdleNode, cut: Cut) -> tuple[tuple[str, int], ...]:
    return tuple((name, count * node.gpus) for name, count in cut.offers)


def _share(model: GpuModel, name: str) -> float:
    if name == WHOLE:
        return 1.0
    profile = model.profile(name)
    return 0.0 if profile is None else profile.size / model.units


@lru_cache(maxsize=65536)
def _at_least(k: int, rate: float) -> float:
    """P(N ≥ k) for N ~ Poisson(rate)."""
    if k <= 0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    if rate > 500.0:
        # Normal approximation: the sum of terms would underflow.
        return 0.5 * math.erfc((k - 0.5 - rate) / math.sqrt(2.0 * rate))
    term = total = math.exp(-rate)
    for n in range(1, k):
        term *= rate / n
        total += term
    return max(0.0, 1.0 - total)


def _why(node: IdleNode, cut: Cut, outlook: Outlook, gain: float) -> str:
    made = ", ".join(f"{count} × {name}" for name, count in _offers(node, cut))
    waits = sum(outlook.waiting.get(name, 0.0) for name, _ in cut.offers)
    told = f"; {waits:g} such requests wait" if waits else ""
    return f"idle, and as {made} it is expected to earn {gain:.2f} more an hour{told}"
