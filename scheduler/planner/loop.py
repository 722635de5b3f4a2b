"""The planner's thread: pods in by watch, plans out as nominations.

It gathers arrivals for a short window (``planner.batchMilliseconds``), plans what is due, writes the
nominations and goes back to sleep until a pod arrives, capacity is freed or a pause ends. It works only
while ``active()`` says so (one leader writes). If the plan cannot be made or written, the pods go the
webhook road: nothing here can hold one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.policy import Planner as PlannerPolicy
from cluster.wire import Pod
from scheduler.planner.follow import Fate, Follow
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.plan import Chooser, Plan, plan
from scheduler.planner.queue import UNGATED_GRACE_SECONDS, PlanQueue, WaitingPod

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
# A nomination that the watch has not shown by then was lost; its room must not stay held.
HOLD_SECONDS = 10.0
LARGEST_BATCH = 500


class PlannerObserver(Protocol):
    """What the planner tells the outside; metrics and Events hang here."""

    def planned(self, made: Plan, outcomes: Sequence[Outcome], seconds: float) -> None:
        """One round was carried out; ``outcomes`` are in the order of ``made.nominations``."""
        ...

    def gates_timed_out(self, pods: Sequence[WaitingPod]) -> None:
        """These pods lost their gate without a plan."""
        ...

    def settled(self, fate: Fate) -> None:
        """The watch showed what became of one nomination."""
        ...


class PlannerLoop:
    """Owns the queue and the thread; takes pods in as a reflector's handler (``replaced``, ``changed``)."""

    def __init__(
        self,
        *,
        asks_for_gpus: Callable[[Pod], bool],
        chooser: Chooser,
        nominator: Nominator,
        policy: Callable[[], PlannerPolicy],
        active: Callable[[], bool],
        observer: PlannerObserver,
        scheduler_names: frozenset[str] = frozenset({"default-scheduler"}),
        ungated_grace_seconds: float = UNGATED_GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = PlanQueue(asks_for_gpus, scheduler_names, ungated_grace_seconds)
        self._follow = Follow()
        self._chooser = chooser
        self._nominator = nominator
        self._policy = policy
        self._active = active
        self._observer = observer
        self._clock = clock
        self._wake = threading.Condition()
        self._stopping = False
        self._arrived = False
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the round under way is finished first."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._nominator.close()

    def waiting(self) -> int:
        """How many pods wait for a plan."""
        with self._wake:
            return len(self._queue)

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods (reflector handler)."""
        with self._wake:
            fates = [fate for item in items if (fate := self._follow.observe(item)) is not None]
            fates += ["expired"] * self._follow.keep({item.metadata.uid for item in items})
            self._queue.replace_all(list(items), self._clock())
            self._arrived = True
            self._wake.notify_all()
        for fate in fates:
            self._observer.settled(fate)

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event (reflector handler)."""
        with self._wake:
            if kind == "DELETED":
                fate = self._follow.gone(item.metadata.uid)
                self._queue.forget(item.metadata.uid)
                arrived = bool(item.spec.node_name)
                if arrived:
                    self._queue.capacity_freed()
            else:
                fate = self._follow.observe(item)
                arrived = self._queue.observe(item, self._clock())
            if arrived:
                self._arrived = True
                self._wake.notify_all()
        if fate is not None:
            self._observer.settled(fate)

    def room_changed(self) -> None:
        """Room was given back somewhere (a claim was freed, a node came): try everyone again at once."""
        with self._wake:
            if len(self._queue):
                self._queue.capacity_freed()
                self._arrived = True
                self._wake.notify_all()

    def round(self) -> Plan | None:
        """Plan and nominate what is due now; None when nothing was. Called by the thread, and by tests."""
        policy = self._policy()
        if not (policy.enabled and self._active()):
            return None
        started = self._clock()
        with self._wake:
            due = self._queue.due(started, LARGEST_BATCH)
            for pod in due:
                self._queue.tried(pod.uid, started)
            overdue = self._queue.overdue_gates(started, policy.gate_timeout_seconds)
        if not due and not overdue:
            return None
        made = plan(due, self._chooser, HOLD_SECONDS)
        with self._wake:
            # Before they are written: the watch may show the binding before the patch has answered.
            for nomination in made.nominations:
                self._follow.nominated(nomination.waiting.uid, nomination.node)
        outcomes = self._nominator.carry_out(made.nominations)
        with self._wake:
            for nomination, outcome in zip(made.nominations, outcomes, strict=True):
                if outcome is not Outcome.DONE:
                    self._follow.gone(nomination.waiting.uid)
        planned = {nomination.waiting.uid for nomination in made.nominations}
        late = [pod for pod in overdue if pod.uid not in planned]
        if late:
            self._nominator.ungate(late)
            self._observer.gates_timed_out(late)
        self._observer.planned(made, outcomes, self._clock() - started)
        return made

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._arrived and not self._stopping:
                    self._wake.wait(self._nap())
                if self._stopping:
                    return
                arrived, self._arrived = self._arrived, False
                if arrived and not self._stopping:
                    # Let the rest of a burst come in: planned together they pack better.
                    self._wake.wait_for(lambda: self._stopping, self._policy().batch_milliseconds / 1000)
            try:
                self.round()
            except Exception:
                # The pods are not lost: the scheduler serves them by the webhook road meanwhile.
                log.exception("planner: a round failed; its pods are left to the webhook road")

    def _nap(self) -> float:
        due = self._queue.next_due()
        return IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(0.01, due - self._clock()))
