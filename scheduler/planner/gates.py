"""Nobody is held hostage: take our gate off pods whose plan did not come in time.

Runs in every slicewise-scheduler replica, beside the planner's own check, so that gated pods go the webhook
road even when no controller is alive. Removing a gate twice is harmless (the patch names the gate, not its
position). Pods of a gang that nothing but its gates keeps whole are left alone: taking the gates away one by
one could bind half of it, so such a gang waits for a planner, all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from cluster.periodic import Periodic
from cluster.wire import Pod
from scheduler.planner.gangs import is_kept_whole
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.queue import PlanQueue, WaitingPod, is_gated

LOOK_EVERY_SECONDS = 1.0
# The planner's own check comes first; this one is for when it is gone.
GRACE_SECONDS = 2.0


class GateWatch(Periodic):
    """A pod handler and a thread that ungates overdue pods."""

    def __init__(
        self,
        *,
        nominator: Nominator,
        timeout_seconds: Callable[[], float],
        released: Callable[[Sequence[WaitingPod]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            "gate-watch",
            self.release_overdue,
            LOOK_EVERY_SECONDS,
            if_failed="gate watch: could not take the gate off overdue pods; trying again",
        )
        # A pod that was nominated by a planner that died before it took the gate away waits all the same.
        self._queue = PlanQueue(asks_for_gpus=is_gated, also_nominated=True)
        self._nominator = nominator
        self._timeout_seconds = timeout_seconds
        self._released = released
        self._clock = clock
        self._lock = threading.Lock()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """End the thread, then the connections."""
        super().stop(timeout_seconds)
        self._nominator.close()

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods (reflector handler)."""
        with self._lock:
            self._queue.replace_all(list(items), self._clock())

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event (reflector handler)."""
        with self._lock:
            if kind == "DELETED" or not is_gated(item):
                self._queue.forget(item.metadata.uid)
            else:
                self._queue.observe(item, self._clock())

    def release_overdue(self) -> list[WaitingPod]:
        """Ungate what is overdue; answers the pods whose gate is gone."""
        with self._lock:
            overdue = [
                pod
                for pod in self._queue.overdue_gates(self._clock(), self._timeout_seconds() + GRACE_SECONDS)
                if not is_kept_whole(pod.pod)
            ]
        if not overdue:
            return []
        outcomes = self._nominator.ungate(overdue)
        released = [pod for pod, outcome in zip(overdue, outcomes, strict=True) if outcome is Outcome.DONE]
        if released:
            self._released(released)
        return released
