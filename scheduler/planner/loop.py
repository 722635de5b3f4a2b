"""The planner's thread: pods in by watch, plans out as nominations.

It gathers arrivals for a short window (``planner.batchMilliseconds``), plans what is due, writes the
nominations and goes back to sleep until a pod arrives, capacity is freed or a pause ends. It works only
while ``active()`` says so (one leader writes). If the plan cannot be made or written, the pods go the
webhook road: nothing here can hold one. Gangs are the exception that makes them gangs: see ``gangs``.

A few pods are planned by price, at once. Gangs, large batches and batches of which the prices alone leave
somebody waiting go to the solver process (``solving``), the room of the plan by price held meanwhile; a small
batch that comes in between is planned by price beside it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from cluster.policy import Planner as PlannerPolicy
from cluster.wire import Pod
from scheduler.planner.batch import Batch, collect
from scheduler.planner.follow import Fate, Follow
from scheduler.planner.gangs import CONFIRM_SECONDS, GangBook, is_kept_whole
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.order import UrgencyOrder
from scheduler.planner.plan import Chooser, Plan, Unplaced, plan_batch
from scheduler.planner.queue import UNGATED_GRACE_SECONDS, PlanQueue, WaitingPod, as_waiting
from scheduler.planner.solving import Solving

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
# A nomination that the watch has not shown by then was lost; its room must not stay held.
HOLD_SECONDS = 10.0
LARGEST_BATCH = 500
# While the solver is at it, what came meanwhile is looked at so often; its answer wakes the planner at once.
SOLVING_SECONDS = 0.1
# A planner that ended half-way through a release left pods nominated behind their gate.
STUCK_SECONDS = 3.0
# From then on a nomination that nobody acted on is looked at: does its node still have the room?
STALE_SECONDS = 10.0
# Pricing a pod without itself costs a millisecond: with thousands nominated they take turns.
LOOKS_AT_ONCE = 20


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
        solving: Solving | None = None,
        group_size: Callable[[str, str], int | None] = lambda namespace, name: None,
        still_holds: Callable[[Pod, str, bool], bool] = lambda pod, node, look_at_room: True,
        urgency: UrgencyOrder | None = None,
    ) -> None:
        """``solving`` None: everything is planned by price. ``group_size``: see ``gangs.GangBook``.
        ``still_holds(pod, node, look_at_room)``: whether a nomination still makes sense. ``urgency``: who
        goes first where the policy's ``order`` says so; None: by arrival.
        """
        self._urgency = urgency
        self._queue = PlanQueue(asks_for_gpus, scheduler_names, ungated_grace_seconds)
        self._book = GangBook(asks_for_gpus, group_size)
        self._follow = Follow()
        self._chooser = chooser
        self._nominator = nominator
        self._policy = policy
        self._active = active
        self._observer = observer
        self._clock = clock
        self._solving = solving
        self._still_holds = still_holds
        self._wake = threading.Condition()
        self._stopping = False
        self._arrived = False
        self._naps_until = 0.0
        self._nodes_moved = False
        self._look_at = 0.0
        self._looked = 0
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if self._solving is not None:
            self._solving.start(self._answered)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the round under way is finished first."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        if self._solving is not None:
            self._solving.stop()
        self._nominator.close()

    def waiting(self) -> int:
        """How many pods wait for a plan."""
        with self._wake:
            return len(self._queue)

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods (reflector handler)."""
        with self._wake:
            now = self._clock()
            fates = [fate for item in items if (fate := self._follow.observe(item)) is not None]
            fates += ["expired"] * self._follow.keep({item.metadata.uid for item in items})
            self._queue.replace_all(list(items), now)
            self._book.replace_all(items, now)
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
                self._book.forget(item.metadata.uid, succeeded=item.status.phase == "Succeeded")
                arrived = bool(item.spec.node_name)
                if arrived:
                    self._queue.capacity_freed()
            else:
                fate = self._follow.observe(item)
                arrived = self._queue.observe(item, self._clock())
                self._book.observe(item, self._clock())
            if arrived:
                self._arrived = True
                self._wake.notify_all()
            elif self._queue.due_at(item.metadata.uid) < self._naps_until:
                # The nap is measured anew, for this pod ends it sooner.
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

    def nodes_changed(self) -> None:
        """A node went away or no longer takes pods: nominations for it are looked at in the next round."""
        with self._wake:
            self._nodes_moved = True
            if len(self._follow):
                self._arrived = True
                self._wake.notify_all()

    def round(self) -> Plan | None:
        """Plan and nominate what is due now; None when nothing was. Called by the thread, and by tests."""
        policy = self._policy()
        if not (policy.enabled and self._active()):
            if self._solving is not None:
                self._solving.give_up(self._chooser)
            return None
        started = self._clock()
        self._mend(started)
        made = self._plan(policy, started)
        with self._wake:
            overdue = [
                pod
                for pod in self._queue.overdue_gates(started, policy.gate_timeout_seconds)
                if not is_kept_whole(pod.pod)
            ]
        if made is None and not overdue:
            return None
        made = made or Plan((), ())
        with self._wake:
            # Before they are written: the watch may show the binding before the patch has answered.
            for nomination in made.nominations:
                self._follow.nominated(nomination.waiting, nomination.node, started)
        outcomes = self._nominator.carry_out(made.nominations)
        with self._wake:
            for nomination, outcome in zip(made.nominations, outcomes, strict=True):
                if outcome is not Outcome.DONE:
                    self._follow.gone(nomination.waiting.uid)
                if outcome is Outcome.WITHDRAWN:
                    self._chooser.release(nomination.waiting.uid)
        planned = {nomination.waiting.uid for nomination in made.nominations}
        late = [pod for pod in overdue if pod.uid not in planned]
        if late:
            self._nominator.ungate(late)
            self._observer.gates_timed_out(late)
        self._observer.planned(made, outcomes, self._clock() - started)
        return made

    def _plan(self, policy: PlannerPolicy, now: float) -> Plan | None:
        """The plan to carry out now: the solver's answer if one came, else one by price; None when there is
        nothing to do or the solver is at it.
        """
        solving = self._solving
        if solving is not None and (found := solving.result(now)) is not None:
            with self._wake:
                here = self._queue.waiting()
            return solving.settle(found, here, self._chooser, HOLD_SECONDS)
        with self._wake:
            busy = solving.busy() if solving is not None else frozenset()
            batch = collect(self._queue, self._book, now, LARGEST_BATCH, busy)
            large = bool(batch.gangs) or len(batch.singles) >= policy.solver.min_pods
            if large and busy:
                # Two large plans at once would count on the same room; small ones are no reason to wait.
                batch = Batch(incomplete=batch.incomplete)
            for pod in (*batch.pods, *(pod for pod, _ in batch.incomplete)):
                self._queue.tried(pod.uid, now)
        told = tuple(Unplaced(pod, reason) for pod, reason in batch.incomplete)
        if not batch.pods:
            return Plan((), told) if told else None
        turns = self._in_turn(policy, batch)
        if turns is not None:
            made, batch = turns
            if not batch.pods:
                return Plan(made.nominations, (*made.unplaced, *told))
        if large and self._begin(policy, batch, now):
            return Plan((), told) if told else None
        made = plan_batch(batch, self._chooser, HOLD_SECONDS)
        if made.unplaced and len(batch.pods) > 1 and not large and self._begin(policy, batch, now):
            return Plan((), told) if told else None
        return Plan(made.nominations, (*made.unplaced, *told))

    def _in_turn(self, policy: PlannerPolicy, batch: Batch) -> tuple[Plan, Batch] | None:
        """The plan by price in order of urgency, and the batch that is left for the other ways to a plan;
        None where urgency has nothing to say.

        Where MIG pods must wait, the solver may say where those whose turn it is go, not who waits: left to
        count pods, it would serve the small ones first. With nobody else in the batch the plan stands.
        """
        urgency = self._urgency
        if urgency is None or policy.order != "urgency":
            return None
        turning = [pod for pod in batch.singles if urgency.decides(pod)]
        if not turning:
            return None
        with self._wake:
            everyone = tuple(self._queue.waiting().values())
        made = plan_batch(batch, self._chooser, HOLD_SECONDS, lambda pods: urgency.arrange(pods, everyone))
        left = {missing.waiting.uid for missing in made.unplaced}
        contested = any(pod.uid in left for pod in turning)
        if contested and len(turning) == len(batch.pods):
            return made, Batch()
        # By the turn they had: planned again in this order, the same pods find the same room.
        singles = tuple(one.waiting for one in made.nominations if not one.gang)
        alone = {pod.uid for pod in batch.singles}
        singles += tuple(missing.waiting for missing in made.unplaced if missing.waiting.uid in alone)
        first = frozenset(one.waiting.uid for one in made.nominations) if contested else frozenset()
        return made, replace(batch, singles=singles, first=first)

    def _begin(self, policy: PlannerPolicy, batch: Batch, now: float) -> bool:
        """Hand a batch to the solver, if there is one and it is free."""
        if self._solving is None or not policy.solver.enabled:
            return False
        return self._solving.begin(batch, self._chooser, policy.solver.deadline_seconds, now, HOLD_SECONDS)

    def _mend(self, now: float) -> None:
        """Release gangs that are confirmed, finish what was left half-way, take back what makes no sense."""
        with self._wake:
            nominated = self._book.nominated(now)
            ungate = self._book.left_gated(now, STUCK_SECONDS)
            followed = self._follow.followed() if self._nodes_moved or now >= self._look_at else []
            if followed:
                self._nodes_moved, self._look_at = False, now + IDLE_SECONDS
        held = {pod.metadata.uid for gang in nominated for pod in gang.pods}
        back = self._stale([one for one in followed if one[0].uid not in held], now)
        for gang in nominated:
            if gang.begun:
                ungate += gang.pods
            elif gang.complete and gang.seconds >= CONFIRM_SECONDS:
                if all(self._still_holds(pod, pod.status.nominated_node_name, True) for pod in gang.pods):
                    ungate += gang.pods
                else:
                    back += [as_waiting(pod, now) for pod in gang.pods]
            elif gang.seconds >= STUCK_SECONDS:
                back += [as_waiting(pod, now) for pod in gang.pods]
        if ungate:
            self._nominator.ungate([as_waiting(pod, now) for pod in ungate])
        if back:
            self._withdraw(back)

    def _stale(self, followed: list[tuple[WaitingPod, str, float]], now: float) -> list[WaitingPod]:
        """Nominations whose node is gone or closed to the pod, or, of some old ones in turn, has no room."""
        old = [index for index, (_, _, since) in enumerate(followed) if now - since >= STALE_SECONDS]
        start = self._looked % len(old) if old else 0
        turn = set((old[start:] + old[:start])[:LOOKS_AT_ONCE])
        self._looked += LOOKS_AT_ONCE
        return [
            waiting
            for index, (waiting, node, _) in enumerate(followed)
            if not self._still_holds(waiting.pod, node, index in turn)
        ]

    def _withdraw(self, back: list[WaitingPod]) -> None:
        log.info("planner: %d nominations are taken back", len(back))
        for waiting, outcome in zip(back, self._nominator.withdraw(back), strict=True):
            if outcome is Outcome.DONE:
                self._chooser.release(waiting.uid)
                with self._wake:
                    self._follow.gone(waiting.uid)
                self._observer.settled("withdrawn")

    def _answered(self) -> None:
        with self._wake:
            self._arrived = True
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._arrived or self._stopping):
                    nap = self._nap()
                    self._naps_until = self._clock() + nap
                    if not self._wake.wait(nap):
                        break
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
        if self._book.nominated(self._clock()):
            return CONFIRM_SECONDS / 4
        if self._solving is not None and self._solving.busy():
            return SOLVING_SECONDS
        due = self._queue.next_due()
        return IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(0.01, due - self._clock()))
