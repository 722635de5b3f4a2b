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

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods."""
        found = {pod.uid: pod for item in items if (pod := read(item)) is not None}
        with self._lock:
            self._pods = found

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event."""
        pod = read(item)
        if pod is None:
            conditions = item.status.conditions
            if kind == "MODIFIED" and any(c.reason == "Unschedulable" for c in conditions):
                self.refused_seen()
            return
        with self._lock:
            if kind == "DELETED":
                self._pods.pop(pod.uid, None)
            else:
                self._pods[pod.uid] = pod

    def of(self, workload: str) -> tuple[WarmPod, ...]:
        """The living warm pods of one target (its text), by name."""
        return tuple(pod for pod in self.all() if pod.workload == workload)

    def held(self, target: Target) -> int:
        """How many placeholders of a workload hold room on a node."""
        workload = str(target)
        with self._lock:
            return sum(
                pod.workload == workload and pod.kind == "placeholder" and bool(pod.node) and not pod.leaving
                for pod in self._pods.values()
            )

    def all(self) -> tuple[WarmPod, ...]:
        """All living warm pods, by namespace and name."""
        with self._lock:
            pods = [pod for pod in self._pods.values() if not pod.leaving]
        return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))
