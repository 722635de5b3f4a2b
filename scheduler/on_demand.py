"""How many replicas of a workload stand on nodes that nobody takes away, and whether the next one must.

    slicewise.io/on-demand: "2"      two replicas, at least
    slicewise.io/on-demand: "50%"    half of them, rounded up

on the pod template. A node is interruptible when its class in the policy has ``interruptionsPerHour`` above
0. While fewer replicas than that stand (or are about to) on other nodes, the next one is refused every
interruptible node; after that price alone decides. Replicas are the pods of one controller (a ReplicaSet, so
each revision counts for itself). Nobody is moved for it: a floor that is raised counts for new pods.
Whoever moves pods for other reasons (``scheduler.repack``) asks here what a successor will be refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from cluster.wire import Pod

ANNOTATION = "slicewise.io/on-demand"

_FORM = re.compile(r"(\d{1,6})(%?)")


@dataclass(frozen=True, slots=True)
class Floor:
    """``amount`` replicas, or percent of them."""

    amount: int
    percent: bool = False

    def of(self, replicas: int) -> int:
        """Return the least number of replicas on nodes that are not interruptible."""
        return ceil(replicas * self.amount / 100.0) if self.percent else self.amount


@dataclass(frozen=True, slots=True)
class Kept:
    """One workload in numbers: at least ``least`` of its replicas belong on nodes that are not interruptible,
    and ``stable`` stand there.
    """

    least: int
    stable: int

    @property
    def short(self) -> bool:
        """Whether the next replica may go to no other node."""
        return self.stable < self.least

    def without(self, gone: int) -> Kept:
        """The same when so many of those that stand there have left."""
        return Kept(self.least, self.stable - gone)


def floor_of(text: str) -> Floor | None:
    """Read the annotation; None for what is neither a number nor a percentage up to 100."""
    found = _FORM.fullmatch(text.strip())
    if found is None or (found[2] and int(found[1]) > 100):
        return None
    return Floor(int(found[1]), bool(found[2]))


def group_of(pod: Pod) -> str | None:
    """What the replicas of a workload have in common: the UID of their controller."""
    owner = next((one for one in pod.metadata.owner_references if one.controller), None)
    return None if owner is None else owner.uid


class Siblings:
    """Living pods with the annotation, by controller."""

    def __init__(self) -> None:
        self._group: dict[str, str] = {}
        self._members: dict[str, set[str]] = {}

    def put(self, uid: str, pod: Pod) -> None:
        """Take a pod in; one without the annotation or a controller is none of ours."""
        group = group_of(pod) if ANNOTATION in pod.metadata.annotations else None
        if group is None or self._group.get(uid) == group:
            return
        self._group[uid] = group
        self._members.setdefault(group, set()).add(uid)

    def drop(self, uid: str) -> None:
        """Forget a pod."""
        group = self._group.pop(uid, None)
        if group is None:
            return
        members = self._members[group]
        members.discard(uid)
        if not members:
            del self._members[group]

    def of(self, pod: Pod, uid: str) -> frozenset[str]:
        """The others of its workload."""
        return frozenset(self._members.get(group_of(pod) or "", ())) - {uid}


def must_be_on_demand(
    pod: Pod, uid: str, siblings: Siblings, stable: Callable[[frozenset[str]], int]
) -> tuple[bool, str]:
    """Say whether the pod may not go to an interruptible node, and what is wrong with its annotation ("":
    nothing). ``stable``: how many of some pods (UIDs) stand on nodes that are not interruptible.
    """
    text = pod.metadata.annotations.get(ANNOTATION)
    if text is None:
        return False, ""
    floor = floor_of(text)
    if floor is None:
        return False, f'annotation {ANNOTATION}: got {text!r}, expected a number or a percentage as in "50%"'
    others = siblings.of(pod, uid)
    return Kept(floor.of(len(others) + 1), stable(others)).short, ""
