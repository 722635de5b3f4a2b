"""How many replicas each workload may ask for, so that none is asked for that no node can take.

    placeable = replicas that have a node + copies that still find room, counted no further than wanted

The room is one moment's, and it is handed out once: a copy that one workload was given is gone for the next.
First come the replicas that exist and have no node yet, of all workloads; they are asked for already and will
take their room whatever is decided now. Then come those that are wanted beyond, last those that only later
steps would ask for: these decide nothing but what nodes are requested for. Within each, the higher priority
of the pods goes first, then the workload whose objective is missed most (share missed over share allowed),
then the one that lacks most of what it wants, then the name.

What the scheduler refuses although there seems to be room is left to the scheduler, who sees more (volumes,
quotas, ports): the answer is then ``NoData``, on which nothing more is asked for and nothing is taken back.

Pure: the room itself is a ``Room`` (``free_room`` makes it of the live fleet). Moves nothing and promises
nothing: the room is not reserved beyond the round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from autoscaler.targets import Target
from metrics.samples import NoData
from scheduler.demand import Demand
from scheduler.planner.admission import Constraints


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """What one replica, a single pod, asks of a node. ``priority``: of the pod."""

    demand: Demand
    constraints: Constraints
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One workload's question.

    Of its replicas ``placed`` have a node (or room is held for them) and ``waiting`` do not; ``refused`` of
    the waiting were refused by the scheduler for too long. ``wanted`` would be asked for now, were there
    room, and ``eventually`` once steps and windows allow it. ``missed``: share of requests that miss the
    objective over the share that may, 0 without an objective.
    """

    target: Target
    shape: ReplicaShape | NoData
    placed: int
    waiting: int
    wanted: int
    refused: int = 0
    missed: float = 0.0
    eventually: int = 0

    @property
    def lack(self) -> float:
        """Share 0..1 of the wanted replicas that have no node."""
        return max(0, self.wanted - self.placed) / max(1, self.wanted)


class Room(Protocol):
    """The free room of one moment. What is taken is gone for whoever asks next."""

    def take(self, shape: ReplicaShape, most: int) -> int:
        """Take room for up to ``most`` copies; return how many found a node."""
        ...


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """Replicas that are wanted and find no room: what new nodes would have to offer.

    ``replicas`` copies of ``demand``, which may use nodes that ``constraints`` admit.
    """

    target: Target
    replicas: int
    demand: Demand
    constraints: Constraints


Answers = dict[Target, int | NoData]


@dataclass(frozen=True, slots=True)
class Placed:
    """The answers of one round, and what new nodes would be good for."""

    answers: Answers
    requests: tuple[NodeRequest, ...] = ()


NOTHING_ASKED: Final = Placed({})


def in_turn(asks: Iterable[Ask]) -> list[Ask]:
    """Return the asks in the order in which they are given room."""
    return sorted(asks, key=_turn)


def hand_out(asks: Sequence[Ask], room: Room) -> Placed:
    """Answer every ask: how many replicas it may have, none counted twice."""
    turns = in_turn(asks)
    found = {ask.target: _given(ask, room, ask.waiting) for ask in turns}
    answers: Answers = {}
    for ask in turns:
        if isinstance(ask.shape, NoData):
            answers[ask.target] = ask.shape
            continue
        kept = found[ask.target]
        if ask.refused and kept > ask.waiting - ask.refused:
            seeming = kept - (ask.waiting - ask.refused)
            answers[ask.target] = NoData(
                f"the scheduler refuses {ask.refused} replicas, though {seeming} of them seem to have room"
            )
            continue
        more = ask.wanted - ask.placed - ask.waiting
        # Where those that wait find no room, more of the same find none either.
        given = _given(ask, room, more) if kept == ask.waiting else 0
        answers[ask.target] = ask.placed + kept + given
    lacking = [(ask, _lacking(ask, answers[ask.target], room)) for ask in turns]
    requests = tuple(
        NodeRequest(ask.target, replicas, ask.shape.demand, ask.shape.constraints)
        for ask, replicas in lacking
        if replicas and isinstance(ask.shape, ReplicaShape)
    )
    return Placed(answers, requests)


def _lacking(ask: Ask, placeable: int | NoData, room: Room) -> int:
    """How many of all the replicas that are wanted find no room."""
    if isinstance(placeable, NoData):
        return 0
    more = max(ask.wanted, ask.eventually) - placeable
    return more if placeable < ask.wanted else more - _given(ask, room, more)


def _given(ask: Ask, room: Room, copies: int) -> int:
    if copies <= 0 or isinstance(ask.shape, NoData):
        return 0
    return room.take(ask.shape, copies)


def _turn(ask: Ask) -> tuple[int, float, float, str]:
    priority = 0 if isinstance(ask.shape, NoData) else ask.shape.priority
    return -priority, -ask.missed, -ask.lack, str(ask.target)
