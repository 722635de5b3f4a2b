"""Which waiting pod goes first at equal priority: MIG pods by urgency, everything else by arrival.

    urgency = (slices − value lost) / slices + waited / (1,000 s × slices)         (``packing.mig_order``)

``value lost``: compute slices that the pod's cheapest placement costs on the cards as they are, room held by
the plan so far included (``packing.mig_values``; shares of what arrives, as in the price tables, a profile
of which another pod waits counted as waiting). ``waited``: since the pod was created. The most urgent of
those that fit some card goes first, then the values are looked at again, by the rule of the simulator's
``slicewise``. Of pods that ask for the same the oldest goes first; those that fit no card come last, oldest
first.

Pods that ask for anything but MIG instances keep their place: where the n-th pod by arrival is one of them,
it is the n-th to be planned. Of a pod with several instances the values lost add up, each as if alone.
Taints, CPU and node affinity are not looked at here; the choice of a node does that.

Ageing is the bound: a pod of s slices that has waited w goes before one of t slices that has waited v once
w / s > v / t + 1,000 s × (lost_s / s − lost_t / t). It bounds the turn, not the wait: no card is kept empty.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cluster.times import unix_seconds
from cluster.wire import Pod
from dra.catalog import GpuModel
from scheduler.demand import Demand
from scheduler.fleet import Fleet
from scheduler.packing.mig_order import cheapest_losses, urgency
from scheduler.packing.mig_space import memory_space
from scheduler.packing.mig_values import rounded_shares
from scheduler.packing.mix import parse_class
from scheduler.planner.queue import WaitingPod

_NO_CARD = -1
_MASK_BITS = 16


@dataclass(frozen=True, slots=True)
class MigAsk:
    """MIG instances by profile, and the models that may give them (None: any)."""

    instances: tuple[tuple[str, int], ...]
    models: frozenset[str] | None = None


def mig_ask(demand: Demand | None) -> MigAsk | None:
    """What the demand asks for if it is MIG instances and nothing else."""
    if demand is None or not demand.understood or not demand.requests:
        return None
    asked: Counter[str] = Counter()
    for request in demand.requests:
        if request.kind != "mig" or request.profile is None:
            return None
        asked[request.profile] += request.count
    return MigAsk(tuple(sorted(asked.items())), demand.models)


class UrgencyOrder:
    """Orders the pods of one priority; reads the fleet anew before each pod that it hands out."""

    def __init__(
        self,
        fleet: Fleet,
        demand: Callable[[Pod], Demand | None],
        expected: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``expected``: requests by class (``PriceTables.coming``); ``clock``: Unix seconds."""
        self._fleet, self._demand, self._expected, self._clock = fleet, demand, expected, clock

    def decides(self, pod: WaitingPod) -> bool:
        """Whether the pod's turn follows from its urgency."""
        return mig_ask(self._demand(pod.pod)) is not None

    def arrange(self, pods: Sequence[WaitingPod], everyone: Iterable[WaitingPod]) -> Iterator[WaitingPod]:
        """``pods`` (by arrival) in the order to plan them; take the next one when the last is planned.
        ``everyone``: all pods that wait, due or not.
        """
        asks = [mig_ask(self._demand(pod.pod)) for pod in pods]
        queues: dict[MigAsk, deque[WaitingPod]] = {}
        for pod, ask in zip(pods, asks, strict=True):
            if ask is not None:
                queues.setdefault(ask, deque()).append(pod)
        if len(queues) < 2:
            yield from pods
            return
        waiting: Counter[str] = Counter()
        for pod in everyone:
            ask = mig_ask(self._demand(pod.pod))
            waiting.update(dict(ask.instances) if ask is not None else {})
        expected, now = self._expected(), self._clock()
        cards = _Cards(self._fleet)
        for pod, own in zip(pods, asks, strict=True):
            if own is None:
                yield pod
                continue
            ranked = _most_urgent(queues, cards.states(), waiting, expected, now)
            if ranked is None:
                ask = min(queues, key=lambda one: (queues[one][0].created, queues[one][0].uid))
            else:
                ask = ranked
            chosen = queues[ask].popleft()
            if not queues[ask]:
                del queues[ask]
            yield chosen
            if ranked is not None:
                waiting.subtract(dict(ask.instances))


def _most_urgent(
    queues: Mapping[MigAsk, deque[WaitingPod]],
    states: Sequence[tuple[GpuModel, NDArray[np.int64]]],
    waiting: Mapping[str, int],
    expected: Mapping[str, float],
    now: float,
) -> MigAsk | None:
    """The ask whose oldest pod goes next; None where none fits any card."""
    best: tuple[float, MigAsk] | None = None
    for ask, pods in queues.items():
        priced = value_lost(ask, states, waiting, expected)
        if priced is None:
            continue
        slices, lost = priced
        rank = urgency(slices, lost, waited_seconds(pods[0].created, now))
        if best is None or rank > best[0]:
            best = rank, ask
    return None if best is None else best[1]


def value_lost(
    ask: MigAsk,
    states: Sequence[tuple[GpuModel, NDArray[np.int64]]],
    waiting: Mapping[str, int],
    expected: Mapping[str, float],
) -> tuple[float, float] | None:
    """(compute slices earned, compute slices lost) of the cheapest placement, each instance as if alone; None
    where an instance fits no card. ``states``: the different occupied masks of the cards of each model.
    """
    earned = lost = 0.0
    for name, count in ask.instances:
        others = frozenset(other for other, pods in waiting.items() if pods > (count if other == name else 0))
        best: tuple[float, int] | None = None
        for model, masks in states:
            if ask.models is not None and model.name not in ask.models:
                continue
            found = _losses(model, name, others, _counts(expected, model.name))
            if found is None:
                continue
            cheapest = float(found[0][masks].min())
            if np.isfinite(cheapest) and (best is None or cheapest < best[0]):
                best = cheapest, found[1]
        if best is None:
            return None
        lost += count * best[0]
        earned += count * best[1]
    return earned, lost


def waited_seconds(created: str, now: float) -> float:
    """Seconds since an RFC 3339 time; 0 where it cannot be read or lies ahead."""
    at = unix_seconds(created)
    return 0.0 if at is None else max(0.0, now - at)


def _counts(expected: Mapping[str, float], model: str) -> tuple[tuple[str, float], ...]:
    found: Counter[str] = Counter()
    for name, count in expected.items():
        cls = parse_class(name)
        if cls is not None and cls.kind == "mig" and cls.allows(model):
            found[cls.profile] += count  # type: ignore[assignment]
    return tuple(sorted(found.items()))


@lru_cache(maxsize=4096)
def _losses(
    model: GpuModel, profile: str, waiting: frozenset[str], counts: tuple[tuple[str, float], ...]
) -> tuple[NDArray[np.float64], int] | None:
    """(least value lost by occupied mask, inf where it does not fit; slices earned), None where the model has
    no such profile.
    """
    plain = tuple(p.name for p in model.profiles if p.plain)
    if profile not in plain:
        return None
    seen = {name for name, count in counts if count > 0.0}
    if seen:
        seen |= waiting | {profile}
    profiles = tuple(name for name in plain if name in seen) or plain
    space = memory_space(model, profiles)
    index = profiles.index(profile)
    held = frozenset(i for i, name in enumerate(profiles) if name in waiting)
    losses = cheapest_losses(space, rounded_shares(dict(counts), profiles), held, index)
    return losses, space.compute_slices[index]


class _Cards:
    """The different states of the cards that can be cut, kept up to date by the rows that change."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._codes = np.zeros((0, 0), dtype=np.int64)
        self._count: Counter[int] = Counter()
        self._generation = self._renewed = -1

    def states(self) -> list[tuple[GpuModel, NDArray[np.int64]]]:
        """By model the occupied masks that some card has."""
        fleet = self._fleet
        with fleet.lock:
            shape = (fleet.size, fleet.columns.gpus)
            if self._codes.shape != shape or self._renewed != fleet.ids_renewed:
                self._codes = self._read(None)
                self._count = Counter(dict(zip(*_distinct(self._codes), strict=True)))
            else:
                rows = fleet.changes_since(self._generation)
                self._count.subtract(self._codes[rows].ravel().tolist())
                self._codes[rows] = self._read(rows)
                self._count.update(self._codes[rows].ravel().tolist())
            self._generation, self._renewed = fleet.generation, fleet.ids_renewed
            models = list(fleet.hardware.models)
        found: dict[int, list[int]] = {}
        for code, count in self._count.items():
            if count > 0 and code != _NO_CARD:
                found.setdefault(code >> _MASK_BITS, []).append(code & (1 << _MASK_BITS) - 1)
        return [(models[model], np.array(masks)) for model, masks in sorted(found.items())]

    def _read(self, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        view = self._fleet.view(rows)
        codes = view.model_id.astype(np.int64) << _MASK_BITS | (view.occupied & view.full)
        cut = (view.order_id > 0) & (view.model_id >= 0) & view.valid[:, None]
        return np.where(cut, codes, _NO_CARD)


def _distinct(codes: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    values, counts = np.unique(codes, return_counts=True)
    return values.tolist(), counts.tolist()
