"""The fewest moves that let waiting pods run, and moves that pay for themselves.

For each waiting pod that fits nowhere, by priority and age:

1. On every node it may use, the cheapest sets of pods whose leaving makes room (``victims``), fewest first.
2. Each of those pods must have a new place that exists now: the cheapest admissible node by price, with CPU,
   memory and slots, checked against what its allocator would do, everybody being still where they are. A
   workload with an on-demand floor keeps it (``overlay``).
3. Where a single pod is in the way and has no place, its place may be made by moving one more pod first (a
   chain: that move is a wave of its own). So all plans of one or two moves are looked at; beyond two, sets
   of pods on one node only.
4. The plan with the fewest moves is taken, the cheapest of equals, if it pays back: what the waiting pod
   earns within the horizon must exceed what the moves lose.

Then, with what the limits leave, pods whose price where they stand exceeds that elsewhere by more than the
move costs within the horizon (consolidation). A node takes part in at most one such move a plan: prices
change with each.

Not done: plans for several waiting pods jointly (they are served one by one), chains of three. Pure: scene
in, plan out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from scheduler.first_fit import Room
from scheduler.repack.claim_preemption import preempt
from scheduler.repack.overlay import Overlay
from scheduler.repack.scene import Limits, Move, Mover, Relief, RepackPlan, Scene, Unmet, Waiter
from scheduler.repack.victims import victim_sets

SETS_PER_NODE = 3
MOST_CANDIDATES = 64
MOST_CHAINS = 16


@dataclass(frozen=True, slots=True, order=True)
class _Candidate:
    """Leaving ``uids`` makes room on ``node``."""

    count: int
    cost: float
    node: str
    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A mover, its new node and the wave of its move."""

    mover: Mover
    target: str
    wave: int


@dataclass(frozen=True, slots=True)
class _Aim:
    """``pod`` is to fit on ``node`` once ``leaving`` have left."""

    pod: Waiter | Mover
    node: str
    leaving: frozenset[str]


def plan(scene: Scene, limits: Limits) -> RepackPlan:
    """Decide all moves. Deterministic: ties fall by name."""
    overlay = Overlay(scene, limits.evictions)
    reliefs: list[Relief] = []
    unmet: list[Unmet] = []
    search = _Search(scene, limits)
    for waiter in sorted(scene.waiters, key=lambda one: (-one.priority, one.created, one.full_name)):
        room = _fits_somewhere(overlay, waiter)
        if room is not None:
            # Someone else's business: it only has to be scheduled. Its room is no longer for sale.
            overlay.take(room[0], room[1], waiter.resources)
            continue
        found = search.relieve(overlay, waiter)
        if isinstance(found, Unmet) and limits.preempt and waiter.preempts:
            found = preempt(overlay, waiter, limits) or found
        if isinstance(found, Unmet):
            unmet.append(found)
        else:
            relief, overlay = found
            reliefs.append(relief)
    savings = _savings(overlay, limits)
    return RepackPlan(tuple(reliefs), tuple(savings), tuple(unmet))


def _fits_somewhere(overlay: Overlay, waiter: Waiter) -> tuple[str, Room] | None:
    for node in _by_price(overlay, waiter):
        room = overlay.place_now(node, waiter.demand, waiter.resources, linked=waiter.linked)
        if room is not None:
            return node, room
    return None


def _by_price(overlay: Overlay, pod: Mover | Waiter) -> Iterator[str]:
    """Nodes that the pod may use and that have room by the price vector, cheapest first."""
    scene, prices = overlay.scene, _prices(overlay, pod)
    order = np.argsort(np.round(prices, 9), kind="stable")
    for row in order.tolist():
        if not np.isfinite(prices[row]):
            return
        yield scene.names[row]


def _prices(overlay: Overlay, pod: Mover | Waiter) -> NDArray[np.float64]:
    """Money per hour by row, infinite where the pod has no place."""
    return np.where(overlay.usable(pod), overlay.scene.prices(overlay.demand(pod)), np.inf)


class _Search:
    """Finds reliefs; remembers candidates by demand, for pods come in rows of equals."""

    def __init__(self, scene: Scene, limits: Limits) -> None:
        self._scene = scene
        self._limits = limits
        self._known: dict[tuple[object, ...], tuple[set[str] | None, list[_Candidate]]] = {}

    def relieve(self, overlay: Overlay, waiter: Waiter) -> tuple[Relief, Overlay] | Unmet:
        """The best relief and the overlay after it, or why there is none."""
        most = min(overlay.evictions, self._limits.concurrent)
        if most < 1:
            return Unmet(waiter, "the limit on evictions is reached")
        # One move first: a look at one pod a node is far cheaper than one at sets.
        lone = list(islice(self._in_the_way(overlay, waiter, 1), MOST_CANDIDATES))
        found = self._best(overlay, waiter, lone)
        if found is None and most > 1:
            sets = (one for one in self._in_the_way(overlay, waiter, most) if one.count > 1)
            pairs: list[_Candidate] = []
            larger: list[_Candidate] = []
            for one in islice(sets, MOST_CANDIDATES):
                (pairs if one.count == 2 else larger).append(one)
            # Two pods from one node, or one pod whose place another makes.
            found = _cheaper(self._best(overlay, waiter, pairs), self._chained(overlay, waiter, lone))
            if found is None:
                found = self._best(overlay, waiter, larger)
        if found is None:
            return Unmet(waiter, self._why_none(overlay, waiter, most))
        return self._worth(found, waiter)

    def _in_the_way(self, overlay: Overlay, waiter: Waiter, most: int) -> Iterator[_Candidate]:
        known = self._candidates(overlay, waiter, waiter.priority, most)
        return (one for one in known if _still(overlay, one))

    def _best(
        self, overlay: Overlay, waiter: Waiter, candidates: list[_Candidate]
    ) -> tuple[Relief, Overlay] | None:
        """The first candidate, in order, all of whose pods have a place already."""
        found = (self._direct(overlay, waiter, candidate) for candidate in candidates)
        return next((one for one in found if one is not None), None)

    def _why_none(self, overlay: Overlay, waiter: Waiter, most: int) -> str:
        fewest = next(self._in_the_way(overlay, waiter, self._limits.concurrent), None)
        if fewest is None:
            return "on no admissible node can the pods that stand in its way be moved"
        if fewest.count > most:
            return f"{fewest.count} pods would have to move; the limits allow {most} more"
        return f"{fewest.count} or more pods stand in its way, and no other node has room for them"

    def _worth(self, found: tuple[Relief, Overlay], waiter: Waiter) -> tuple[Relief, Overlay] | Unmet:
        worth = waiter.value_per_hour * self._limits.horizon_hours
        if worth > found[0].cost:
            return found
        return Unmet(
            waiter,
            f"{len(found[0].moves)} moves would cost {found[0].cost:.2f}, more than it earns in "
            f"{self._limits.horizon_hours:g} h ({worth:.2f})",
        )

    def _candidates(
        self, overlay: Overlay, pod: Waiter | Mover, priority: int, most: int
    ) -> list[_Candidate]:
        """On every admissible node the cheapest sets in the way of a pod, fewest first; kept for pods that
        ask for the same, and looked at anew only on nodes that take part in a move since.
        """
        key = (overlay.demand(pod), pod.constraints, pod.resources, pod.linked, priority, most)
        seen, known = self._known.get(key, (None, []))
        if seen is None:
            rows = np.flatnonzero(overlay.usable(pod)).tolist()
            names = [self._scene.names[row] for row in rows]
        elif seen == overlay.touched:
            return known
        else:
            stale = overlay.touched - seen
            names = sorted(name for name in stale if overlay.may_use(pod, name))
            known = [one for one in known if one.node not in stale]
        known = known + [one for name in names for one in self._on_node(overlay, pod, name, priority, most)]
        known.sort()
        self._known[key] = (set(overlay.touched), known)
        return known

    def _on_node(
        self, overlay: Overlay, pod: Waiter | Mover, node: str, priority: int, most: int
    ) -> Iterator[_Candidate]:
        """The cheapest sets of pods in the way of a pod on one node, none above ``priority``."""
        holding = self._scene.holdings.get(node)
        if holding is None or not holding.bound:
            return
        movers = self._scene.movers

        def may_leave(uid: str) -> bool:
            mover = movers.get(uid)
            return mover is not None and mover.priority <= priority and overlay.may_move(mover)

        def key(uids: frozenset[str]) -> tuple[float, ...]:
            return (len(uids), sum(movers[uid].cost for uid in uids))

        found = Counter[int]()
        sets = victim_sets(holding, pod.demand, may_leave, key, linked=pod.linked, most=most)
        for uids in islice((uids for uids in sets if uids), SETS_PER_NODE * most):
            found[len(uids)] += 1
            if found[len(uids)] > SETS_PER_NODE or not overlay.spared(movers[uid] for uid in uids):
                continue
            room = overlay.place_later(node, pod.demand, pod.resources, uids, linked=pod.linked)
            if room is not None:
                yield _Candidate(len(uids), key(uids)[1], node, tuple(sorted(uids)))

    def _direct(
        self, overlay: Overlay, waiter: Waiter, candidate: _Candidate
    ) -> tuple[Relief, Overlay] | None:
        """Every pod in the way has a place already."""
        movers = [self._scene.movers[uid] for uid in candidate.uids]
        for order in _orders(movers):
            trial = overlay.fork()
            aim = _Aim(waiter, candidate.node, frozenset(candidate.uids))
            placed = [found for mover in order if (found := _resettle(trial, mover, aim)) is not None]
            if len(placed) == len(movers):
                done = _admit(trial, waiter, candidate.node, placed)
                if done is not None:
                    return done
        return None

    def _chained(
        self, overlay: Overlay, waiter: Waiter, lone: list[_Candidate]
    ) -> tuple[Relief, Overlay] | None:
        """One pod in the way whose place is made by moving one more."""
        if min(overlay.evictions, self._limits.concurrent) < 2:
            return None
        best: tuple[Relief, Overlay] | None = None
        for candidate in lone[:MOST_CHAINS]:
            first = self._scene.movers[candidate.uids[0]]
            offers = (
                offer
                for offer in self._candidates(overlay, first, waiter.priority, 1)
                if offer.node != candidate.node and offer.uids[0] != first.uid and _still(overlay, offer)
            )
            for offer in islice(offers, MOST_CHAINS):
                if best is not None and candidate.cost + offer.cost >= best[0].cost:
                    break
                best = _cheaper(best, _chain(overlay, waiter, candidate, first, offer))
        return best


def _chain(
    overlay: Overlay, waiter: Waiter, candidate: _Candidate, first: Mover, offer: _Candidate
) -> tuple[Relief, Overlay] | None:
    second = overlay.scene.movers[offer.uids[0]]
    trial = overlay.fork()
    away = _resettle(
        trial,
        second,
        _Aim(first, offer.node, frozenset(offer.uids)),
        _Aim(waiter, candidate.node, frozenset(candidate.uids)),
    )
    if away is None:
        return None
    trial.finished(second)
    if not trial.may_move(first) or not trial.may_use(first, offer.node):
        return None
    room = trial.place_now(offer.node, first.demand, first.resources, linked=first.linked)
    if room is None:
        return None
    trial.take(offer.node, room, first.resources)
    trial.evict(first)
    return _admit(trial, waiter, candidate.node, [away, _Placed(first, offer.node, 1)])


def _resettle(trial: Overlay, mover: Mover, *aims: _Aim) -> _Placed | None:
    """Find the mover the cheapest place that exists now and spoils none of the aims; counts both ends of the
    move.
    """
    if trial.evictions < 1 or not trial.may_move(mover):
        return None
    for node in _by_price(trial, mover):
        room = trial.place_now(node, mover.demand, mover.resources, linked=mover.linked)
        if room is None:
            continue
        step = trial.fork()
        step.take(node, room, mover.resources)
        if all(aim.node != node or _reachable(step, aim) for aim in aims):
            trial.take(node, room, mover.resources)
            trial.evict(mover)
            return _Placed(mover, node, 0)
    return None


def _reachable(step: Overlay, aim: _Aim) -> bool:
    pod = aim.pod
    return step.place_later(aim.node, pod.demand, pod.resources, aim.leaving, linked=pod.linked) is not None


def _admit(trial: Overlay, waiter: Waiter, node: str, placed: list[_Placed]) -> tuple[Relief, Overlay] | None:
    """Check that the waiter fits once all have moved, and word the moves."""
    room = trial.place_later(node, waiter.demand, waiter.resources, linked=waiter.linked)
    if room is None:
        return None
    trial.take(node, room, waiter.resources)
    moves = tuple(
        Move(
            pod=one.mover,
            target=one.target,
            wave=one.wave,
            cost=one.mover.cost,
            gain_per_hour=waiter.value_per_hour / len(placed),
            why=f"makes room for {waiter.full_name} ({waiter.demand}) on {node}",
            waiter=waiter,
        )
        for one in placed
    )
    return Relief(waiter, node, moves), trial


def _savings(overlay: Overlay, limits: Limits) -> list[Move]:
    scene = overlay.scene
    offers: list[tuple[float, str, str]] = []
    for uid, stay in scene.stay.items():
        mover = scene.movers.get(uid)
        if not overlay.may_move(mover) or mover is None or not np.isfinite(stay):
            continue
        gain = stay - float(_prices(overlay, mover).min(initial=np.inf))
        if gain * limits.horizon_hours > mover.cost:
            offers.append((-gain, mover.full_name, uid))
    moves: list[Move] = []
    for _, _, uid in sorted(offers):
        mover = scene.movers[uid]
        if len(moves) >= limits.concurrent or overlay.evictions < 1:
            break
        if mover.node in overlay.touched or not overlay.may_move(mover):
            continue
        found = _cheaper_place(overlay, mover, limits)
        if found is not None:
            moves.append(found)
    return moves


def _cheaper_place(overlay: Overlay, mover: Mover, limits: Limits) -> Move | None:
    scene = overlay.scene
    prices = dict(zip(scene.names, _prices(overlay, mover).tolist(), strict=False))
    for node in _by_price(overlay, mover):
        gain = scene.stay[mover.uid] - prices[node]
        if gain * limits.horizon_hours <= mover.cost:
            return None
        if node == mover.node or node in overlay.touched:
            continue
        room = overlay.place_now(node, mover.demand, mover.resources, linked=mover.linked)
        if room is None:
            continue
        overlay.take(node, room, mover.resources)
        overlay.evict(mover)
        return Move(
            pod=mover,
            target=node,
            wave=0,
            cost=mover.cost,
            gain_per_hour=gain,
            why=f"costs {gain:.4f} an hour less on {node}; the move pays back in {mover.cost / gain:.1f} h",
        )
    return None


def _orders(movers: list[Mover]) -> Iterator[tuple[Mover, ...]]:
    """The orders in which to look for places: both of two, else largest first."""
    if len(movers) <= 2:
        yield from permutations(movers)
    else:
        yield tuple(sorted(movers, key=lambda one: (-one.cost, one.full_name)))


def _still(overlay: Overlay, candidate: _Candidate) -> bool:
    movers = overlay.scene.movers
    return all(overlay.may_move(movers[uid]) for uid in candidate.uids)


def _cheaper(
    one: tuple[Relief, Overlay] | None, other: tuple[Relief, Overlay] | None
) -> tuple[Relief, Overlay] | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda found: (len(found[0].moves), found[0].cost))
