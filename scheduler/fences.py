"""Nodes that are closed to others for a moment after the pod that room was made for has come to them.

Those who made room are created anew at about the same time, and their new places are held elsewhere. One that
is tried a moment after the pod it made room for would be given what is left beside it, by price alone, though
it was to leave the node. Times are the caller's: a fence that was put up ends ``SECONDS`` after ``over`` was
first asked about it. Pure; see ``scheduler.standing``.
"""

from __future__ import annotations

SECONDS = 5.0


class Fences:
    """The closed nodes."""

    def __init__(self) -> None:
        self._until: dict[str, float | None] = {}

    def __len__(self) -> int:
        return len(self._until)

    def put_up(self, node: str) -> None:
        """Close a node from now on."""
        self._until[node] = None

    def closed(self, node: str) -> bool:
        """Whether the node is closed."""
        return node in self._until

    def over(self, now: float) -> set[str]:
        """The nodes that are opened again at ``now``, seconds of the caller's clock."""
        opened = {node for node, until in self._until.items() if until is not None and until <= now}
        self._until = {
            node: now + SECONDS if until is None else until
            for node, until in self._until.items()
            if node not in opened
        }
        return opened
