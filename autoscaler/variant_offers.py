"""What the live fleet offers to the variants of a model, and which decisions of a round change for it.

The shell around ``variant_groups``: the price of the next replica of each variant and the room for more,
from the scheduler's own prices and packer (``free_room``), and the memory of both. The room is one moment's
and not held for anybody: what is asked for and finds none is answered as unplaceable in the next round, as
for every workload. Without variants nothing is asked. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, Protocol

from autoscaler.case import Case
from autoscaler.decide import Decision
from autoscaler.free_room import Admitted, FreeRoom, Kept
from autoscaler.placement import NOT_SYNCED
from autoscaler.pod_index import PodIndex
from autoscaler.replica_shape import ReplicaShapes, looked_at
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from autoscaler.variant_groups import Book, Member, regrouped
from metrics.samples import NoData
from scheduler.service import Service

# More room than this for one variant changes no decision of a round.
_MOST_COUNTED: Final = 64

Settled = tuple[Case, Signals, Decision]


class Variants(Protocol):
    """What the controller needs of ``VariantOffers``."""

    def bought(self, settled: Sequence[Settled], now: float, pool: Executor) -> list[Settled]:
        """The same cases, with the decisions of variants as they cost least together."""
        ...


class VariantOffers:
    """Prices and room of variants from the live fleet; remembers prices and capacities."""

    def __init__(self, service: Service, admitted: Admitted, pods: PodIndex, shapes: ReplicaShapes) -> None:
        self._service, self._admitted, self._pods, self._shapes = service, admitted, pods, shapes
        self._book: Book = {}
        self._kept: Kept = {}

    def bought(self, settled: Sequence[Settled], now: float, pool: Executor) -> list[Settled]:
        """See ``Variants``."""
        variants = [one for one in settled if one[0].workload.policy.variant is not None]
        if not variants:
            self._book = {}
            return list(settled)
        offers = self._offers([one[0].workload.sight for one in variants], pool)
        members = [
            Member(
                case.workload.sight.target,
                case.workload.policy,
                signals,
                decision,
                *offers[case.workload.sight.target],
            )
            for case, signals, decision in variants
        ]
        changed, self._book = regrouped(members, self._book, now)
        return [
            (case, signals, changed.get(case.workload.sight.target, decision))
            for case, signals, decision in settled
        ]

    def _offers(
        self, sights: Sequence[ScaleSight], pool: Executor
    ) -> dict[Target, tuple[float | NoData, int | NoData]]:
        """Price of the next replica and room for more, by variant; each as if it came alone."""
        if not self._service.synced():
            return {sight.target: (NOT_SYNCED, NOT_SYNCED) for sight in sights}
        looked_at(sights, self._pods, self._shapes, pool)
        decider = self._service.decider
        found: dict[Target, tuple[float | NoData, int | NoData]] = {}
        with decider.fleet.lock:
            for sight in sights:
                shape = self._shapes.shape(sight.target)
                if isinstance(shape, NoData):
                    found[sight.target] = (shape, shape)
                    continue
                room = FreeRoom(decider, self._admitted, self._kept)
                price = room.price(shape)
                unknown = NoData("no node has room for one more", "empty")
                fits = 0 if price is None else room.take(shape, _MOST_COUNTED)
                found[sight.target] = (unknown if price is None else price, fits)
        return found
