"""Which pods wait for a plan, and in which order.

A pod waits when it asks for GPUs, is bound to no node, has no nomination in force, and nothing but our own
scheduling gate (KEP-3521) keeps it from the scheduler. Order: priority first, then age, then UID, as
kube-scheduler's own queue (PrioritySort) has it; whose turn it is among MIG pods ``order`` decides. A pod
whose nomination was refused comes back after a pause that doubles, so that a pod nobody can place costs
little.

Values in, values out: the time is passed in; the watch that feeds the queue is ``scheduler.planner.loop``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.wire import Pod

PLAN_GATE = "slicewise.io/plan"
# kube-scheduler takes an ungated pod at once when it is idle. A plan for it is of use only when it had to
# wait; before that the nomination would race the binding.
UNGATED_GRACE_SECONDS = 0.15
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """One pod in need of a node; ``since_seconds`` is when the queue first saw it (monotonic clock)."""

    uid: str
    namespace: str
    name: str
    priority: int
    created: str
    gated: bool
    since_seconds: float
    pod: Pod


def as_waiting(pod: Pod, now: float) -> WaitingPod:
    """A pod as the queue keeps it."""
    return WaitingPod(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        priority=pod.spec.priority or 0,
        created=pod.metadata.creation_timestamp or "",
        gated=is_gated(pod),
        since_seconds=now,
        pod=pod,
    )


def waits(pod: Pod, also_nominated: bool = False) -> bool:
    """Say whether the pod is unbound, alive, not nominated (unless that is no matter) and held by no foreign
    gate.
    """
    if pod.spec.node_name or pod.metadata.deletion_timestamp or pod.status.phase in FINISHED:
        return False
    if pod.status.nominated_node_name and not also_nominated:
        return False
    return all(gate.name == PLAN_GATE for gate in pod.spec.scheduling_gates)


def is_gated(pod: Pod) -> bool:
    """Say whether our own gate holds the pod."""
    return any(gate.name == PLAN_GATE for gate in pod.spec.scheduling_gates)


@dataclass(slots=True)
class _Attempt:
    tries: int
    due_seconds: float


@dataclass(slots=True)
class PlanQueue:
    """The pods that wait, by UID. Not thread-safe: its owner holds a lock.

    ``asks_for_gpus`` decides which pods are ours at all; everything else is left to kube-scheduler.
    ``also_nominated``: pods with a nomination wait too (for those who look after gates, not plans).
    """

    asks_for_gpus: Callable[[Pod], bool]
    scheduler_names: frozenset[str] = frozenset({"default-scheduler"})
    ungated_grace_seconds: float = UNGATED_GRACE_SECONDS
    also_nominated: bool = False
    _pods: dict[str, WaitingPod] = field(default_factory=dict)
    _attempts: dict[str, _Attempt] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._pods)

    def observe(self, pod: Pod, now: float) -> bool:
        """Take in one pod as the watch shows it; True when a pod became plannable by it."""
        uid = pod.metadata.uid
        if pod.spec.scheduler_name not in self.scheduler_names or not waits(pod, self.also_nominated):
            self.forget_waiting(uid)
            if pod.spec.node_name or pod.status.phase in FINISHED:
                self._attempts.pop(uid, None)
            return False
        known = self._pods.get(uid)
        if known is None and not self.asks_for_gpus(pod):
            return False
        self._pods[uid] = as_waiting(pod, known.since_seconds if known else now)
        return known is None

    def forget(self, uid: str) -> None:
        """Drop a deleted pod and its history."""
        self.forget_waiting(uid)
        self._attempts.pop(uid, None)

    def forget_waiting(self, uid: str) -> None:
        """Drop the pod from the queue but keep its history, in case its nomination is refused."""
        self._pods.pop(uid, None)

    def replace_all(self, pods: list[Pod], now: float) -> None:
        """Take in a fresh list: pods it lacks are gone."""
        present = {pod.metadata.uid for pod in pods}
        for uid in [uid for uid in self._pods if uid not in present]:
            self.forget(uid)
        for uid in [uid for uid in self._attempts if uid not in present]:
            del self._attempts[uid]
        for pod in pods:
            self.observe(pod, now)

    def due(self, now: float, limit: int) -> list[WaitingPod]:
        """The pods to plan now, best first, at most ``limit``."""
        ready = [pod for pod in self._pods.values() if self._due_at(pod) <= now]
        ready.sort(key=lambda pod: (-pod.priority, pod.created, pod.uid))
        return ready[:limit]

    def waiting(self) -> dict[str, WaitingPod]:
        """Every waiting pod by UID, due or not."""
        return dict(self._pods)

    def find(self, uid: str) -> WaitingPod | None:
        """The waiting pod, or None."""
        return self._pods.get(uid)

    def next_due(self) -> float | None:
        """When the earliest waiting pod is due (monotonic seconds), or None when nobody waits."""
        return min((self._due_at(pod) for pod in self._pods.values()), default=None)

    def tried(self, uid: str, now: float) -> None:
        """Note one attempt, successful or not: the pod is not planned again before its pause is over."""
        attempt = self._attempts.setdefault(uid, _Attempt(0, now))
        pause = min(FIRST_PAUSE_SECONDS * 2**attempt.tries, LONGEST_PAUSE_SECONDS)
        attempt.tries = min(attempt.tries + 1, 16)
        attempt.due_seconds = now + pause

    def capacity_freed(self) -> None:
        """Something went away on some node: whoever was unplaceable may be tried at once."""
        for attempt in self._attempts.values():
            attempt.due_seconds = 0.0

    def overdue_gates(self, now: float, timeout_seconds: float) -> list[WaitingPod]:
        """Gated pods that waited longer than the policy allows."""
        return [
            pod for pod in self._pods.values() if pod.gated and now - pod.since_seconds >= timeout_seconds
        ]

    def _due_at(self, pod: WaitingPod) -> float:
        attempt = self._attempts.get(pod.uid)
        if attempt is not None:
            return attempt.due_seconds
        return pod.since_seconds if pod.gated else pod.since_seconds + self.ungated_grace_seconds
