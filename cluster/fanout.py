"""One watch, several readers: hand every list and event of a reflector to each of them in turn.

A watch of 50,000 pods is decoded once a process, however many parts want to see the pods. A reader that fails
keeps the later ones from that event; the reflector then lists anew and all of them get the full list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from cluster.reflector import Handler

T = TypeVar("T")


class FanOut(Generic[T]):
    """A reflector's handler made of several, served in order."""

    def __init__(self, handlers: Sequence[Handler[T]]) -> None:
        self._handlers = tuple(handlers)

    def replaced(self, items: Sequence[T]) -> None:
        """A fresh list for everyone."""
        for handler in self._handlers:
            handler.replaced(items)

    def changed(self, kind: str, item: T) -> None:
        """One event for everyone."""
        for handler in self._handlers:
            handler.changed(kind, item)
