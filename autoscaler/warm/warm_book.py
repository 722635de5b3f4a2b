"""The warm pods of the cluster as the pod watch shows them. A reflector's handler; safe to read from any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from autoscaler.targets import Target
from autoscaler.warm.warm_pods import WarmPod, read
from cluster.wire import Pod


class WarmBook:
    """``refused_seen`` is called when the scheduler refuses some pod: room may have to be handed over."""

    def __init__(self) -> None:
        self.refused_seen: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._pods: dict[str, WarmPod] = {}
        self._by_workload: dict[str, dict[str, WarmPod]] = {}

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods."""
        found = {pod.uid: pod for item in items if (pod := read(item)) is not None}
        with self._lock:
            self._pods, self._by_workload = {}, {}
            for one in found.values():
                self._put(one)

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event."""
        pod = read(item)
        if pod is None:
            conditions = item.status.conditions
            if kind == "MODIFIED" and any(c.reason == "Unschedulable" for c in conditions):
                self.refused_seen()
            return
        with self._lock:
            self._drop(pod.uid)
            if kind != "DELETED":
                self._put(pod)

    def _put(self, pod: WarmPod) -> None:
        self._pods[pod.uid] = pod
        self._by_workload.setdefault(pod.workload, {})[pod.uid] = pod

    def _drop(self, uid: str) -> None:
        before = self._pods.pop(uid, None)
        if before is None:
            return
        group = self._by_workload[before.workload]
        del group[uid]
        if not group:
            del self._by_workload[before.workload]

    def of(self, workload: str) -> tuple[WarmPod, ...]:
        """The living warm pods of one target (its text), by name."""
        with self._lock:
            pods = [pod for pod in self._by_workload.get(workload, {}).values() if not pod.leaving]
        return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))

    def held(self, target: Target) -> int:
        """How many placeholders of a workload hold room on a node."""
        with self._lock:
            mine = self._by_workload.get(str(target), {}).values()
            return sum(pod.kind == "placeholder" and bool(pod.node) and not pod.leaving for pod in mine)

    def all(self) -> tuple[WarmPod, ...]:
        """All living warm pods, by namespace and name."""
        with self._lock:
            pods = [pod for pod in self._pods.values() if not pod.leaving]
        return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))
