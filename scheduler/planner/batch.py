"""What one round plans: single pods and whole gangs out of the queue.

A gang is due when one of its members is, and then comes with all members it needs; members of a gang that is
not complete stay where they are. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from scheduler.planner.gangs import GangBook, GangKey, GangUnit
from scheduler.planner.queue import PlanQueue, WaitingPod


@dataclass(frozen=True, slots=True)
class Batch:
    """Pods to plan, best first; gangs beside them; ``incomplete``: due members of gangs that cannot be
    planned yet, with the reason. ``first``: pods that go before the others of their priority, because it was
    their turn and not all have room.
    """

    singles: tuple[WaitingPod, ...] = ()
    gangs: tuple[GangUnit, ...] = ()
    incomplete: tuple[tuple[WaitingPod, str], ...] = ()
    first: frozenset[str] = frozenset()

    @property
    def pods(self) -> tuple[WaitingPod, ...]:
        """Everything that would be placed."""
        return (*self.singles, *(pod for gang in self.gangs for pod in gang.pods))

    def rank(self, pod: WaitingPod, priority: int) -> int:
        """The pod's priority with its turn; compares within the batch only."""
        return 2 * priority + (pod.uid in self.first)


def collect(
    queue: PlanQueue, book: GangBook, now: float, limit: int, busy: Collection[str] = frozenset()
) -> Batch:
    """The batch that is due; ``busy``: pods that a plan under way answers for."""
    due = [pod for pod in queue.due(now, limit) if pod.uid not in busy]
    singles: list[WaitingPod] = []
    incomplete: list[tuple[WaitingPod, str]] = []
    units: dict[GangKey, GangUnit | str] = {}
    waiting = {uid: pod for uid, pod in queue.waiting().items() if uid not in busy} if due else {}
    under_way = {book.key_of(uid) for uid in busy} - {None}
    for pod in due:
        key = book.key_of(pod.uid)
        if key in under_way:
            continue
        if key is None:
            singles.append(pod)
            continue
        if key not in units:
            units[key] = book.unit(key, waiting)
        found = units[key]
        if isinstance(found, str):
            incomplete.append((pod, found))
    gangs = sorted(
        (unit for unit in units.values() if isinstance(unit, GangUnit)),
        key=lambda unit: (-unit.priority, min(pod.created for pod in unit.pods), str(unit.key)),
    )
    return Batch(tuple(singles), tuple(gangs), tuple(incomplete))
