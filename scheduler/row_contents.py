"""Which rows of the fleet are alike: a number for the content of each row, equal for equal rows.

A price follows from the row's content alone, and contents come again: equal nodes, room taken and given back.
What is worked out for one number holds for all its rows, at any time, while ``stamp`` stays the same. It
grows when ids in the columns change their meaning and when columns get wider: all is then numbered anew. It
grows too when more contents have been seen than are worth remembering: those that rows have now are ``kept``
under new numbers, the others are forgotten. Called with the fleet's lock held.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Columns
from scheduler.fleet import Fleet

_FEWEST_KEPT = 4096


class RowContents:
    """Numbers from 0 up for contents. A row is read again only when it has changed. ``kept``: by new number
    the old one, from before the last growth of ``stamp``.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.stamp = 0
        self._fleet = fleet
        self.kept: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._ids: dict[bytes, int] = {}
        self._of_row: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._generation = -1
        self._meaning: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Contents numbered under this stamp."""
        return len(self._ids)

    def of_rows(self) -> NDArray[np.int64]:
        """int64[rows]: the number of each row's content as it is now. Not to be changed."""
        fleet = self._fleet
        columns = fleet.columns
        meaning = (
            fleet.ids_renewed,
            columns.gpus,
            columns.static_total.shape[1],
            columns.image_ids.shape[1],
            columns.weight_ids.shape[1],
        )
        if meaning != self._meaning:
            self._meaning, self._ids, self._generation = meaning, {}, -1
            self.kept = np.zeros(0, dtype=np.int64)
            self.stamp += 1
        elif len(self._ids) > max(_FEWEST_KEPT, 2 * fleet.size):
            self._forget_unused()
        if fleet.generation != self._generation:
            rows = fleet.changes_since(self._generation)
            if len(self._of_row) < fleet.size:
                larger = np.zeros(len(columns), dtype=np.int64)
                larger[: len(self._of_row)] = self._of_row
                self._of_row = larger
            self._of_row[rows] = self.numbers(columns.take(rows))
            self._generation = fleet.generation
        return self._of_row

    def _forget_unused(self) -> None:
        live = np.zeros(len(self._ids), dtype=np.bool_)
        live[self._of_row] = True
        self.kept = np.flatnonzero(live)
        renamed = np.cumsum(live) - 1
        self._of_row = renamed[self._of_row]
        used = ((content, number) for content, number in self._ids.items() if live[number])
        self._ids = {content: int(renamed[number]) for content, number in used}
        self.stamp += 1

    def numbers(self, columns: Columns) -> NDArray[np.int64]:
        """int64[k]: the numbers of contents that rows have or may come to have. ``of_rows`` first: what it
        forgets, this must not have numbered.
        """
        ids = self._ids
        return np.array([ids.setdefault(content, len(ids)) for content in columns.contents()], dtype=np.int64)
