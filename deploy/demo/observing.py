"""What happened to every pod: seen from the outside, by watching, with this process's own clock.

Creation and binding are stamped when they are sent and seen, since the API's own times have whole seconds
only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.wire import Pod

PodName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Binding:
    """When a pod was first seen with a node, in seconds of the run's clock."""

    node: str
    at_seconds: float


class PodWatch:
    """Handler of a Reflector of pods: first bindings, and who waits or runs now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._bindings: dict[PodName, Binding] = {}
        self._present: dict[PodName, str] = {}

    def bindings(self) -> dict[PodName, Binding]:
        with self._lock:
            return dict(self._bindings)

    def waiting(self) -> int:
        """Pods that exist and have no node."""
        with self._lock:
            return sum(1 for node in self._present.values() if not node)

    def placed(self, namespace: str) -> int:
        """Pods of a namespace that have a node now."""
        with self._lock:
            return sum(1 for (space, _), node in self._present.items() if space == namespace and node)

    def replaced(self, items: Sequence[Pod]) -> None:
        with self._lock:
            self._present.clear()
            for pod in items:
                self._take(pod)

    def changed(self, kind: str, item: Pod) -> None:
        with self._lock:
            if kind == "DELETED":
                self._present.pop((item.metadata.namespace, item.metadata.name), None)
            else:
                self._take(item)

    def _take(self, pod: Pod) -> None:
        name = (pod.metadata.namespace, pod.metadata.name)
        self._present[name] = pod.spec.node_name
        if pod.spec.node_name and name not in self._bindings:
            self._bindings[name] = Binding(pod.spec.node_name, self._clock())
