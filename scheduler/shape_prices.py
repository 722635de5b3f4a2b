"""Prices and refusals of every demand seen, on all rows: vectors of which only stale rows are priced anew.

A change of a row makes that row stale in every vector; a change of the world (policy, price tables,
intensities) all of them. Rows of one content (``scheduler.row_contents``) have one price: of the stale ones
each content is priced once, and not at all when it has been before. The demands asked about longest ago are
forgotten.

``catch_up`` prices what changed for all demands at once, off the request path: a request then finds the price
of every content known. Called with the fleet's lock held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Columns, Rows, joined
from scheduler.demand import Demand
from scheduler.feasibility import Reason
from scheduler.fleet import Fleet
from scheduler.pair_prediction import Wants, usual_rows, wants_of
from scheduler.pair_prices import Reasons, priced_pairs, stands_with_others
from scheduler.pricing import priced
from scheduler.row_contents import RowContents
from scheduler.scoring.context import World
from scheduler.world import WorldKeeper

_MOST_SHAPES = 256
_FEW_ROWS = 4
_MOST_REASONS = 4096
_MOST_CONTENTS = 64
_MOST_PAIRS = 2048
_UNPRICED = -1


@dataclass(slots=True)
class Shape:
    """Vectors of one demand over all rows, one entry longer: the last is for unknown nodes (-1).

    ``slot``: where its prices by content are kept; they hold for one ``epoch`` of the world.
    """

    slot: int
    prices: NDArray[np.float64] = field(default_factory=lambda: np.full(1, np.inf))
    reasons: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, dtype=np.int32))
    said: Reasons = field(default_factory=Reasons)
    generation: int = -1
    epoch: int = -1
    codes: tuple[NDArray[np.int64], int] | None = None

    @property
    def told(self) -> list[Reason]:
        """The reasons by their number."""
        return self.said.told


@dataclass(slots=True)
class _Together:
    """The demands that ``catch_up`` can price at once, laid out; ``slots``: int64[d]."""

    stamp: tuple[int, int, int]
    wants: Wants
    slots: NDArray[np.int64]
    said: list[Reasons]


class ShapePrices:
    """The vectors by demand. ``built``: demands first seen; ``rows_repriced``: contents priced for a demand
    that was asked about; ``pairs_priced``: contents priced ahead, for all demands together.
    """

    def __init__(self, fleet: Fleet, keeper: WorldKeeper) -> None:
        self.built = 0
        self.rows_repriced = 0
        self.pairs_priced = 0
        self._fleet = fleet
        self._keeper = keeper
        self._contents = RowContents(fleet)
        self._shapes: OrderedDict[Demand, Shape] = OrderedDict()
        self._free: list[int] = []
        # By slot and number of a content: the price, and the reason's number or _UNPRICED.
        self._price_of = np.zeros((0, 0))
        self._reason_of = np.zeros((0, 0), dtype=np.int32)
        self._stamp = -1
        self._caught_up = 0
        self._together: _Together | None = None

    def demands(self) -> list[Demand]:
        """Every demand that has vectors, that asked about longest ago first."""
        return list(self._shapes)

    def of(self, demand: Demand, world: World | None = None) -> Shape:
        """The vectors of a demand, up to date. ``world``: as the keeper has it, where it was just asked."""
        world = world or self._keeper.world()
        epoch, fleet = self._keeper.epoch, self._fleet
        shape = self._shapes.get(demand)
        if shape is None:
            shape = self._new(demand)
        self._shapes.move_to_end(demand)
        if shape.epoch == epoch and shape.generation == fleet.generation:
            return shape
        if shape.epoch != epoch or len(shape.told) > _MOST_REASONS:
            # Texts carry intensities and names; they are told anew rather than kept for ever.
            shape.said, shape.epoch = Reasons(), epoch
            self._together = None
            self._reason_of[shape.slot] = _UNPRICED
            shape.prices = np.full(fleet.size + 1, np.inf)
            shape.reasons = np.zeros(fleet.size + 1, dtype=np.int32)
            shape.codes = None
            rows: Rows = np.arange(fleet.size)
        else:
            rows = fleet.changes_since(shape.generation)
            if fleet.size + 1 > len(shape.prices):
                more = fleet.size + 1 - len(shape.prices)
                shape.prices = np.append(shape.prices, np.full(more, np.inf))
                shape.reasons = np.append(shape.reasons, np.zeros(more, dtype=np.int32))
                shape.codes = None
        prices, reasons = self._reprice(shape, demand, world, rows)
        if shape.codes is not None and not np.array_equal(shape.prices[rows], prices):
            shape.codes = None
        shape.prices[rows] = prices
        shape.reasons[rows] = reasons
        shape.generation = fleet.generation
        return shape

    def catch_up(self) -> None:
        """Price the rows that changed since the last time for every demand, as they are and as they will be
        once what is expected on them is certain. Where very much changed at once, requests price for
        themselves.
        """
        world, fleet = self._keeper.world(), self._fleet
        self._contents.of_rows()
        rows = fleet.changes_since(self._caught_up)
        self._caught_up = fleet.generation
        if not 0 < len(rows) <= _MOST_CONTENTS:
            return
        columns = fleet.view(rows)
        waiting = (columns.certain != columns.occupied).any(axis=1)
        if waiting.any():
            columns = joined(columns, _settled(columns.take(np.flatnonzero(waiting))))
        numbers, first = np.unique(self._contents.numbers(columns), return_index=True)
        self._make_room()
        columns = columns.take(first)
        together = self._laid_out(world)
        if not together.wants.demands:
            return
        unseen = self._reason_of[np.ix_(together.slots, numbers)] == _UNPRICED
        unseen &= usual_rows(columns)
        of, at = np.nonzero(unseen)
        # The demands asked about last come last; where there is too much to do, they are done.
        of, at = of[-_MOST_PAIRS:], at[-_MOST_PAIRS:]
        if not of.size:
            return
        prices, reasons = priced_pairs(together.wants, of, world, columns.take(at), together.said)
        self._price_of[together.slots[of], numbers[at]] = prices
        self._reason_of[together.slots[of], numbers[at]] = reasons
        self.pairs_priced += len(of)

    def _laid_out(self, world: World) -> _Together:
        hardware = world.hardware
        stamp = (self._keeper.epoch, self.built, len(hardware.models))
        if self._together is None or self._together.stamp != stamp:
            members = [
                (demand, shape)
                for demand, shape in self._shapes.items()
                if shape.epoch == self._keeper.epoch and stands_with_others(demand, world)
            ]
            self._together = _Together(
                stamp,
                wants_of([demand for demand, _ in members], hardware),
                np.array([shape.slot for _, shape in members], dtype=np.int64),
                [shape.said for _, shape in members],
            )
        return self._together

    def _new(self, demand: Demand) -> Shape:
        if len(self._shapes) >= _MOST_SHAPES:
            self._free.append(self._shapes.popitem(last=False)[1].slot)
        slot = self._free.pop() if self._free else len(self._shapes)
        if slot >= len(self._reason_of):
            more = max(8, len(self._reason_of))
            self._price_of = np.pad(self._price_of, ((0, more), (0, 0)))
            self._reason_of = np.pad(self._reason_of, ((0, more), (0, 0)), constant_values=_UNPRICED)
        shape = self._shapes[demand] = Shape(slot)
        self.built += 1
        return shape

    def _make_room(self) -> None:
        """Prices by content hold for one stamp of the contents, and there is one for each of them."""
        if self._stamp != self._contents.stamp:
            # What is kept has moved; of numberings that were missed in between nothing is known.
            kept = self._contents.kept if self._stamp == self._contents.stamp - 1 else self._contents.kept[:0]
            kept = kept[: np.searchsorted(kept, self._reason_of.shape[1])]
            self._price_of[:, : len(kept)] = self._price_of[:, kept]
            self._reason_of[:, : len(kept)] = self._reason_of[:, kept]
            self._reason_of[:, len(kept) :] = _UNPRICED
            self._stamp = self._contents.stamp
        have, need = self._reason_of.shape[1], len(self._contents)
        if have < need:
            more = need + need // 4 + 16 - have
            self._price_of = np.pad(self._price_of, ((0, 0), (0, more)))
            self._reason_of = np.pad(self._reason_of, ((0, 0), (0, more)), constant_values=_UNPRICED)

    def _reprice(
        self, shape: Shape, demand: Demand, world: World, rows: Rows
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Prices and refusals of some rows: those of their contents, unseen contents priced first."""
        numbers = self._contents.of_rows()[rows]
        self._make_room()
        reason_of, price_of = self._reason_of[shape.slot], self._price_of[shape.slot]
        reasons = reason_of[numbers]
        unseen = np.flatnonzero(reasons == _UNPRICED)
        if unseen.size:
            fresh, first = np.unique(numbers[unseen], return_index=True)
            result = priced(demand, world, self._fleet.view(rows[unseen[first]]), shape.said.number)
            self.rows_repriced += len(fresh)
            price_of[fresh], reason_of[fresh] = result.total, result.reasons
            reasons = reason_of[numbers]
        return price_of[numbers], reasons

    def refusals(
        self, demand: Demand, rows: Rows, world: World | None = None
    ) -> tuple[NDArray[np.int32], list[Reason]]:
        """The reasons of some rows, as positions among the reasons told. A nominated pod is asked about on
        one node alone: then only that row is brought up to date.
        """
        world, shape = world or self._keeper.world(), self._shapes.get(demand)
        if len(rows) > _FEW_ROWS or shape is None or shape.epoch != self._keeper.epoch:
            shape = self.of(demand, world)
            return shape.reasons[rows], shape.told
        found = np.zeros(len(rows), dtype=np.int32)
        known = rows >= 0
        found[known] = self._reprice(shape, demand, world, rows[known])[1]
        return found, shape.told


def _settled(columns: Columns) -> Columns:
    """The rows once all that is expected on them is certain."""
    columns.certain[:] = columns.occupied
    columns.static_certain[:] = columns.static_used
    columns.shared_certain[:] = columns.shared_used
    return columns


def teller(told: list[Reason], ids: dict[tuple[str, bool], int]) -> Callable[[str, bool], int]:
    """Numbers reasons: those in ``told`` by their position there, new ones at its end."""
    return Reasons(told, ids).number
