"""Choose a node for each waiting pod by price, over all nodes at once.

One pass in queue order: each pod takes the cheapest feasible node, and the room it will take is held before
the next one is looked at, so a burst packs as tightly as pods that come one by one. This is the thin,
price-only plan (design §1a): a lookup over columns a pod. It never takes room back and evicts nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cluster.wire import Pod
from scheduler.planner.queue import WaitingPod


@dataclass(frozen=True, slots=True)
class Chosen:
    """The node a pod should run on and what that costs (money per hour)."""

    node: str
    price: float


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No node can take the pod now; ``reason`` is for people."""

    reason: str


class Chooser(Protocol):
    """Prices all nodes for one pod and holds the room on the one it answers."""

    def choose(self, pod: Pod, hold_seconds: float) -> Chosen | Nowhere:
        """Answer the cheapest feasible node, its room held for so long."""
        ...


@dataclass(frozen=True, slots=True)
class Nomination:
    """One pod and the node planned for it."""

    waiting: WaitingPod
    node: str
    price: float


@dataclass(frozen=True, slots=True)
class Unplaced:
    """One pod that no node can take, with the reason."""

    waiting: WaitingPod
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one round of planning decided."""

    nominations: tuple[Nomination, ...]
    unplaced: tuple[Unplaced, ...]


def plan(waiting: Iterable[WaitingPod], chooser: Chooser, hold_seconds: float) -> Plan:
    """Plan the pods in the order given."""
    nominations: list[Nomination] = []
    unplaced: list[Unplaced] = []
    for pod in waiting:
        answer = chooser.choose(pod.pod, hold_seconds)
        if isinstance(answer, Chosen):
            nominations.append(Nomination(pod, answer.node, answer.price))
        else:
            unplaced.append(Unplaced(pod, answer.reason))
    return Plan(tuple(nominations), tuple(unplaced))
