"""One plan in the solver process, and what the planner does meanwhile and afterwards.

``begin`` reads the fleet, then plans the batch by price and holds that room: it is the answer if no better
one comes, and nobody else can take the room while the solver works. ``settle`` tries the solver's nodes one
by one against the fleet as it is then; the plan that places more by priority stands, the other's room is
given back. Pods that went away meanwhile are left out, a gang that lost a member entirely.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from scheduler.packing.plan_problem import PlanAnswer
from scheduler.planner.batch import Batch
from scheduler.planner.plan import Chooser, Plan, adopt, plan_batch
from scheduler.planner.problem import Snapshot
from scheduler.planner.queue import WaitingPod
from scheduler.planner.solver_client import Solver

log = logging.getLogger(__name__)

# After its deadline the solver may need this much to hand over; then the plan by price is used.
_HANDOVER_SECONDS = 1.0


class SnapshotChooser(Chooser, Protocol):
    """A chooser that can also state the problem."""

    def snapshot(self, batch: Batch) -> Snapshot:
        """The batch and the fleet as a problem; gives back what the pods held."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """A plan that has come to its end: what was asked, the plan by price, and the nodes the solver chose
    (None: none better).
    """

    batch: Batch
    by_price: Plan
    nodes: Mapping[str, str] | None


@dataclass(slots=True)
class _Pending:
    number: int
    batch: Batch
    by_price: Plan
    made: Snapshot
    until: float


class Solving:
    """At most one plan under way. All methods but the solver's callback run in the planner's thread."""

    def __init__(
        self,
        solver: Solver,
        chooser: SnapshotChooser,
        solved: Callable[[PlanAnswer | None], None] = lambda answer: None,
    ) -> None:
        """``solved`` is told every answer (None: none came)."""
        self._solver, self._source, self._solved = solver, chooser, solved
        self._pending: _Pending | None = None
        self._lock = threading.Lock()
        self._answers: dict[int, PlanAnswer | None] = {}
        self._number = 0
        self._wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        """``wake`` is called, from another thread, when an answer is there."""
        self._wake = wake

    def stop(self) -> None:
        """End the solver."""
        self._solver.stop()

    def busy(self) -> frozenset[str]:
        """The pods whose plan is under way."""
        return frozenset() if self._pending is None else frozenset(p.uid for p in self._pending.batch.pods)

    def begin(self, batch: Batch, chooser: Chooser, seconds: float, now: float, hold_seconds: float) -> bool:
        """Submit a batch; False where the solver cannot take it (then nothing is held)."""
        if self._pending is not None:
            return False
        try:
            made = self._source.snapshot(batch)
        except Exception:
            log.exception("planner: could not state the problem; the plan by price is used")
            return False
        self._number += 1
        number = self._number

        def done(answer: PlanAnswer | None) -> None:
            with self._lock:
                self._answers[number] = answer
            self._wake()

        if not self._solver.submit(made.problem, seconds, done):
            return False
        until = now + seconds + _HANDOVER_SECONDS
        by_price = plan_batch(batch, chooser, seconds + _HANDOVER_SECONDS + hold_seconds)
        self._pending = _Pending(number, batch, by_price, made, until)
        return True

    def result(self, now: float) -> Result | None:
        """The plan under way, once it was answered or its time is up."""
        pending = self._pending
        if pending is None:
            return None
        with self._lock:
            answered = pending.number in self._answers
            answer = self._answers.pop(pending.number, None)
        if not answered and now < pending.until:
            return None
        with self._lock:
            self._answers.clear()
        self._pending = None
        self._solved(answer)
        nodes = None
        if answer is not None and answer.status != "greedy":
            nodes = dict(pending.made.nodes_of(answer.placing))
        return Result(pending.batch, pending.by_price, nodes)

    def settle(
        self, result: Result, here: Mapping[str, WaitingPod], chooser: Chooser, hold_seconds: float
    ) -> Plan:
        """The better plan, its room held."""
        batch = _still_here(result.batch, here)
        kept = {pod.uid for pod in batch.pods}
        for pod in result.batch.pods:
            chooser.release(pod.uid)
        by_price = {
            one.waiting.uid: one.node for one in result.by_price.nominations if one.waiting.uid in kept
        }
        if result.nodes is not None:
            solved = adopt(batch, result.nodes, chooser, hold_seconds)
            placed = {one.waiting.uid for one in solved.nominations}
            if solved.placed() >= _among(result.by_price, kept) and batch.first <= placed:
                return solved
            for pod in batch.pods:
                chooser.release(pod.uid)
        return adopt(batch, by_price, chooser, hold_seconds)

    def give_up(self, chooser: Chooser) -> None:
        """Drop the plan under way: somebody else leads."""
        pending, self._pending = self._pending, None
        if pending is not None:
            for pod in pending.batch.pods:
                chooser.release(pod.uid)


def _still_here(batch: Batch, here: Mapping[str, WaitingPod]) -> Batch:
    return Batch(
        tuple(here[pod.uid] for pod in batch.singles if pod.uid in here),
        tuple(gang for gang in batch.gangs if all(pod.uid in here for pod in gang.pods)),
        first=batch.first & here.keys(),
    )


def _among(plan: Plan, kept: set[str]) -> tuple[tuple[int, int], ...]:
    return Plan(
        tuple(one for one in plan.nominations if one.waiting.uid in kept),
        tuple(one for one in plan.unplaced if one.waiting.uid in kept),
    ).placed()
