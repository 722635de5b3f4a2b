"""The refusals of a filter answer, by node: made when they change, not for every pod.

A cluster that is well used refuses most nodes, each with its reason, and the same ones again and again: which
nodes are full for a demand changes more slowly than pods come. So what was said about a demand is kept, its
JSON too once it was asked for, and said again while the reasons are the same. What is kept is bounded by its
number of entries; the demands asked about longest ago go first. Called with the fleet's lock held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from scheduler.demand import Demand
from scheduler.feasibility import Reason

_MOST_ENTRIES = 100_000


class NodeTexts(dict[str, str]):
    """Node → reason, not to be changed; ``json``: the same as bytes, once somebody made them."""

    __slots__ = ("json",)

    def __init__(self) -> None:
        super().__init__()
        self.json: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refusals:
    """The nodes that evicting pods could help, and the others."""

    failed: NodeTexts
    unresolvable: NodeTexts


@dataclass(frozen=True, slots=True)
class _Said:
    names: Sequence[str]
    told: list[Reason]
    found: NDArray[np.int32]
    refusals: Refusals


class RefusalTexts:
    """What was said last about each demand."""

    def __init__(self) -> None:
        self._said: OrderedDict[Demand, _Said] = OrderedDict()
        self._entries = 0

    def of(
        self, demand: Demand, names: Sequence[str], found: NDArray[np.int32], told: list[Reason]
    ) -> Refusals:
        """The refusals of ``names`` whose reasons are ``found`` (positions in ``told``, 0: none)."""
        said = self._said.get(demand)
        if said is not None:
            if said.names is names and said.told is told and np.array_equal(said.found, found):
                self._said.move_to_end(demand)
                return said.refusals
            self._forget(demand)
        refusals = _made(names, found, told)
        self._said[demand] = _Said(names, told, found, refusals)
        self._entries += _size(refusals)
        while self._entries > _MOST_ENTRIES and len(self._said) > 1:
            self._forget(next(iter(self._said)))
        return refusals

    def _forget(self, demand: Demand) -> None:
        self._entries -= _size(self._said.pop(demand).refusals)


def _made(names: Sequence[str], found: NDArray[np.int32], told: list[Reason]) -> Refusals:
    texts = [reason.text for reason in told]
    final = np.array([reason.unresolvable for reason in told])[found]
    refusals = Refusals(NodeTexts(), NodeTexts())
    for side, mask in ((refusals.failed, ~final & (found > 0)), (refusals.unresolvable, final)):
        reasons = map(texts.__getitem__, found[mask].tolist())
        side.update(zip(compress(names, mask.tolist()), reasons, strict=True))
    return refusals


def _size(refusals: Refusals) -> int:
    return len(refusals.failed) + len(refusals.unresolvable)
