"""Nobody is held past a deadline: let go of Jobs and pods whose latest start has passed.

Runs in every slicewise-scheduler replica, so that no job depends on a living controller: what the
controller wrote (``slicewise.io/release-by``) holds on after its death, and where it wrote nothing the
object's own words do (``Window.let_go_seconds``). The controller's own release comes first;
``GRACE_SECONDS`` keep this from racing it. Letting go twice is harmless. What may not be patched is told
once and tried again after growing pauses of up to ``MOST_PAUSE_SECONDS``. A cluster without permission to
list Jobs is guarded for pods alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from cluster.client import Api
from cluster.job_wire import JOBS_PATH, Job
from cluster.patching import Patcher
from cluster.periodic import Periodic
from cluster.reflector import Reflector
from scheduler.windows.release import Outcome, release
from scheduler.windows.shelf import HeldObject, JobShelf, PodShelf, held_job, held_pod

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 5.0
GRACE_SECONDS = 10.0
# A right may be granted at any time, and a webhook that refuses (403 as well) may come to its senses.
FIRST_PAUSE_SECONDS = 10.0
MOST_PAUSE_SECONDS = 600.0

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
        self._paused: dict[str, tuple[float, float]] = {}  # by UID: until when, and the next pause

    def job_reflector(self, api: Api) -> Reflector[Job]:
        """The watch that feeds ``jobs``."""
        return Reflector(api, JOBS_PATH, Job, self.jobs, keep=JobShelf.keep)

    def let_go_of_overdue(self) -> list[HeldObject]:
        """Release what is overdue; answers what was."""
        now = self._clock()
        released = []
        paused, self._paused = self._paused, {}
        for held in self._held():
            uid = held.metadata.uid
            until, pause = paused.get(uid, (now, FIRST_PAUSE_SECONDS))
            if until > now:
                self._paused[uid] = until, pause
                continue
            # A new object is the controller's to plan, however short its window.
            due = max(held.window.let_go_seconds, held.window.created_seconds)
            if due + self._grace_seconds > now:
                continue
            outcome = release(self._api, held, now)
            if outcome is Outcome.FORBIDDEN:
                self._paused[uid] = now + pause, min(2.0 * pause, MOST_PAUSE_SECONDS)
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
