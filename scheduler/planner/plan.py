"""Choose a node for each waiting pod by price, over all nodes at once.

One pass by priority, at equal priority gangs first, then single pods in the order given: each pod takes the
cheapest feasible node, and the room it will take is held before the next one is looked at, so a burst packs
as tightly as pods that come one by one. A gang takes all its room or gives all of it back. This is the thin,
price-only plan (design §1a): a lookup over columns a pod; it evicts nobody. ``adopt`` does the same with
nodes that a solver chose: whatever no longer holds when it comes to it is planned by price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.wire import Pod
from scheduler.planner.batch import Batch
from scheduler.planner.gangs import GangUnit
from scheduler.planner.queue import WaitingPod

Ordering = Callable[[Sequence[WaitingPod]], Iterable[WaitingPod]]
"""Single pods of one priority, by arrival → the same in the order to plan them. Each is planned before the
next one is asked for.
"""


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

    def hold(self, pod: Pod, node: str, hold_seconds: float) -> Chosen | Nowhere:
        """Hold room for the pod on this node, if it may run there."""
        ...

    def release(self, uid: str) -> None:
        """Give back what is held for a pod."""
        ...


@dataclass(frozen=True, slots=True)
class Nomination:
    """One pod and the node planned for it; ``gang``: the name of the gang it is released with, "" for
    none.
    """

    waiting: WaitingPod
    node: str
    price: float
    gang: str = ""


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

    def placed(self) -> tuple[tuple[int, int], ...]:
        """(priority, pods placed) from the highest priority down: tuples of plans for the same pods compare
        lexicographically.
        """
        counts: dict[int, int] = {}
        for one in self.nominations:
            counts[one.waiting.priority] = counts.get(one.waiting.priority, 0) + 1
        for missing in self.unplaced:
            counts.setdefault(missing.waiting.priority, 0)
        return tuple(sorted(counts.items(), reverse=True))


def plan(waiting: Iterable[WaitingPod], chooser: Chooser, hold_seconds: float) -> Plan:
    """Plan single pods in the order given."""
    made = _Making(chooser, hold_seconds)
    for pod in waiting:
        made.single(pod)
    return made.plan()


def plan_batch(
    batch: Batch, chooser: Chooser, hold_seconds: float, order: Ordering = lambda pods: pods
) -> Plan:
    """Plan singles and gangs by price."""
    return adopt(batch, {}, chooser, hold_seconds, order)


def adopt(
    batch: Batch,
    nodes: Mapping[str, str],
    chooser: Chooser,
    hold_seconds: float,
    order: Ordering = lambda pods: pods,
) -> Plan:
    """Plan a batch with the nodes that are already known for it (UID → node); all of these first, so that
    nothing planned by price takes their room.
    """
    made = _Making(chooser, hold_seconds)
    late_gangs = [gang for gang in batch.gangs if not made.gang_on(gang, nodes)]
    late = [pod for pod in batch.singles if not (pod.uid in nodes and made.single_on(pod, nodes[pod.uid]))]
    levels = sorted({g.priority for g in late_gangs} | {pod.priority for pod in late}, reverse=True)
    for level in levels:
        for gang in late_gangs:
            if gang.priority == level:
                made.gang(gang)
        for pod in order([pod for pod in late if pod.priority == level]):
            made.single(pod)
    return made.plan()


class _Making:
    """A plan in the making; what it holds, the chooser knows."""

    def __init__(self, chooser: Chooser, hold_seconds: float) -> None:
        self._chooser, self._hold_seconds = chooser, hold_seconds
        self._nominations: list[Nomination] = []
        self._unplaced: list[Unplaced] = []

    def plan(self) -> Plan:
        return Plan(tuple(self._nominations), tuple(self._unplaced))

    def single(self, pod: WaitingPod) -> None:
        answer = self._chooser.choose(pod.pod, self._hold_seconds)
        if isinstance(answer, Chosen):
            self._nominations.append(Nomination(pod, answer.node, answer.price))
        else:
            self._unplaced.append(Unplaced(pod, answer.reason))

    def single_on(self, pod: WaitingPod, node: str) -> bool:
        answer = self._chooser.hold(pod.pod, node, self._hold_seconds)
        if isinstance(answer, Chosen):
            self._nominations.append(Nomination(pod, answer.node, answer.price))
        return isinstance(answer, Chosen)

    def gang(self, gang: GangUnit) -> None:
        answers: list[Chosen] = []
        for pod in gang.pods:
            answer = self._chooser.choose(pod.pod, self._hold_seconds)
            if not isinstance(answer, Chosen):
                self._give_back(gang)
                reason = f"gang {gang.key}: {len(answers)} of {len(gang.pods)} pods fit; {answer.reason}"
                self._unplaced += [Unplaced(member, reason) for member in gang.pods]
                return
            answers.append(answer)
        self._take(gang, answers)

    def gang_on(self, gang: GangUnit, nodes: Mapping[str, str]) -> bool:
        if any(pod.uid not in nodes for pod in gang.pods):
            return False
        answers: list[Chosen] = []
        for pod in gang.pods:
            answer = self._chooser.hold(pod.pod, nodes[pod.uid], self._hold_seconds)
            if not isinstance(answer, Chosen):
                self._give_back(gang)
                return False
            answers.append(answer)
        self._take(gang, answers)
        return True

    def _take(self, gang: GangUnit, answers: Sequence[Chosen]) -> None:
        self._nominations += [
            Nomination(pod, answer.node, answer.price, str(gang.key))
            for pod, answer in zip(gang.pods, answers, strict=True)
        ]

    def _give_back(self, gang: GangUnit) -> None:
        for pod in gang.pods:
            self._chooser.release(pod.uid)
