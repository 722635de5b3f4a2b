"""Small integer ids for values that repeat over thousands of nodes.

Columns hold the ids; the values are kept once. ``keep`` forgets the values that no column mentions any
more, so that a process that runs for months does not grow with every order or image it has ever seen. Holds
no lock: its owner does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=Hashable)


class Interner(Generic[T]):
    """Values by id and ids by value; ids are dense and count from 0."""

    __slots__ = ("_ids", "values")

    def __init__(self, values: Iterable[T] = ()) -> None:
        self.values: list[T] = []
        self._ids: dict[T, int] = {}
        for value in values:
            self.id(value)

    def __len__(self) -> int:
        return len(self.values)

    def id(self, value: T) -> int:
        """Return the id of ``value``, a new one when it has not been seen."""
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = len(self.values)
            self.values.append(value)
        return found

    def find(self, value: T) -> int | None:
        """Return the id of ``value``, or None when it has not been seen."""
        return self._ids.get(value)

    def keep(self, live: Iterable[int]) -> NDArray[np.int32]:
        """Forget all values but those with the ``live`` ids; return int32[old length]: old id → new id, -1
        where forgotten.
        """
        kept = sorted({index for index in live if 0 <= index < len(self.values)})
        renamed = np.full(len(self.values), -1, dtype=np.int32)
        renamed[kept] = np.arange(len(kept), dtype=np.int32)
        self.values = [self.values[index] for index in kept]
        self._ids = {value: index for index, value in enumerate(self.values)}
        return renamed
