"""Moves under way: who was evicted, who came in its place, whether the waiting pod got its room.

Bookkeeping over what the census shows, stepped by the controller's loop. A successor is the first pod of the
same controller that was not there when its predecessor was evicted and that no other move has claimed. What
is to be done is returned as values: rooms to hold, nominations to write, outcomes to count. No clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scheduler.repack.census import Census, Resident
from scheduler.repack.scene import Move, Relief, Waiter

MoveOutcome = Literal["settled", "elsewhere", "unsettled"]
ReliefOutcome = Literal["helped", "elsewhere", "gone", "timed_out"]
HELD_FOR = "repack of "
RENOMINATE_SECONDS = 2.0
DESERTED_SECONDS = 10.0
OVERDUE_SECONDS = 5.0


@dataclass(slots=True)
class _Journey:
    move: Move
    evicted_at: float
    known: frozenset[str]
    successor: str = ""
    deserted_at: float | None = None


@dataclass(slots=True)
class _Help:
    relief: Relief
    since: float
    nominated_at: float
    predecessors: frozenset[str]
    gone_at: float | None = None


@dataclass(frozen=True, slots=True)
class Nominate:
    """Write the nomination of a pod that waits."""

    pod: Resident
    node: str


@dataclass(slots=True)
class Step:
    """What one look at the census asks for. ``holds``: (pod or stand-in UID, waiter or move, node);
    ``overdue``: who was in the way has been gone for a while, yet the waiting pod has no node.
    """

    holds: list[tuple[str, Move | Waiter, str]] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    nominations: list[Nominate] = field(default_factory=list)
    moves: list[tuple[Move, MoveOutcome]] = field(default_factory=list)
    reliefs: list[tuple[Relief, ReliefOutcome]] = field(default_factory=list)
    overdue: list[Relief] = field(default_factory=list)


def stand_in(move: Move) -> str:
    """The UID under which room is held for a successor that is not there yet."""
    return f"{HELD_FOR}{move.pod.uid}"


class Underway:
    """See the module docstring. Not thread-safe: its owner is one thread."""

    def __init__(self) -> None:
        self._journeys: dict[str, _Journey] = {}
        self._helps: dict[str, _Help] = {}

    def __len__(self) -> int:
        return len(self._journeys)

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._journeys and not self._helps

    @property
    def waiters(self) -> frozenset[str]:
        """UIDs of the waiting pods that are being helped."""
        return frozenset(self._helps)

    @property
    def leaving(self) -> frozenset[str]:
        """UIDs of the pods that were evicted and whose successors have no node yet."""
        return frozenset(self._journeys)

    def evicted(self, move: Move, now: float, census: Census) -> None:
        """A pod was evicted. One that was preempted is not followed: nothing was promised."""
        if not move.target:
            return
        known = frozenset(pod.uid for pod in census.of_owner(move.pod.owner))
        self._journeys[move.pod.uid] = _Journey(move, now, known)

    def forget(self, move: Move) -> None:
        """The eviction was not carried out."""
        self._journeys.pop(move.pod.uid, None)

    def helping(self, relief: Relief, now: float) -> None:
        """All evictions of one wave for a waiting pod were sent, its nomination written."""
        leaving = frozenset(move.pod.uid for move in relief.moves if move.wave == 0)
        self._helps[relief.waiter.uid] = _Help(relief, now, now, leaving)

    def give_up(self, relief: Relief) -> None:
        """The room is not there: somebody else has it."""
        self._helps.pop(relief.waiter.uid, None)

    def step(self, now: float, census: Census, settle_seconds: float) -> Step:
        """Look at the census; forget what has ended."""
        step = Step()
        for uid, journey in list(self._journeys.items()):
            if self._travelled(journey, now, census, settle_seconds, step):
                del self._journeys[uid]
        for uid, help_ in list(self._helps.items()):
            if self._helped(help_, now, census, settle_seconds, step):
                del self._helps[uid]
        return step

    def _travelled(
        self, journey: _Journey, now: float, census: Census, settle_seconds: float, step: Step
    ) -> bool:
        move = journey.move
        pod = census.get(journey.successor) if journey.successor else None
        if pod is None:
            pod = self._successor(journey, census)
            if pod is not None:
                journey.successor = pod.uid
                step.releases.append(stand_in(move))
                if not pod.node:
                    step.nominations.append(Nominate(pod, move.target))
        if pod is not None and pod.node:
            step.moves.append((move, "settled" if pod.node == move.target else "elsewhere"))
            return True
        if now - journey.evicted_at >= settle_seconds or self._deserted(journey, now, census):
            step.releases.append(stand_in(move))
            step.moves.append((move, "unsettled"))
            return True
        if pod is None:
            step.holds.append((stand_in(move), move, move.target))
        return False

    @staticmethod
    def _deserted(journey: _Journey, now: float, census: Census) -> bool:
        """Whether the workload has had no pod for a while: it was scaled down or deleted meanwhile."""
        if census.of_owner(journey.move.pod.owner):
            journey.deserted_at = None
            return False
        if journey.deserted_at is None:
            journey.deserted_at = now
        return now - journey.deserted_at >= DESERTED_SECONDS

    def _successor(self, journey: _Journey, census: Census) -> Resident | None:
        claimed = {one.successor for one in self._journeys.values()}
        fresh = [
            pod
            for pod in census.of_owner(journey.move.pod.owner)
            if pod.uid not in journey.known and pod.uid not in claimed and not pod.terminating
        ]
        return min(fresh, key=lambda pod: (pod.created, pod.name), default=None)

    def _helped(self, help_: _Help, now: float, census: Census, settle_seconds: float, step: Step) -> bool:
        relief = help_.relief
        waiter = relief.waiter
        pod = census.get(waiter.uid)
        outcome: ReliefOutcome | None = None
        if pod is None or pod.terminating:
            outcome = "gone"
        elif pod.node:
            outcome = "helped" if pod.node == relief.node else "elsewhere"
        elif now - help_.since >= settle_seconds:
            outcome = "timed_out"
        if outcome is not None:
            step.releases.append(waiter.uid)
            step.releases.extend(stand_in(move) for move in relief.moves if move.wave)
            step.reliefs.append((relief, outcome))
            return True
        gone = all(census.get(uid) is None for uid in help_.predecessors)
        later = [move for move in relief.moves if move.wave]
        if later:
            # What follows is planned anew from what is there then; until then its room is held.
            if gone:
                step.releases.extend(stand_in(move) for move in later)
                return True
            step.holds.extend((stand_in(move), move, move.target) for move in later)
            return False
        step.holds.append((waiter.uid, waiter, relief.node))
        if gone:
            help_.gone_at = now if help_.gone_at is None else help_.gone_at
            if now - help_.gone_at >= OVERDUE_SECONDS:
                step.overdue.append(relief)
        if pod is not None and gone and not pod.nominated and now - help_.nominated_at >= RENOMINATE_SECONDS:
            # The scheduler tried before the room was free, and dropped the nomination.
            help_.nominated_at = now
            step.nominations.append(Nominate(pod, relief.node))
        return False
