"""Let go: unsuspend a Job, or take our gate off a pod; and note when it will be.

Every patch carries the object's UID, so a namesake created meanwhile is never touched (the API server answers
409). A Job is noted as released in the same write, so that it is not released again when somebody suspends it
later for a reason of their own.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

from cluster.client import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from cluster.patching import Patcher, patched
from cluster.times import rfc3339
from scheduler.windows.read import PLANNED_START, RELEASE_BY, RELEASED_AT, WINDOW_GATE
from scheduler.windows.shelf import HeldObject


class Outcome(StrEnum):
    """What became of a write. FORBIDDEN: the permission is missing."""

    DONE = "done"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    FAILED = "failed"


_MEANS: dict[int, Outcome] = {
    HTTPStatus.OK: Outcome.DONE,
    HTTPStatus.NOT_FOUND: Outcome.GONE,
    HTTPStatus.CONFLICT: Outcome.GONE,
    HTTPStatus.UNAUTHORIZED: Outcome.FORBIDDEN,
    HTTPStatus.FORBIDDEN: Outcome.FORBIDDEN,
}


def release(api: Patcher, held: HeldObject, now: float) -> Outcome:
    """Let the object go at ``now``."""
    metadata: dict[str, object] = {"uid": held.metadata.uid}
    if held.kind == "Job":
        metadata["annotations"] = {RELEASED_AT: rfc3339(now)}
        return _sent(api, held.path, {"metadata": metadata, "spec": {"suspend": False}}, MERGE_PATCH)
    gates = [{"$patch": "delete", "name": WINDOW_GATE}]
    return _sent(
        api, held.path, {"metadata": metadata, "spec": {"schedulingGates": gates}}, STRATEGIC_MERGE_PATCH
    )


def note(api: Patcher, held: HeldObject, release_by_seconds: float, planned_start_seconds: float) -> Outcome:
    """Write down when the object is to start, and when it must be let go if nobody is left to say so."""
    notes = {RELEASE_BY: rfc3339(release_by_seconds), PLANNED_START: rfc3339(planned_start_seconds)}
    return _sent(api, held.path, {"metadata": {"uid": held.metadata.uid, "annotations": notes}}, MERGE_PATCH)


def _sent(api: Patcher, path: str, body: object, content_type: str) -> Outcome:
    return _MEANS.get(patched(api, path, body, content_type), Outcome.FAILED)
