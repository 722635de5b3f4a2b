"""What is held now: the suspended Jobs and gated pods of the cluster, as the watches show them.

A handler of reflectors; safe to read from other threads. ``HeldObject.window`` of a gated pod without one is
over at its creation: a gate that nobody can plan holds nothing back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.job_wire import Job
from cluster.times import unix_seconds
from cluster.wire import ObjectMeta, ObjectReference, Pod
from scheduler.windows.read import Window, concerns_job, holds_job, holds_pod, window_of

Kind = Literal["Job", "Pod"]


@dataclass(frozen=True, slots=True)
class HeldObject:
    """One object and its window."""

    kind: Kind
    metadata: ObjectMeta
    window: Window

    @property
    def path(self) -> str:
        """Its path in the API."""
        place = "apis/batch/v1" if self.kind == "Job" else "api/v1"
        plural = "jobs" if self.kind == "Job" else "pods"
        return f"/{place}/namespaces/{self.metadata.namespace}/{plural}/{self.metadata.name}"

    @property
    def reference(self) -> ObjectReference:
        """What an Event about it refers to."""
        return ObjectReference(
            api_version="batch/v1" if self.kind == "Job" else "v1",
            kind=self.kind,
            namespace=self.metadata.namespace,
            name=self.metadata.name,
            uid=self.metadata.uid,
        )


def held_job(job: Job) -> HeldObject | None:
    """The Job as held, or None."""
    window = window_of(job.metadata) if holds_job(job) else None
    return None if window is None else HeldObject("Job", job.metadata, window)


def held_pod(pod: Pod) -> HeldObject | None:
    """The pod as held, or None."""
    if not holds_pod(pod):
        return None
    created = unix_seconds(pod.metadata.creation_timestamp) or 0.0
    problem = "the gate slicewise.io/window without the annotation slicewise.io/completion-window"
    window = window_of(pod.metadata) or Window(created, created, problems=(problem,))
    return HeldObject("Pod", pod.metadata, window)


class JobShelf:
    """Handler of a Job reflector: every Job with a window that is ours, by UID."""

    def __init__(self, told: Callable[[str, Job], None] = lambda kind, job: None) -> None:
        """``told`` hears of each change: ADDED, MODIFIED or DELETED (a fresh list: ADDED each)."""
        self._jobs: dict[str, Job] = {}
        self._told = told
        self._lock = threading.Lock()

    @staticmethod
    def keep(job: Job) -> bool:
        """The reflector's own selector: annotations cannot be selected by at the server."""
        return concerns_job(job)

    def jobs(self) -> list[Job]:
        """All of them, held, running or ended."""
        with self._lock:
            return list(self._jobs.values())

    def replaced(self, items: Sequence[Job]) -> None:
        """A fresh list."""
        with self._lock:
            self._jobs = {job.metadata.uid: job for job in items if concerns_job(job)}
            kept = list(self._jobs.values())
        for job in kept:
            self._told("ADDED", job)

    def changed(self, kind: str, item: Job) -> None:
        """One watch event."""
        with self._lock:
            if kind == "DELETED" or not concerns_job(item):
                gone = self._jobs.pop(item.metadata.uid, None) is not None
                kind = "DELETED"
            else:
                self._jobs[item.metadata.uid] = item
                gone = True
        if gone:
            self._told(kind, item)


class PodShelf:
    """Handler of a pod reflector: every pod behind our gate, by UID."""

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        """``told`` hears when what is held changes."""
        self._pods: dict[str, Pod] = {}
        self._told = told
        self._lock = threading.Lock()

    def pods(self) -> list[Pod]:
        """All that are held."""
        with self._lock:
            return list(self._pods.values())

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list."""
        with self._lock:
            self._pods = {pod.metadata.uid: pod for pod in items if holds_pod(pod)}
        self._told()

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event; the common pod without a gate costs a look."""
        uid = item.metadata.uid
        if kind != "DELETED" and holds_pod(item):
            with self._lock:
                self._pods[uid] = item
        elif uid in self._pods:
            with self._lock:
                self._pods.pop(uid, None)
        else:
            return
        self._told()
