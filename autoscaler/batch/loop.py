"""Plans the held batch work again and again, and lets go of what is best begun now.

A turn: take a look at the grids, learn from Jobs that ended, plan (``schedule``), release, and note on the
others when they are to start and when they must go at the latest (for the guard in slicewise-scheduler,
which outlives this process). A plan follows each change of what is held or runs, at most every
``LEAST_PAUSE_SECONDS``, and comes every ``batch.periodSeconds`` without one. Works only while this process
leads.

Reads the clock and writes; decides nothing that is not in ``schedule``, ``items`` and ``outlook``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

import numpy as np

from autoscaler.batch.candidates import SLOT_SECONDS
from autoscaler.batch.capacity import pools_of, returned
from autoscaler.batch.curve import Curve
from autoscaler.batch.grid_forecast import GridForecast
from autoscaler.batch.items import Basis, DemandOf, Item, family_of, items_of, leaving_of, waiting_since
from autoscaler.batch.memory import BatchMemory, Learned
from autoscaler.batch.outlook import outlook, tariff
from autoscaler.batch.schedule import schedule
from autoscaler.batch.work import HeldJob, Plan, Pool, Start
from cluster.job_wire import Job
from cluster.patching import Patcher
from cluster.periodic import Periodic
from cluster.policy import ClusterPolicy
from cluster.times import unix_seconds
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from scheduler.fleet import Fleet
from scheduler.windows.read import window_of
from scheduler.windows.release import Outcome, note, release
from scheduler.windows.shelf import HeldObject, JobShelf, PodShelf

LOOK_EVERY_SECONDS: Final = 5.0
LEAST_PAUSE_SECONDS: Final = 5.0
_NOTED_APART_SECONDS: Final = 60.0
_MOST_ENDED: Final = 10_000
_SHOWN_WITHIN_SECONDS: Final = 30.0
"""A release that the watch has not shown after so long is tried again."""

Why = Literal["planned", "latest", "late", "crowded", "unreadable"]


class Grids(Protocol):
    """What is needed of ``metrics.carbon.board.CarbonBoard``."""

    def current(self) -> Mapping[str, Intensity]: ...

    def forecast(self, zone: str) -> tuple[Intensity, ...] | NoData: ...


@dataclass(frozen=True, slots=True)
class Released:
    """One object that was let go. ``saved_grams``: what its energy is expected to emit less than it would
    have at the first plan that held it.
    """

    held: HeldObject
    why: Why
    job: HeldJob
    saved_grams: float


class Observer(Protocol):
    """What the loop tells the outside; metrics and Events hang here."""

    def planned(self, plan: Plan, seconds: float) -> None:
        """A plan was made."""

    def released(self, one: Released, outcome: Outcome) -> None:
        """An object was let go, or that failed."""

    def ended(self, job: Job, late_seconds: float) -> None:
        """A Job with a window ended, so long after its deadline (0: in time)."""

    def forecast(self, zone: str, own: GridForecast | NoData) -> None:
        """The own forecast of a zone."""


@dataclass(frozen=True, slots=True)
class View:
    """The newest plan, for people."""

    at_seconds: float
    plan: Plan
    items: tuple[Item, ...]


class BatchLoop(Periodic):
    """Owns the thread; ``turn`` is called by it, and by tests."""

    def __init__(
        self,
        api: Patcher,
        fleet: Fleet,
        grids: Grids,
        memory: BatchMemory,
        *,
        policy: Callable[[], ClusterPolicy],
        demand_of: DemandOf,
        active: Callable[[], bool],
        observer: Observer,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
        look_every_seconds: float = LOOK_EVERY_SECONDS,
    ) -> None:
        """``clock`` gives Unix seconds; ``read_only`` plans and writes nothing."""
        super().__init__(
            "batch", self.turn, look_every_seconds, if_failed="batch: a turn failed; trying again"
        )
        self.jobs, self.pods = JobShelf(self._job_changed), PodShelf(self._changed)
        self.view: View | None = None
        self._api, self._fleet, self._grids, self._memory = api, fleet, grids, memory
        self._policy, self._demand_of, self._active = policy, demand_of, active
        self._observer, self._read_only, self._clock = observer, read_only, clock
        self._learned: Learned | None = None
        self._ended: deque[Job] = deque(maxlen=_MOST_ENDED)
        self._signatures: dict[str, tuple[object, ...]] = {}
        self._waiting: dict[str, float] = {}
        self._first_grams: dict[str, float] = {}
        self._told: set[str] = set()
        self._let_go: dict[str, float] = {}
        self._dirty = True
        self._planned_at = float("-inf")

    def turn(self) -> None:
        """Look, learn, and plan if it is time."""
        now = self._clock()
        if not self._active():
            self._learned, self._dirty, self.view = None, True, None
            return
        known = self._learned or self._memory.read()
        learned = self._look(known or Learned(), now)
        if known is not None:  # else what is kept would be written over, and what ended forgotten
            learned = self._learned = self._learn(learned, now)
            if not self._read_only:
                learned = self._learned = self._memory.keep(learned)
        batch = self._policy().batch
        if batch.mode == "off":
            self.view = None
        due = now - self._planned_at
        if (
            batch.mode == "off"
            or due < LEAST_PAUSE_SECONDS
            or not (self._dirty or due >= batch.period_seconds)
        ):
            return
        self._dirty, self._planned_at = False, now
        self._plan(learned, now)

    # --- watching -----------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._dirty = True
        self.nudge()

    def _job_changed(self, kind: str, job: Job) -> None:
        uid, status = job.metadata.uid, job.status
        if kind == "DELETED":
            self._signatures.pop(uid, None)
            self._changed()
            return
        if job.ended:
            self._ended.append(job)
        # Our own notes change the Job too; they are no reason for another plan.
        signature = (job.spec.suspend, status.active, status.ready, job.ended, job.spec.parallelism)
        if self._signatures.get(uid) != signature:
            self._signatures[uid] = signature
            self._changed()

    # --- learning -----------------------------------------------------------------------------------------

    def _look(self, learned: Learned, now: float) -> Learned:
        grids = learned.grids
        for zone, seen in self._grids.current().items():
            grids = grids.seen(zone, seen.grams_per_kwh, now)
        return replace(learned, grids=grids)

    def _learn(self, learned: Learned, now: float) -> Learned:
        """From ended Jobs how long they took, from released ones how long they waited."""
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        known, until = learned.jobs, learned.learned_until_seconds
        for job in sorted(ended, key=lambda one: one.status.completion_time or ""):
            begun, done = unix_seconds(job.status.start_time), unix_seconds(job.status.completion_time)
            window = window_of(job.metadata)
            uid = job.metadata.uid
            if begun is None or done is None or window is None or uid in self._told:
                continue
            self._told.add(uid)
            if done <= learned.learned_until_seconds:
                continue
            until = max(until, done)
            known = known.ran(family_of(job.metadata), done - begun, window.expected_seconds)
            self._observer.ended(job, max(0.0, done - window.deadline_seconds))
        waiting = {}
        jobs = self.jobs.jobs()
        for job in jobs:
            since = waiting_since(job)
            if since is not None:
                waiting[job.metadata.uid] = since
        present = {job.metadata.uid: job for job in jobs}
        for uid, since in self._waiting.items():
            # Deleted meanwhile: whether it ever ran is not known.
            if uid not in waiting and uid in present and not present[uid].spec.suspend:
                known = known.waited(now - since)
        self._waiting = waiting
        self._told &= present.keys()
        return replace(learned, jobs=known, learned_until_seconds=until)

    # --- planning -----------------------------------------------------------------------------------------

    def _plan(self, learned: Learned, now: float) -> None:
        policy = self._policy()
        began = time.monotonic()
        jobs, pods = self.jobs.jobs(), self.pods.pods()
        with self._fleet.lock:
            pools = pools_of(self._fleet, policy.batch.addable_gpus, now)
        waits = max((now - since for since in self._waiting.values()), default=0.0)
        basis = Basis(policy.batch, learned.jobs, pools, self._demand_of)
        items = items_of(jobs, pods, basis, waiting_seconds=waits)
        leaving = leaving_of(jobs, basis, now)
        rooms = returned(pools, now, [(one.pools, one.gpus, one.end_seconds, one.runs) for one in leaving])
        intensities = self._outlooks(learned, rooms, now)
        prices = {pool.zone: tariff(policy.batch.energy_by_hour, now) for pool in rooms}
        plan = schedule(
            [item.job for item in items],
            intensities,
            prices,
            rooms,
            now,
            carbon_tonne=policy.prices.carbon_tonne,
            delay_hour=policy.batch.delay_hour,
        )
        self.view = View(now, plan, tuple(items))
        self._observer.planned(plan, time.monotonic() - began)
        self._carry_out(items, plan, rooms, intensities, now)

    def _outlooks(self, learned: Learned, pools: Sequence[Pool], now: float) -> dict[str, Curve | NoData]:
        current = self._grids.current()
        found: dict[str, Curve | NoData] = {}
        for zone in {pool.zone for pool in pools if pool.zone}:
            own = learned.grids.forecast(zone, now)
            self._observer.forecast(zone, own)
            found[zone] = outlook(self._grids.forecast(zone), own, current.get(zone), now)
        return found

    def _carry_out(
        self,
        items: Sequence[Item],
        plan: Plan,
        pools: Sequence[Pool],
        intensities: Mapping[str, Curve | NoData],
        now: float,
    ) -> None:
        self._let_go = {uid: at for uid, at in self._let_go.items() if now - at < _SHOWN_WITHIN_SECONDS}
        zones = {pool.name: pool for pool in pools}
        keys = {item.job.key for item in items}
        self._first_grams = {key: grams for key, grams in self._first_grams.items() if key in keys}
        for item in items:
            start = plan.starts[item.job.key]
            pool = zones.get(start.pool or "") or next(iter(pools), None)
            grams = 0.0 if pool is None else grams_of(item.job, pool, intensities.get(pool.zone), now)
            first = self._first_grams.setdefault(item.job.key, grams)
            if self._read_only or self._policy().batch.mode != "on":
                continue
            if not self._active():
                return
            for held in item.objects:
                if start.at_seconds <= now:
                    self._release(item, held, start, (first - grams) / len(item.objects), now)
                elif noted_apart(held, item.job, start):
                    note(self._api, held, item.job.latest_start_seconds, start.at_seconds)

    def _release(self, item: Item, held: HeldObject, start: Start, saved_grams: float, now: float) -> None:
        """Let one object go, unless it was and the watch has not shown it yet."""
        uid = held.metadata.uid
        if now - self._let_go.get(uid, float("-inf")) < _SHOWN_WITHIN_SECONDS:
            return
        outcome = release(self._api, held, now)
        if outcome is Outcome.DONE:
            self._let_go[uid] = now
        why = why_released(item, held, start, now)
        self._observer.released(Released(held, why, item.job, saved_grams), outcome)


def why_released(item: Item, held: HeldObject, start: Start, now: float) -> Why:
    """In a word, why an object goes now."""
    if held.window.problems and held.window.deadline_seconds <= held.window.created_seconds:
        return "unreadable"
    if start.late:
        return "late"
    if start.crowded:
        return "crowded"
    return "latest" if item.job.latest_start_seconds < now + SLOT_SECONDS else "planned"


def noted_apart(held: HeldObject, job: HeldJob, start: Start) -> bool:
    """Whether what is noted on the object differs enough to be worth a write."""
    by, at = held.window.release_by_seconds, held.window.planned_start_seconds
    if by is None or at is None:
        return True
    return (
        abs(by - job.latest_start_seconds) > _NOTED_APART_SECONDS
        or abs(at - start.at_seconds) >= SLOT_SECONDS
    )


def grams_of(job: HeldJob, pool: Pool, intensity: Curve | NoData | None, at: float) -> float:
    """Grams of CO2e of the job's expected run in ``pool``, begun at ``at``; 0 where nobody knows."""
    if not isinstance(intensity, Curve):
        return 0.0
    watts = job.base_watts + job.gpus * pool.watts
    span = intensity.reaching(at + job.expected_seconds).integral(np.array([at, at + job.expected_seconds]))
    return float(span[1] - span[0]) * watts / 3.6e6
