"""Prices and refusals of every demand seen, on all rows: vectors of which only stale rows are priced anew.

A change of a row makes that row stale in every vector; a change of the world (policy, price tables,
intensities) all of them. Rows of one content (``scheduler.row_contents``) have one price: of the stale ones
each content is priced once, and not at all when it has been before. The demands asked about longest ago are
forgotten. Called with the fleet's lock held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Rows
from scheduler.demand import Demand
from scheduler.feasibility import Reason
from scheduler.fleet import Fleet
from scheduler.pricing import priced
from scheduler.row_contents import RowContents
from scheduler.scoring.context import World
from scheduler.world import WorldKeeper

_MOST_SHAPES = 256
_FEW_ROWS = 4
_MOST_REASONS = 4096


@dataclass(slots=True)
class Shape:
    """Vectors of one demand over all rows, one entry longer: the last is for unknown nodes (-1).

    ``price_of`` and ``reason_of``: by number of a content, the reason -1 where it has not been priced;
    they hold for one ``stamp`` of the contents and one ``epoch`` of the world.
    """

    prices: NDArray[np.float64]
    reasons: NDArray[np.int32]
    told: list[Reason]
    ids: dict[tuple[str, bool], int]
    generation: int = -1
    epoch: int = -1
    stamp: int = -1
    price_of: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    reason_of: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    codes: tuple[NDArray[np.int64], int] | None = None


class ShapePrices:
    """The vectors by demand. ``built``: demands first seen; ``rows_repriced``: contents priced."""

    def __init__(self, fleet: Fleet, keeper: WorldKeeper) -> None:
        self.built = 0
        self.rows_repriced = 0
        self._fleet = fleet
        self._keeper = keeper
        self._contents = RowContents(fleet)
        self._shapes: OrderedDict[Demand, Shape] = OrderedDict()

    def demands(self) -> list[Demand]:
        """Every demand that has vectors, that asked about longest ago first."""
        return list(self._shapes)

    def of(self, demand: Demand) -> Shape:
        """The vectors of a demand, up to date."""
        world = self._keeper.world()
        epoch, fleet = self._keeper.epoch, self._fleet
        shape = self._shapes.get(demand)
        if shape is None:
            shape = Shape(np.full(1, np.inf), np.zeros(1, dtype=np.int32), [Reason("", False)], {})
            self._shapes[demand] = shape
            self.built += 1
            if len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
        self._shapes.move_to_end(demand)
        if shape.epoch == epoch and shape.generation == fleet.generation:
            return shape
        if shape.epoch != epoch or len(shape.told) > _MOST_REASONS:
            # Texts carry intensities and names; they are told anew rather than kept for ever.
            shape.told, shape.ids, shape.stamp, shape.epoch = [Reason("", False)], {}, -1, epoch
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
        if not np.array_equal(shape.prices[rows], prices):
            shape.prices[rows] = prices
            shape.codes = None
        shape.reasons[rows] = reasons
        shape.generation = fleet.generation
        return shape

    def _reprice(
        self, shape: Shape, demand: Demand, world: World, rows: Rows
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Prices and refusals of some rows: those of their contents, unseen contents priced first."""
        numbers = self._contents.of_rows()[rows]
        if shape.stamp != self._contents.stamp:
            shape.stamp = self._contents.stamp
            shape.price_of, shape.reason_of = np.zeros(0), np.zeros(0, dtype=np.int32)
        if len(shape.reason_of) < len(self._contents):
            more = len(self._contents) + len(self._contents) // 4 + 16 - len(shape.reason_of)
            shape.price_of = np.append(shape.price_of, np.zeros(more))
            shape.reason_of = np.append(shape.reason_of, np.full(more, -1, dtype=np.int32))
        unseen = np.flatnonzero(shape.reason_of[numbers] < 0)
        if unseen.size:
            fresh, first = np.unique(numbers[unseen], return_index=True)
            result = priced(
                demand, world, self._fleet.view(rows[unseen[first]]), teller(shape.told, shape.ids)
            )
            self.rows_repriced += len(fresh)
            shape.price_of[fresh], shape.reason_of[fresh] = result.total, result.reasons
        return shape.price_of[numbers], shape.reason_of[numbers]

    def refusals(self, demand: Demand, rows: Rows) -> tuple[NDArray[np.int32], list[Reason]]:
        """The reasons of some rows, as positions among the reasons told. A nominated pod is asked about on
        one node alone: then only that row is brought up to date.
        """
        world, shape = self._keeper.world(), self._shapes.get(demand)
        if len(rows) > _FEW_ROWS or shape is None or shape.epoch != self._keeper.epoch:
            shape = self.of(demand)
            return shape.reasons[rows], shape.told
        found = np.zeros(len(rows), dtype=np.int32)
        known = rows >= 0
        found[known] = self._reprice(shape, demand, world, rows[known])[1]
        return found, shape.told


def teller(told: list[Reason], ids: dict[tuple[str, bool], int]) -> Callable[[str, bool], int]:
    """Numbers reasons: those in ``told`` by their position there, new ones at its end."""

    def tell(text: str, unresolvable: bool) -> int:
        key = (text, unresolvable)
        if key not in ids:
            ids[key] = len(told)
            told.append(Reason(text, unresolvable))
        return ids[key]

    return tell
