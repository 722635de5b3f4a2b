"""One re-cut, step by step, so that it survives a change of leaders: what is under way stands on the node.

    cordoned ─► (settled, still idle) labelled ─► state success, resources offered ─► uncordoned
                     │ a pod came                     │ failed or too late
                     ▼                                ▼
                 uncordoned, given up       labelled back ─► success ─► uncordoned (rolled back)
                                                      │ failed or too late: stays cordoned (stuck)

The record is an annotation on the node. The MIG manager reports in ``nvidia.com/mig.config.state``; the label
is set to ``pending`` together with the wanted configuration, so that an old ``success`` is not taken for the
new one. Pure: what the node shows in, what to do out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

RECORD_ANNOTATION = "slicewise.io/recut"
DONE_ANNOTATION = "slicewise.io/recut-at"
CONFIG_LABEL = "nvidia.com/mig.config"
STATE_LABEL = "nvidia.com/mig.config.state"
CAPABLE_LABEL = "nvidia.com/mig.capable"
SETTLE_SECONDS = 3.0

Phase = Literal["cordoned", "cutting", "returning", "stuck"]
Outcome = Literal["succeeded", "rolled_back", "stuck", "given_up"]


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What is under way on a node; ``since``: Unix seconds of the phase's beginning. ``offers`` and
    ``before``: what its allocatable must show when it is done, or back.
    """

    previous: str
    config: str
    phase: Phase
    since: float
    offers: dict[str, int] = {}
    before: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as the API shows it now. ``used``: whether any pod on it asks for GPUs."""

    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    used: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write the record; ``config`` is labelled with it where given."""

    record: Record
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Remove the record and uncordon; a stuck node stays as it is."""

    outcome: Outcome


def step(record: Record, seen: Seen, now: float, timeout_seconds: float) -> Wait | Write | Finish:
    """Decide the next step of one re-cut."""
    late = now - record.since >= timeout_seconds
    state = seen.labels.get(STATE_LABEL, "")
    match record.phase:
        case "cordoned":
            if now - record.since < SETTLE_SECONDS:
                return Wait()  # a pod that was on its way here when it was cordoned shows up meanwhile
            if seen.used:
                return Finish("given_up")
            return Write(_in(record, "cutting", now), record.config)
        case "cutting":
            if state == "success" and _shows(seen, record.offers):
                return Finish("succeeded")
            if state == "failed" or late:
                return Write(_in(record, "returning", now), record.previous)
            return Wait()
        case "returning":
            if state == "success" and _shows(seen, record.before):
                return Finish("rolled_back")
            if state == "failed" or late:
                return Write(_in(record, "stuck", now))
            return Wait()
        case "stuck":
            # A person takes the annotation away, or the MIG manager comes to itself.
            return Finish("rolled_back") if state == "success" and _shows(seen, record.before) else Wait()


def _in(record: Record, phase: Phase, now: float) -> Record:
    return Record(
        previous=record.previous,
        config=record.config,
        phase=phase,
        since=now,
        offers=record.offers,
        before=record.before,
    )


def _shows(seen: Seen, offers: Mapping[str, int]) -> bool:
    """Whether the device plugin offers what was cut; the MIG manager reports before it has restarted."""
    return all(seen.allocatable.get(name, 0) == count for name, count in offers.items())


def resource_of(name: str) -> str:
    """The device-plugin resource of a class: a profile, or ``whole``."""
    return "nvidia.com/gpu" if name == "whole" else f"nvidia.com/mig-{name.replace('+', '.')}"
