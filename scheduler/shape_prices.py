"""Prices and refusals of every demand seen, on all rows: vectors of which only stale rows are priced anew.

A change of a row makes that row stale in every vector; a change of the world (policy, price tables,
intensities) all of them. The demands asked about longest ago are forgotten. Called with the fleet's lock held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Columns, Rows
from scheduler.demand import Demand
from scheduler.feasibility import Reason
from scheduler.fleet import Fleet
from scheduler.pricing import priced
from scheduler.scoring.context import World
from scheduler.world import WorldKeeper

_MOST_SHAPES = 256
_FEW_ROWS = 4
_MOST_CONTENTS = 4096


@dataclass(slots=True)
class Shape:
    """Vectors of one demand over all rows, one entry longer: the last is for unknown nodes (index -1)."""

    prices: NDArray[np.float64]
    reasons: NDArray[np.int32]
    told: list[Reason]
    ids: dict[tuple[str, bool], int]
    known: dict[bytes, tuple[float, int]] = field(default_factory=dict)
    ids_renewed: int = 0
    generation: int = -1
    epoch: int = -1
    codes: tuple[NDArray[np.int64], int] | None = None


class ShapePrices:
    """The vectors by demand. ``built``: demands seen for the first time; ``rows_repriced``: rows priced."""

    def __init__(self, fleet: Fleet, keeper: WorldKeeper) -> None:
        self.built = 0
        self.rows_repriced = 0
        self._fleet = fleet
        self._keeper = keeper
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
        if shape.epoch != epoch or len(shape.told) > 4096:
            # Texts carry intensities and names; they are told anew rather than kept for ever.
            shape.told, shape.ids, shape.known = [Reason("", False)], {}, {}
            result = priced(demand, world, fleet.view(), teller(shape.told, shape.ids))
            shape.prices = np.append(result.total, np.inf)
            shape.reasons = np.append(result.reasons, 0).astype(np.int32)
            self.rows_repriced += fleet.size
            shape.codes = None
        else:
            rows = fleet.changes_since(shape.generation)
            if fleet.size + 1 > len(shape.prices):
                more = fleet.size + 1 - len(shape.prices)
                shape.prices = np.append(shape.prices, np.full(more, np.inf))
                shape.reasons = np.append(shape.reasons, np.zeros(more, dtype=np.int32))
                shape.codes = None
            prices, reasons = self._reprice(shape, demand, world, fleet.view(rows))
            if not np.array_equal(shape.prices[rows], prices):
                shape.prices[rows] = prices
                shape.codes = None
            shape.reasons[rows] = reasons
        shape.epoch, shape.generation = epoch, fleet.generation
        return shape

    def _reprice(
        self, shape: Shape, demand: Demand, world: World, columns: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Prices and refusals of some rows. A price follows from the row's content alone, and contents come
        again (equal nodes, room taken and given back): where few rows changed, one content is priced once.
        """
        if shape.ids_renewed != self._fleet.ids_renewed or len(shape.known) > _MOST_CONTENTS:
            shape.ids_renewed, shape.known = self._fleet.ids_renewed, {}
        few = len(columns) <= _FEW_ROWS
        keys = [columns.content(index) for index in range(len(columns))] if few else []
        pairs = [pair for key in keys if (pair := shape.known.get(key)) is not None]
        if few and len(pairs) == len(keys):
            prices = np.array([price for price, _ in pairs], np.float64)
            return prices, np.array([reason for _, reason in pairs], np.int32)
        result = priced(demand, world, columns, teller(shape.told, shape.ids))
        self.rows_repriced += len(columns)
        for key, price, reason in zip(keys, result.total.tolist(), result.reasons.tolist(), strict=False):
            shape.known[key] = (price, reason)
        return result.total, result.reasons.astype(np.int32)

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
        found[known] = self._reprice(shape, demand, world, self._fleet.view(rows[known]))[1]
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
