"""What is held now: the suspended Jobs and gated pods of the cluster, as the watches show them.

A handler of reflectors; safe to read from other threads. ``HeldObject.window`` of a gated pod without one is
over at its creation: a gate that nobody can plan holds nothing back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from cluster.job_wire import Job
from cluster.times import unix_seconds
from cluster.wire import HasMetadata, ObjectMeta, ObjectReference, Pod
from scheduler.windows.read import Window, concerns_job, holds_job, holds_pod, window_of

Kind = Literal["Job", "Pod"]
Kept = TypeVar("Kept", bound=HasMetadata)


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
        return reference_to(self.kind, self.metadata)


def reference_to(kind: Kind, metadata: ObjectMeta) -> ObjectReference:
    """What an Event about a Job or pod refers to."""
    return ObjectReference(
        api_version="batch/v1" if kind == "Job" else "v1",
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
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


class _Shelf(Generic[Kept]):
    """Handler of a reflector: every object that ``keep`` takes, by UID."""

    def __init__(
        self,
        keep: Callable[[Kept], bool],
        listed: Callable[[Sequence[Kept]], None],
        moved: Callable[[str, Kept], None],
    ) -> None:
        """``listed`` hears of a fresh list, ``moved`` of each change: ADDED, MODIFIED or DELETED."""
        self._keep, self._listed, self._moved = keep, listed, moved
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def replaced(self, items: Sequence[Kept]) -> None:
        """A fresh list."""
        with self._lock:
            self._kept = {item.metadata.uid: item for item in items if self._keep(item)}
        self._listed(self._all())

    def changed(self, kind: str, item: Kept) -> None:
        """One watch event; what is no concern of ours costs a look."""
        uid = item.metadata.uid
        if kind != "DELETED" and self._keep(item):
            with self._lock:
                self._kept[uid] = item
        elif uid in self._kept:
            kind = "DELETED"
            with self._lock:
                self._kept.pop(uid, None)
        else:
            return
        self._moved(kind, item)

    def _all(self) -> list[Kept]:
        with self._lock:
            return list(self._kept.values())


class JobShelf(_Shelf[Job]):
    """Every Job with a window that is ours."""

    def __init__(self, told: Callable[[str, Job], None] = lambda kind, job: None) -> None:
        """``told`` hears of each change: ADDED, MODIFIED or DELETED (a fresh list: ADDED each)."""

        def listed(jobs: Sequence[Job]) -> None:
            for job in jobs:
                told("ADDED", job)

        super().__init__(concerns_job, listed, told)

    @staticmethod
    def keep(job: Job) -> bool:
        """The reflector's own selector: annotations cannot be selected by at the server."""
        return concerns_job(job)

    def jobs(self) -> list[Job]:
        """All of them, held, running or ended."""
        return self._all()


class PodShelf(_Shelf[Pod]):
    """Every pod behind our gate."""

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        """``told`` hears when what is held changes."""
        super().__init__(holds_pod, lambda _pods: told(), lambda _kind, _pod: told())

    def pods(self) -> list[Pod]:
        """All that are held."""
        return self._all()
