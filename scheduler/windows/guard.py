"""Nobody is held past a deadline: let go of Jobs and pods whose latest start has passed.

Runs in every slicewise-scheduler replica, so that no job depends on a living controller: what the
controller wrote (``slicewise.io/release-by``) holds on after its death, and where it wrote nothing the
object's own words do (``Window.let_go_seconds``). The controller's own release comes first;
``GRACE_SECONDS`` keep this from racing it. Letting go twice is harmless. A cluster without permission for
Jobs is told once and guarded for pods alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from cluster.client import Api
from cluster.job_wire import JOBS_PATH, Job
from cluster.periodic import Periodic
from cluster.reflector import Reflector
from scheduler.windows.release import Outcome, Patcher, release
from scheduler.windows.shelf import HeldObject, JobShelf, PodShelf, held_job, held_pod

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 5.0
GRACE_SECONDS = 10.0

Released = Callable[[HeldObject, Outcome], None]


class WindowGuard(Periodic):
    """Two shelves and a thread. ``pods`` is to be served from the process' own pod watch."""

    def __init__(
        self,
        api: Patcher,
        *,
        released: Released = lambda held, outcome: None,
        clock: Callable[[], float] = time.time,
        look_every_seconds: float = LOOK_EVERY_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """``released`` hears of each try, but for objects that are gone; ``clock`` gives Unix seconds."""
        super().__init__(
            "window-guard",
            self.let_go_of_overdue,
            look_every_seconds,
            if_failed="window guard: could not let go of overdue jobs; trying again",
        )
        self.jobs, self.pods = JobShelf(), PodShelf()
        self._api, self._released = api, released
        self._clock, self._grace_seconds = clock, grace_seconds
        self._told: set[str] = set()

    def job_reflector(self, api: Api) -> Reflector[Job]:
        """The watch that feeds ``jobs``."""
        return Reflector(api, JOBS_PATH, Job, self.jobs, keep=JobShelf.keep)

    def let_go_of_overdue(self) -> list[HeldObject]:
        """Release what is overdue; answers what was."""
        now = self._clock()
        released = []
        for held in self._held():
            # A new object is the controller's to plan, however short its window.
            due = max(held.window.let_go_seconds, held.window.created_seconds)
            if due + self._grace_seconds > now:
                continue
            outcome = release(self._api, held, now)
            self._tell(held, outcome)
            if outcome is Outcome.DONE:
                released.append(held)
        return released

    def _held(self) -> Iterator[HeldObject]:
        for job in self.jobs.jobs():
            found = held_job(job)
            if found is not None:
                yield found
        for pod in self.pods.pods():
            found = held_pod(pod)
            if found is not None:
                yield found

    def _tell(self, held: HeldObject, outcome: Outcome) -> None:
        if outcome is Outcome.GONE:
            return
        self._released(held, outcome)
        uid = held.metadata.uid
        if outcome in (Outcome.FORBIDDEN, Outcome.FAILED) and uid in self._told:
            return
        self._told.add(uid)
        if len(self._told) > 10_000:
            self._told.clear()
        name = f"{held.kind} {held.metadata.namespace}/{held.metadata.name}"
        log.warning("%s: past its latest start with nobody to plan it: %s", name, outcome)
