"""Ask the live fleet how many replicas each workload can have: the shell around ``placeable``.

Asked once a round, for all workloads that want to grow or have replicas without a node. Pods are told apart
by the fleet's own view: a replica has a node when it is bound, nominated, or room is held for it. Nothing is
asked while nobody wants more than runs, so a quiet round costs nothing.

What could not be answered is ``NoData`` with its reason. Decides nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from autoscaler.free_room import Admitted, FreeRoom, Kept
from autoscaler.placeable import NOTHING_ASKED, Ask, Placed, hand_out
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.replica_shape import ReplicaShapes, looked_at
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from metrics.samples import NoData
from scheduler.service import Service

NOT_SYNCED = NoData("the fleet is not known yet", "outage")


@dataclass(frozen=True, slots=True)
class Wish:
    """A workload that would have ``wanted`` replicas now, were there room, and ``eventually`` once steps and
    windows allow it. ``missed``: share of requests that miss its objective over the share that may, 0
    without one.
    """

    sight: ScaleSight
    signals: Signals
    wanted: int
    missed: float = 0.0
    eventually: int = 0

    @property
    def grows(self) -> bool:
        """Whether the answer matters to this workload itself, and not only to the others."""
        return self.wanted > self.signals.current or self.signals.unschedulable > 0


class Placement(Protocol):
    """What the controller needs of ``FleetPlacement``."""

    def ask(self, wishes: Sequence[Wish], pool: Executor) -> Placed:
        """Answer every wish that grows; ``pool`` may be used for reading."""
        ...

    def forget(self, target: Target) -> None:
        """Drop what is kept of a workload that no policy names any more."""
        ...


class FleetPlacement:
    """Answers from the scheduler's packer on the live fleet."""

    def __init__(
        self,
        service: Service,
        admitted: Admitted,
        pods: PodIndex,
        shapes: ReplicaShapes,
        *,
        held: Callable[[Target], int] = lambda _target: 0,
    ) -> None:
        """``held``: placeholders of a workload that have a node; they give way to its replicas."""
        self._service, self._admitted, self._pods, self._shapes = service, admitted, pods, shapes
        self._held = held
        self._kept: Kept = {}

    def ask(self, wishes: Sequence[Wish], pool: Executor) -> Placed:
        """See ``Placement``."""
        if not any(wish.grows for wish in wishes):
            return NOTHING_ASKED
        if not self._service.synced():
            return Placed({wish.sight.target: NOT_SYNCED for wish in wishes if wish.grows})
        pods_of = looked_at([wish.sight for wish in wishes], self._pods, self._shapes, pool)
        decider = self._service.decider
        with decider.fleet.lock:
            asks = [self._ask(wish, pods) for wish, pods in zip(wishes, pods_of, strict=True)]
            placed = hand_out(asks, FreeRoom(decider, self._admitted, self._kept))
        # The others were asked only for the room that their replicas will take.
        grows = {wish.sight.target for wish in wishes if wish.grows}
        answers = {target: answer for target, answer in placed.answers.items() if target in grows}
        return Placed(answers, placed.requests)

    def forget(self, target: Target) -> None:
        """See ``Placement``."""
        self._shapes.forget(target)

    def _ask(self, wish: Wish, pods: Sequence[PodSight]) -> Ask:
        facts, target = self._service.fleet.facts, wish.sight.target
        placed = sum(facts.node_of_pod(pod.uid) is not None for pod in pods)
        # Replicas whose pods have not been made yet will look for a node as well.
        waiting = max(0, wish.signals.current - placed)
        return Ask(
            target,
            self._shapes.shape(target),
            placed=placed + self._held(target),
            waiting=waiting,
            wanted=max(wish.wanted, wish.signals.current),
            refused=min(waiting, wish.signals.unschedulable),
            missed=wish.missed,
            eventually=wish.eventually,
        )
