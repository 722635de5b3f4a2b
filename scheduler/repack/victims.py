"""The cheapest sets of pods whose leaving makes room for a demand on one node.

Model: a demand is a list of pieces (MIG instances, whole GPUs) to be laid on free or freed units; laying a
piece over units that are held costs the pods that hold them. Best-first search over partial layings in the
order of ``key``, which must not fall when a set grows; so the sets come out cheapest first, and the search is
exact until ``MOST_STEPS`` partial layings have been looked at. Pieces of equal kind are laid at rising
positions, which spares permutations. Fixed MIG instances and shared replicas are counts: the pods that hold
most of them go first, which is the fewest.

Every answer is checked against what the node's own allocator would do with the room (``Holding.settle``):
freeing a placement is of no use if first-fit could not find it, or gives GPUs without the links needed.

Used by the repacker (fewest moves) and by the preempt verb (least value lost). Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from dra.shared_gpus import taken
from dra.turns import in_turn
from scheduler.demand import Demand, GpuRequest
from scheduler.repack.holding import Holding

MOST_STEPS = 4000

Key = Callable[[frozenset[str]], tuple[float, ...]]
Free = Callable[[str], bool]
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Piece:
    """One MIG instance of ``profile``, or a whole GPU (None). ``again``: the piece before is its equal."""

    profile: str | None
    again: bool


def victim_sets(
    holding: Holding,
    demand: Demand,
    may_leave: Free,
    key: Key,
    *,
    linked: bool = False,
    most: int = 64,
) -> Iterator[frozenset[str]]:
    """Yield sets of pods (UIDs), cheapest by ``key`` first, after whose leaving the demand fits.

    ``may_leave`` says which pods may be evicted; ``most`` bounds the size of a set. The empty set comes
    first where the demand fits as it is. No set is yielded twice, nor one that contains an earlier one.
    """
    start = _counted(holding, demand, may_leave, key)
    if start is None or len(start) > most:
        return
    pieces = _pieces(holding, demand)
    found: list[frozenset[str]] = []
    for victims in _layings(holding, demand, pieces, start, may_leave, key, most):
        if any(known <= victims for known in found):
            continue
        if holding.settle(holding.room(victims), demand, linked=linked) is not None:
            found.append(victims)
            yield victims


def _layings(
    holding: Holding,
    demand: Demand,
    pieces: list[_Piece],
    start: frozenset[str],
    may_leave: Free,
    key: Key,
    most: int,
) -> Iterator[frozenset[str]]:
    ground = _Ground(holding, demand, may_leave)
    order = count()
    heap: list[tuple[tuple[float, ...], int, int, int, frozenset[str], tuple[int, ...]]] = []
    # Deeper layings first among equals: a complete one is wanted soon.
    heapq.heappush(heap, (key(start), -0, next(order), -1, start, (0,) * len(holding.inventory.gpus)))
    seen: set[tuple[int, frozenset[str], tuple[int, ...]]] = set()
    steps = 0
    while heap and steps < MOST_STEPS:
        steps += 1
        _, depth, _, last, victims, laid = heapq.heappop(heap)
        if -depth == len(pieces):
            yield victims
            continue
        piece = pieces[-depth]
        for position, gpu, bits in ground.spots(piece.profile):
            if laid[gpu] & bits or (piece.again and position <= last):
                continue
            leaving = ground.leaving(gpu, bits)
            if leaving is None:
                continue
            more = victims | leaving
            if len(more) > most:
                continue
            after = (*laid[:gpu], laid[gpu] | bits, *laid[gpu + 1 :])
            state = (depth - 1, more, after)
            if state not in seen:
                seen.add(state)
                heapq.heappush(heap, (key(more), depth - 1, next(order), position, more, after))


class _Ground:
    """Where pieces may lie on the node, and who would have to leave."""

    def __init__(self, holding: Holding, demand: Demand, may_leave: Free) -> None:
        self._holding = holding
        self._spots: dict[str | None, list[tuple[int, int, int]]] = {}
        self._known: dict[tuple[int, int], frozenset[str] | None] = {}
        self._by_gpu: list[list[tuple[int, frozenset[str] | None]]] = [[] for _ in holding.inventory.gpus]
        for hold in holding.holds:
            free = bool(hold.owners) and all(map(may_leave, hold.owners))
            for gpu, mask in hold.units:
                self._by_gpu[gpu].append((mask, hold.owners if free else None))
        models = demand.models
        self._allowed = [models is None or gpu.model.name in models for gpu in holding.inventory.gpus]

    def spots(self, profile: str | None) -> list[tuple[int, int, int]]:
        """(position, GPU, bits) of every place for a piece."""
        if profile not in self._spots:
            site = self._holding.site
            found: list[tuple[int, int]] = []
            for gpu in in_turn(site.turns, profile, len(site.fulls)):
                full = site.fulls[gpu]
                if not self._allowed[gpu]:
                    continue
                if profile is None:
                    places = [full] if site.whole[gpu] else []
                else:
                    places = [p.bits for p in site.orders[gpu] if p.profile == profile]
                found.extend((gpu, bits) for bits in places)
            self._spots[profile] = [(index, gpu, bits) for index, (gpu, bits) in enumerate(found)]
        return self._spots[profile]

    def leaving(self, gpu: int, bits: int) -> frozenset[str] | None:
        """Who holds these units; None when one of them must stay."""
        if (gpu, bits) not in self._known:
            found: frozenset[str] | None = frozenset()
            for mask, held_by in self._by_gpu[gpu]:
                if mask & bits:
                    if held_by is None:
                        found = None
                        break
                    found = held_by if not found else found | held_by
            self._known[gpu, bits] = found
        return self._known[gpu, bits]


def _pieces(holding: Holding, demand: Demand) -> list[_Piece]:
    pieces: list[_Piece] = []
    for asked in demand.requests:
        request = holding.site.read(asked)
        if _is_count(holding, request):
            continue
        profile = request.profile if request.kind == "mig" else None
        pieces.extend(_Piece(profile, index > 0) for index in range(request.count))
    return pieces


def _is_count(holding: Holding, request: GpuRequest) -> bool:
    return request.kind == "shared" or (request.profile or "") in holding.site.static_total


def _counted(holding: Holding, demand: Demand, may_leave: Free, key: Key) -> frozenset[str] | None:
    """Who must leave for what is asked for as counts; None when that is impossible."""
    victims = _NOBODY
    for asked in demand.requests:
        request = holding.site.read(asked)
        if not _is_count(holding, request):
            continue
        room = holding.room(victims)
        profile = request.profile or ""
        if request.kind == "shared":
            left = holding.site.shared_total - room.shared
        else:
            left = holding.site.static_total[profile] - dict(room.static).get(profile, 0)
        lacking = request.count * taken(request.part(holding.step_mib)) - left
        while lacking > 0:
            offers = [
                (amount, uid)
                for uid, amount in _amounts(holding, request, may_leave).items()
                if uid not in victims
            ]
            if not offers:
                return None
            # One that covers what is still lacking, the cheapest of them; else the one that holds most.
            enough = [(key(victims | {uid}), uid, amount) for amount, uid in offers if amount >= lacking]
            if enough:
                _, uid, amount = min(enough)
            else:
                amount, uid = max(offers)
            victims, lacking = victims | {uid}, lacking - amount
    return victims


def _amounts(holding: Holding, request: GpuRequest, may_leave: Free) -> dict[str, int]:
    found: dict[str, int] = {}
    for hold in holding.holds:
        if len(hold.owners) != 1:
            continue
        (uid,) = hold.owners
        if not may_leave(uid):
            continue
        amount = hold.shared if request.kind == "shared" else dict(hold.static).get(request.profile or "", 0)
        if amount:
            found[uid] = found.get(uid, 0) + amount
    return found
