"""What a Job or pod says about its completion window, and when it must be let go whoever is alive.

    slicewise.io/completion-window   24h, 90m, 1d12h or seconds; as annotation or label; from creation
    slicewise.io/expected-duration   the same form; how long it runs
    slicewise.io/release-by          written by the controller: its latest safe start (RFC 3339)
    slicewise.io/planned-start       written by the controller, for people
    slicewise.io/released-at         written with the release; who is suspended later was so by someone else

A Job is held by ``spec.suspend``, a pod by the scheduling gate ``slicewise.io/window``. Jobs that Kueue
queues, that another controller manages or that belong to anything but a CronJob are left alone: their
suspend is not ours.

``let_go_seconds`` is for when no controller planned: twice the declared duration and a quarter of an hour
before the deadline, and without a declared duration soon after creation, since it may need the whole
window. A window that cannot be read holds nothing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cluster.job_wire import BUILT_IN_CONTROLLER, KUEUE_QUEUE_LABEL, Job
from cluster.times import unix_seconds
from cluster.wire import ObjectMeta, Pod

WINDOW: Final = "slicewise.io/completion-window"
EXPECTED: Final = "slicewise.io/expected-duration"
RELEASE_BY: Final = "slicewise.io/release-by"
PLANNED_START: Final = "slicewise.io/planned-start"
RELEASED_AT: Final = "slicewise.io/released-at"
WINDOW_GATE: Final = "slicewise.io/window"

LONGEST_FACTOR: Final = 2.0
QUEUE_SECONDS: Final = 900.0
UNPLANNED_SECONDS: Final = 600.0
"""How long a job without a declared duration waits for a controller to plan it."""

_UNITS: Final[Mapping[str, float]] = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


@dataclass(frozen=True, slots=True)
class Window:
    """Times in Unix seconds. ``expected_seconds``: declared, else None. ``release_by_seconds`` and
    ``planned_start_seconds``: what a controller wrote. ``problems``: what could not be read, for people.
    """

    created_seconds: float
    deadline_seconds: float
    expected_seconds: float | None = None
    release_by_seconds: float | None = None
    planned_start_seconds: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def let_go_seconds(self) -> float:
        """When it goes at the latest, planned or not."""
        if self.release_by_seconds is not None:
            return min(self.release_by_seconds, self.deadline_seconds)
        if self.expected_seconds is None:
            return min(self.deadline_seconds, self.created_seconds + UNPLANNED_SECONDS)
        return self.deadline_seconds - LONGEST_FACTOR * self.expected_seconds - QUEUE_SECONDS


def duration_seconds(text: str) -> float | None:
    """Seconds of ``24h``, ``1d12h``, ``90m``, ``3600``; None for anything else, and for 0."""
    compact = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        total = float(compact)
    else:
        parts = _DURATION.findall(compact)
        if not parts or "".join(number + unit for number, unit in parts) != compact:
            return None
        total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return total if 0.0 < total < 10.0 * 365.0 * _UNITS["d"] else None


def window_of(metadata: ObjectMeta) -> Window | None:
    """What the object says; None when it names no window."""
    notes = metadata.annotations
    text = notes.get(WINDOW) or metadata.labels.get(WINDOW)
    if not text:
        return None
    created = unix_seconds(metadata.creation_timestamp) or 0.0
    problems = []
    length = duration_seconds(text)
    if length is None:
        problems.append(f"{WINDOW}: got {text!r}, expected a duration like 24h, 90m or 1d; it is not held")
    declared = notes.get(EXPECTED) or metadata.labels.get(EXPECTED)
    expected = duration_seconds(declared) if declared else None
    if declared and expected is None:
        problems.append(f"{EXPECTED}: got {declared!r}, expected a duration like 2h; it is learned instead")
    return Window(
        created_seconds=created,
        deadline_seconds=created + (length or 0.0),
        expected_seconds=expected,
        release_by_seconds=unix_seconds(notes.get(RELEASE_BY)),
        planned_start_seconds=unix_seconds(notes.get(PLANNED_START)),
        problems=tuple(problems),
    )


def concerns_job(job: Job) -> bool:
    """Whether the Job has a window and its suspend is ours to change."""
    metadata = job.metadata
    named = WINDOW in metadata.annotations or WINDOW in metadata.labels
    if not named or KUEUE_QUEUE_LABEL in metadata.labels:
        return False
    if job.spec.managed_by not in ("", BUILT_IN_CONTROLLER):
        return False
    owner = next((one for one in metadata.owner_references if one.controller), None)
    return owner is None or owner.kind == "CronJob"


def holds_job(job: Job) -> bool:
    """Whether the Job is held for its window now."""
    return (
        job.spec.suspend
        and job.metadata.deletion_timestamp is None
        and not job.ended
        and RELEASED_AT not in job.metadata.annotations
        and concerns_job(job)
    )


def holds_pod(pod: Pod) -> bool:
    """Whether our gate holds the pod, with or without a window that can be read."""
    return pod.metadata.deletion_timestamp is None and any(
        gate.name == WINDOW_GATE for gate in pod.spec.scheduling_gates
    )
