"""All pods of the cluster by namespace and label, kept current by a reflector.

One watch for all workloads. A pod belongs to a workload when the workload's own selector takes it, which
holds for custom resources too, whose chain of owners nobody can know beforehand. Finding the pods of a
workload costs the size of the smallest label group, not of the namespace.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeVar

from autoscaler.pods import PodSight, sight
from autoscaler.selectors import Selector
from cluster.wire import Pod

_Key = tuple[str, str, str]
_K = TypeVar("_K")


class PodIndex:
    """Handler of a pod reflector. Safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pods: dict[str, PodSight] = {}
        self._by_label: dict[_Key, dict[str, PodSight]] = {}
        self._by_namespace: dict[str, dict[str, PodSight]] = {}

    def replaced(self, items: Sequence[Pod]) -> None:
        with self._lock:
            before, self._pods, self._by_label, self._by_namespace = self._pods, {}, {}, {}
            for pod in items:
                self._put(sight(pod, before.get(pod.metadata.uid)))

    def changed(self, kind: str, item: Pod) -> None:
        with self._lock:
            before = self._pods.get(item.metadata.uid)
            if before is not None:
                self._drop(before)
            if kind != "DELETED":
                self._put(sight(item, before))

    def matching(self, namespace: str, selector: Selector) -> tuple[PodSight, ...]:
        """The pods in ``namespace`` that ``selector`` takes, by name."""
        with self._lock:
            groups = [self._by_label.get((namespace, key, value), {}) for key, value in selector.pairs]
            smallest = min(groups, key=len) if groups else self._by_namespace.get(namespace, {})
            found = [pod for pod in smallest.values() if selector.matches(pod.labels)]
        return tuple(sorted(found, key=lambda pod: pod.name))

    def staying(self, namespace: str, selector: Selector) -> tuple[PodSight, ...]:
        """Those of them that do not leave: one that does may be of a revision that no longer is."""
        return tuple(pod for pod in self.matching(namespace, selector) if not pod.leaving)

    def __len__(self) -> int:
        with self._lock:
            return len(self._pods)

    def _put(self, pod: PodSight) -> None:
        self._pods[pod.uid] = pod
        self._by_namespace.setdefault(pod.namespace, {})[pod.uid] = pod
        for key, value in pod.labels.items():
            self._by_label.setdefault((pod.namespace, key, value), {})[pod.uid] = pod

    def _drop(self, pod: PodSight) -> None:
        del self._pods[pod.uid]
        self._forget(self._by_namespace, pod.namespace, pod.uid)
        for key, value in pod.labels.items():
            self._forget(self._by_label, (pod.namespace, key, value), pod.uid)

    @staticmethod
    def _forget(groups: dict[_K, dict[str, PodSight]], key: _K, uid: str) -> None:
        group = groups[key]
        del group[uid]
        if not group:
            del groups[key]
