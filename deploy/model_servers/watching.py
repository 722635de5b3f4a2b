"""What became of the pods of one namespace, seen by watching, on this process's own clock.

Created: first seen. Ready: seen Ready for the first time. Leaving: seen with a deletion time. The API's own
times have whole seconds only. Also tells which pods serve now: Ready and not leaving, as a Service would
route.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.wire import Pod


@dataclass(frozen=True, slots=True)
class PodLife:
    """One pod of a Deployment; times in seconds of the clock, None for what has not happened."""

    app: str
    name: str
    created_at: float
    ready_at: float | None = None
    leaving_at: float | None = None
    gone_at: float | None = None

    @property
    def start_seconds(self) -> float | None:
        """From created to Ready."""
        return None if self.ready_at is None else self.ready_at - self.created_at


class PodWatch:
    """Handler of a Reflector of pods with the label ``app``. Safe to ask from other threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lives: dict[str, PodLife] = {}
        self._serving: dict[str, tuple[str, str, str]] = {}
        self._replicas: dict[str, list[tuple[float, int]]] = {}

    def serving(self, app: str) -> list[tuple[str, str]]:
        """Name and address of the pods that serve now."""
        with self._lock:
            return [(name, address) for one, name, address in self._serving.values() if one == app]

    def lives(self, app: str) -> tuple[PodLife, ...]:
        """All pods so far, the oldest first."""
        with self._lock:
            found = [life for life in self._lives.values() if life.app == app]
        return tuple(sorted(found, key=lambda life: life.created_at))

    def replicas(self, app: str) -> tuple[tuple[float, int], ...]:
        """How many pods served from which moment on."""
        with self._lock:
            return tuple(self._replicas.get(app, ()))

    def replaced(self, items: Sequence[Pod]) -> None:
        with self._lock:
            there = {pod.metadata.uid for pod in items}
            for uid in set(self._lives) - there:
                self._gone(uid)
            for pod in items:
                self._take(pod)

    def changed(self, kind: str, item: Pod) -> None:
        with self._lock:
            if kind == "DELETED":
                self._gone(item.metadata.uid)
            else:
                self._take(item)

    def _take(self, pod: Pod) -> None:
        app = pod.metadata.labels.get("app", "")
        now, uid = self._clock(), pod.metadata.uid
        life = self._lives.get(uid) or PodLife(app, pod.metadata.name, now)
        ready = any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions)
        leaving = pod.metadata.deletion_timestamp is not None
        if ready and life.ready_at is None:
            life = replace(life, ready_at=now)
        if leaving and life.leaving_at is None:
            life = replace(life, leaving_at=now)
        self._lives[uid] = life
        if ready and not leaving and pod.status.pod_ip:
            self._serving[uid] = (app, pod.metadata.name, pod.status.pod_ip)
        else:
            self._serving.pop(uid, None)
        self._note(app)

    def _gone(self, uid: str) -> None:
        life = self._lives.get(uid)
        self._serving.pop(uid, None)
        if life is not None and life.gone_at is None:
            self._lives[uid] = replace(life, gone_at=self._clock())
            self._note(life.app)

    def _note(self, app: str) -> None:
        count = sum(1 for one, _, _ in self._serving.values() if one == app)
        history = self._replicas.setdefault(app, [])
        if not history or history[-1][1] != count:
            history.append((self._clock(), count))
