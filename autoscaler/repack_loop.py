"""The controller's descheduler: look, plan, hold the new places, evict, follow until everybody has a node.

Works only while this process leads. Modes (``repack.mode``): off; dry-run (plans, counts and logs, writes
nothing); on. A look counts what is still under way: its rooms are held, its pods are left alone, and there
are never more moves than ``maxConcurrent``. What to move is decided in ``scheduler.repack`` (pure); an error
here ends one look, never the process.

Order of one relief: the waiting pod is nominated and told where room is made (kube-scheduler drops a
nomination with every failed attempt; the note stays, and every extender prices that node full for others
meanwhile), the places of the successors are reserved, the Eviction API is asked about all pods of the wave
with a dry run, and only when none is refused are they evicted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from autoscaler.evicting import Hands, Verdict
from cluster.api_errors import ApiError
from cluster.periodic import Periodic
from cluster.policy import ClusterPolicy
from scheduler.decider import Decider
from scheduler.repack.census import Census
from scheduler.repack.pace import Pace
from scheduler.repack.plan import plan
from scheduler.repack.read import SceneReader
from scheduler.repack.rules import ALLOW
from scheduler.repack.scene import Limits, Move, Relief, RepackPlan, Waiter
from scheduler.repack.underway import Step, Underway, stand_in

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
HOLD_SECONDS = 30.0
MOST_TIED_LOOKS = 8
NOTICE_SECONDS = 0.1
NOTED_SECONDS = 2.0


class RepackObserver(Protocol):
    """What the repacker tells the outside; metrics and Events hang here."""

    def planned(self, made: RepackPlan, seconds: float, *, dry_run: bool) -> None:
        """A plan was made."""

    def evicted(self, move: Move, verdict: str, reason: str) -> None:
        """An eviction was tried."""

    def settled(self, move: Move, outcome: str) -> None:
        """A successor has its node, or has none in time."""

    def relieved(self, relief: Relief, outcome: str) -> None:
        """What became of a waiting pod that others were moved for."""


class RepackLoop(Periodic):
    """Owns the thread. ``round`` and ``follow`` are called by it, and by tests. Once it is stopped, nothing
    new is evicted.
    """

    def __init__(
        self,
        *,
        decider: Decider,
        census: Census,
        reader: SceneReader,
        hands: Hands,
        policy: Callable[[], ClusterPolicy],
        active: Callable[[], bool],
        observer: RepackObserver,
        read_only: bool = False,
        notice_seconds: float = NOTICE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``read_only``: never more than a dry run; ``notice_seconds``: between the note and the evictions.
        ``clock``: Unix seconds, the one that the decider's
        reservations run on.
        """
        super().__init__("repack", self.turn, STEP_SECONDS, if_failed="repack: a look failed; trying again")
        self._decider, self._census, self._reader = decider, census, reader
        self._hands, self._policy, self._active, self._observer = hands, policy, active, observer
        self._read_only, self._notice_seconds = read_only, notice_seconds
        self._clock = clock
        self._pace = Pace()
        self._underway = Underway()
        self._tied: dict[str, str] = {}
        self._looked_at = float("-inf")
        self._leftover = False
        self.latest: RepackPlan = RepackPlan()

    def turn(self) -> None:
        """Follow what is under way; look anew when that is due."""
        self.follow()
        policy, now = self._policy().repack, self._clock()
        if policy.mode == "off" or len(self._underway) >= policy.max_concurrent or not self._active():
            return
        again = self._leftover and self._underway.idle
        if again or now - self._looked_at >= policy.interval_seconds:
            self.round()

    def round(self) -> RepackPlan:
        """Make one plan and begin to carry it out, if the mode is on."""
        self._looked_at, self._leftover = self._clock(), False
        policy = self._policy()
        started = time.monotonic()
        dry_run = self._read_only or policy.repack.mode != "on"
        made = self._plan(policy)
        self.latest = made
        self._observer.planned(made, time.monotonic() - started, dry_run=dry_run)
        if not dry_run:
            self._forget_notes()
            self._carry_out(made, policy)
        return made

    def _forget_notes(self) -> None:
        """Take away notes that a leader before us left on pods that still wait."""
        for pod in self._census.residents():
            if pod.room_on and not (pod.node or pod.terminating or pod.uid in self._underway.waiters):
                self._hands.room_on(pod.namespace, pod.name, pod.uid, None)

    def follow(self) -> None:
        """One step of what is under way."""
        if self._underway.idle:
            return
        step = self._underway.step(self._clock(), self._census, self._policy().repack.settle_seconds)
        self._hold(step)
        for move, outcome in step.moves:
            self._observer.settled(move, outcome)
        ends = list(step.reliefs)
        for relief in step.overdue:
            if self._taken(relief):
                # A pod came before everybody knew: plan anew at once.
                self._underway.give_up(relief)
                self._hold(Step(releases=[relief.waiter.uid]))
                self._leftover = True
                ends.append((relief, "timed_out"))
        for relief, result in ends:
            if result == "timed_out":
                waiter = relief.waiter
                self._hands.nominate(waiter.namespace, waiter.name, waiter.uid, None)
                self._hands.room_on(waiter.namespace, waiter.name, waiter.uid, None)
            self._observer.relieved(relief, result)

    def _taken(self, relief: Relief) -> bool:
        """Whether the room that was made is not there for the waiting pod."""
        holding, waiter = self._reader.holding(relief.node), relief.waiter
        if holding is None:
            return True
        room = holding.room(frozenset({waiter.uid}))
        return holding.settle(room, waiter.demand, linked=waiter.linked) is None

    # --- planning -----------------------------------------------------------------------------------------

    def _plan(self, policy: ClusterPolicy) -> RepackPlan:
        """Plan, and plan again without the pods that turn out to be tied to their nodes."""
        now = self._clock()
        alive = {pod.uid for pod in self._census.residents()}
        self._pace.forget(alive)
        self._tied = {uid: reason for uid, reason in self._tied.items() if uid in alive}
        limits = Limits(
            evictions=self._pace.left(now, policy.repack.max_evictions_per_hour),
            concurrent=max(0, policy.repack.max_concurrent - len(self._underway)),
            horizon_hours=policy.repack.horizon_hours,
            preempt=policy.repack.preempt_claims,
        )
        made = RepackPlan()
        # Of this look only: the next one asks again.
        unseen: dict[str, str] = {}
        for _ in range(MOST_TIED_LOOKS):
            paused = {**self._pace.paused(now), **self._tied, **unseen}
            scene = self._reader.scene(
                policy,
                now,
                paused=paused,
                leave_out=self._underway.waiters,
                leaving=self._underway.leaving,
            )
            made = plan(scene, limits)
            tied = [move for move in made.moves if self._is_tied(move, unseen)]
            if not tied:
                return made
        return RepackPlan(unmet=made.unmet)

    def _is_tied(self, move: Move, unseen: dict[str, str]) -> bool:
        """Whether the pod's volumes may tie it to its node, or nobody can tell now; the reason is kept."""
        pod = self._census.get(move.pod.uid)
        if pod is None or pod.wish == ALLOW or not move.target:
            return False
        try:
            reason = self._hands.tied(pod.namespace, pod.name)
        except ApiError as problem:
            unseen[pod.uid] = f"could not be looked at: {problem}"
            return True
        if reason is not None:
            self._tied[pod.uid] = reason
        return reason is not None

    # --- carrying out -------------------------------------------------------------------------------------

    def _carry_out(self, made: RepackPlan, policy: ClusterPolicy) -> None:
        room = policy.repack.max_concurrent - len(self._underway)
        for relief in made.reliefs:
            first = [move for move in relief.moves if move.wave == 0]
            self._leftover |= len(first) < len(relief.moves)
            if len(first) > room:
                self._leftover = True
            elif self._start(first, relief):
                room -= len(first)
        for move in made.savings:
            if room < 1:
                break
            if self._start([move], None):
                room -= 1

    def _start(self, moves: Sequence[Move], relief: Relief | None) -> bool:
        """Begin some moves together; True when they are under way."""
        if self._stopping.is_set() or not self._active():
            return False
        if not all(self._still_there(move) for move in moves):
            self._leftover = True
            return False
        for move in moves:
            answer = self._evict(move, dry_run=True)
            if answer is not Verdict.EVICTED:
                return False
        chain = relief is not None and len(moves) < len(relief.moves)
        if relief is not None and not chain:
            waiter = relief.waiter
            told = (waiter.namespace, waiter.name, waiter.uid, relief.node)
            problem = self._hands.room_on(*told) or self._hands.nominate(*told)
            if problem:
                log.info("repack: %s is not there to be helped any more: %s", waiter.full_name, problem)
                self._hands.room_on(*told[:3], None)
                return False
            self._until_noted(waiter, relief.node)
        step = Step(holds=[(stand_in(move), move, move.target) for move in moves if move.target])
        if relief is not None and not chain:
            step.holds.append((relief.waiter.uid, relief.waiter, relief.node))
        self._hold(step)
        sent = 0
        for move in moves:
            if self._evict(move, dry_run=False) is Verdict.EVICTED:
                sent += 1
            else:
                self._hold(Step(releases=[stand_in(move)]))
        if relief is not None and sent:
            self._underway.helping(relief, self._clock())
        elif relief is not None and not chain:
            self._hold(Step(releases=[relief.waiter.uid]))
            self._hands.room_on(relief.waiter.namespace, relief.waiter.name, relief.waiter.uid, None)
        return sent > 0

    def _until_noted(self, waiter: Waiter, node: str) -> None:
        """Wait until our own watch shows the note, and a moment more: the extenders know it by then."""
        for _ in range(int(NOTED_SECONDS / NOTICE_SECONDS)):
            pod = self._census.get(waiter.uid)
            if pod is None or pod.room_on == node or self._stopping.is_set():
                break
            self._stopping.wait(NOTICE_SECONDS)
        self._stopping.wait(self._notice_seconds)

    def _still_there(self, move: Move) -> bool:
        """The pod runs where it did, its new place is still free, and its workload can spare it there."""
        pod = self._census.get(move.pod.uid)
        if pod is None or pod.terminating or pod.node != move.source:
            return False
        if not self._reader.keeps_floor(pod, move.target, self._underway.leaving):
            return False
        if not move.target:
            return True
        holding = self._reader.holding(move.target)
        free = self._census.free().get(move.target)
        return (
            holding is not None
            and free is not None
            and free.covers(pod.resources)
            and holding.settle(holding.room(), move.pod.demand, linked=move.pod.linked) is not None
        )

    def _evict(self, move: Move, *, dry_run: bool) -> Verdict:
        pod, now = move.pod, self._clock()
        if not dry_run:
            # Before it is sent: the successor may be there before the answer is.
            self._underway.evicted(move, now, self._census)
        answer = self._hands.evict(pod.namespace, pod.name, pod.uid, dry_run=dry_run)
        if answer.verdict is Verdict.EVICTED:
            if not dry_run:
                self._pace.evicted(now)
                self._observer.evicted(move, answer.verdict, "")
            return answer.verdict
        if not dry_run:
            self._underway.forget(move)
        if answer.verdict is not Verdict.GONE:
            self._pace.refused(pod.uid, now, f"eviction refused: {answer.reason}", answer.retry_after_seconds)
        self._observer.evicted(move, answer.verdict, answer.reason)
        return answer.verdict

    def _hold(self, step: Step) -> None:
        """Reserve rooms, give others back, write nominations."""
        fleet = self._decider.fleet
        with fleet.lock:
            for uid in step.releases:
                fleet.release(uid)
            until = self._clock() + HOLD_SECONDS
            for uid, what, node in step.holds:
                row = fleet.rows.get(node)
                if row is not None:
                    demand = what.demand if isinstance(what, Waiter) else what.pod.demand
                    fleet.reserve(uid, row, demand, until)
        for one in step.nominations:
            problem = self._hands.nominate(one.pod.namespace, one.pod.name, one.pod.uid, one.node)
            if problem:
                log.info("repack: %s goes its own way: %s", one.pod.full_name, problem)
