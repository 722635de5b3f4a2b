"""Which pods wait for a plan, and in which order.

A pod waits when it asks for GPUs, is bound to no node, has no nomination in force, and nothing but our own
scheduling gate (KEP-3521) keeps it from the scheduler. Order: priority first, then age, then UID, as
kube-scheduler's own queue (PrioritySort) has it; whose turn it is among MIG pods ``order`` decides. A pod
whose nomination was refused comes back after a pause that doubles, so that a pod nobody can place costs
little.

A pod without our gate is in the scheduler's own queue, and a plan for it is worth its write only if the
scheduler cannot help itself (``Pace``): it has tried the pod and failed, it binds others but left this one
out, or it binds nobody. A pod that merely stands in a queue that moves is left alone: its turn would come
before the write does.

Values in, values out: the time is passed in; the watch that feeds the queue is ``scheduler.planner.loop``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.wire import Pod

PLAN_GATE = "slicewise.io/plan"
# kube-scheduler takes an ungated pod at once when it is idle; a nomination would race the binding.
UNGATED_GRACE_SECONDS = 0.5
# So long after its last binding a scheduler counts as one that binds nobody.
IDLE_SCHEDULER_SECONDS = 2.0
# A pod that waited so many times longer than those bound of late was left out, not merely queued.
LEFT_OUT_TIMES = 4.0
LEFT_OUT_SECONDS = 1.0
_PACE_SHARE = 0.1
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


def was_refused(pod: Pod) -> bool:
    """Say whether the scheduler has tried the pod and found no node for it."""
    return any(
        condition.type == "PodScheduled"
        and condition.status == "False"
        and condition.reason == "Unschedulable"
        for condition in pod.status.conditions
    )


@dataclass(slots=True)
class Pace:
    """How long pods without a gate wait for the scheduler at present: a moving mean, seconds."""

    wait_seconds: float = 0.0
    bound_at: float = -math.inf

    def bound(self, waited_seconds: float, now: float) -> None:
        """A pod that had waited so long was bound."""
        if now - self.bound_at > IDLE_SCHEDULER_SECONDS:
            self.wait_seconds = waited_seconds
        else:
            self.wait_seconds += _PACE_SHARE * (waited_seconds - self.wait_seconds)
        self.bound_at = now

    def patience_ends(self, since: float, grace_seconds: float) -> float:
        """When a pod that waits since then, and was not refused, is worth a plan (monotonic seconds)."""
        left_out = since + LEFT_OUT_SECONDS + LEFT_OUT_TIMES * self.wait_seconds
        nobody_bound = max(since + grace_seconds, self.bound_at + IDLE_SCHEDULER_SECONDS)
        return min(max(left_out, since + grace_seconds), nobody_bound)


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
    _pace: Pace = field(default_factory=Pace)

    def __len__(self) -> int:
        return len(self._pods)

    def observe(self, pod: Pod, now: float) -> bool:
        """Take in one pod as the watch shows it; True when a pod came that is to be planned at once."""
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        if pod.spec.scheduler_name not in self.scheduler_names or not waits(pod, self.also_nominated):
            if known is not None and pod.spec.node_name and self._stood_in_line(known):
                self._pace.bound(now - known.since_seconds, now)
            self.forget_waiting(uid)
            if pod.spec.node_name or pod.status.phase in FINISHED:
                self._attempts.pop(uid, None)
            return False
        if known is None and not self.asks_for_gpus(pod):
            return False
        kept = self._pods[uid] = as_waiting(pod, known.since_seconds if known else now)
        if known is not None and (known.gated or was_refused(known.pod)):
            return False
        return self._due_at(kept) <= now

    def due_at(self, uid: str) -> float:
        """When the pod is due (monotonic seconds); infinite for one that does not wait."""
        pod = self._pods.get(uid)
        return math.inf if pod is None else self._due_at(pod)

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

    def _stood_in_line(self, pod: WaitingPod) -> bool:
        """Say whether only the length of the scheduler's own queue made the pod wait."""
        return not (pod.gated or pod.uid in self._attempts or was_refused(pod.pod))

    def _due_at(self, pod: WaitingPod) -> float:
        attempt = self._attempts.get(pod.uid)
        if attempt is not None:
            return attempt.due_seconds
        if pod.gated or was_refused(pod.pod):
            return pod.since_seconds
        return self._pace.patience_ends(pod.since_seconds, self.ungated_grace_seconds)
