"""Room held for pods that are likely to land somewhere, each until a time of its own.

A dict by pod UID, with a heap of end times beside it, so that looking for those that are over costs nothing
while none is. Entries of the heap whose reservation was given back or renewed are skipped when they come up.
"""

from __future__ import annotations

from heapq import heappop, heappush

from scheduler.kept_objects import Reservation


class Reservations(dict[str, Reservation]):
    """Reservations by pod UID. Add with ``hold`` only."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[tuple[float, str]] = []

    def hold(self, reservation: Reservation) -> None:
        """Keep a reservation, in place of the pod's last one."""
        self[reservation.uid] = reservation
        heappush(self._ends, (reservation.until, reservation.uid))

    def over(self, now: float) -> list[str]:
        """UIDs whose time has passed; each is told once."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            until, uid = heappop(self._ends)
            kept = self.get(uid)
            if kept is not None and kept.until == until:
                found.append(uid)
        return found
