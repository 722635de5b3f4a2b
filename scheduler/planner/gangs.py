"""Which waiting pods form a gang, and when a gang may be planned: all members together, or none.

A pod belongs to a gang by one of

- ``spec.schedulingGroup.podGroupName`` (Workload API, 1.36): the PodGroup's ``gang.minCount`` is the size;
- label ``slicewise.io/gang`` with label or annotation ``slicewise.io/gang-size``;
- labels ``pod-group.scheduling.sigs.k8s.io/name`` and ``.../min-available`` (the coscheduling plugin's).

A gang is *ready* when members that run, are released or wait come to its size. Then as many waiting members
as it still lacks are one unit; members beyond the size are planned like any pod once the gang is released. A
member without a readable size is no member: it is planned alone, and told so.

Release goes by three steps, so that a pod which the planner does not control cannot come between:

1. all members are nominated behind their gates: kube-scheduler then keeps their room from pods of equal or
   lower priority;
2. the watch has shown all nominations for ``CONFIRM_SECONDS``: whatever kube-scheduler bound before it knew
of
   them is seen by then. If every member still has its room the gates go, else all nominations;
3. from the first gate on there is no way back: the remaining gates go whatever happens, by whoever leads.

Pure: what the watch shows goes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cluster.wire import Pod
from scheduler.kept_objects import FINISHED_PHASES
from scheduler.planner.queue import WaitingPod, is_gated

GANG_LABEL = "slicewise.io/gang"
GANG_SIZE = "slicewise.io/gang-size"
COSCHEDULING_NAME = "pod-group.scheduling.sigs.k8s.io/name"
COSCHEDULING_SIZE = "pod-group.scheduling.sigs.k8s.io/min-available"

CONFIRM_SECONDS = 0.5
"""Longer than kube-scheduler's watch is ever behind while it works."""

Source = Literal["label", "workload"]
State = Literal["waiting", "half", "released", "bound"]


@dataclass(frozen=True, slots=True)
class GangKey:
    """One gang. ``source`` "workload": kube-scheduler itself keeps such a gang whole."""

    namespace: str
    name: str
    source: Source

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class GangRef:
    """The gang that a pod names, and its size as written; None where it is not readable (yet)."""

    key: GangKey
    size: int | None


@dataclass(frozen=True, slots=True)
class GangUnit:
    """Waiting pods that are placed together or not at all, in queue order."""

    key: GangKey
    pods: tuple[WaitingPod, ...]

    @property
    def priority(self) -> int:
        """The highest of its members."""
        return max(pod.priority for pod in self.pods)


@dataclass(frozen=True, slots=True)
class NominatedGang:
    """Members that have their node but still their gate. ``complete``: with those that run they come to the
    size; ``begun``: some of the gang are released already; ``seconds``: how long the watch has shown it so.
    """

    key: GangKey
    pods: tuple[Pod, ...]
    complete: bool
    begun: bool
    seconds: float


def gang_of(pod: Pod) -> GangRef | None:
    """The gang a pod names, or None."""
    group = (pod.spec.scheduling_group or {}).get("podGroupName", "")
    namespace = pod.metadata.namespace or "default"
    if group:
        return GangRef(GangKey(namespace, group, "workload"), None)
    labels, notes = pod.metadata.labels, pod.metadata.annotations
    if name := labels.get(GANG_LABEL, ""):
        size = _size(labels.get(GANG_SIZE, "") or notes.get(GANG_SIZE, ""))
        return GangRef(GangKey(namespace, name, "label"), size)
    if name := labels.get(COSCHEDULING_NAME, ""):
        size = _size(labels.get(COSCHEDULING_SIZE, ""))
        return None if size is None else GangRef(GangKey(namespace, name, "label"), size)
    return None


def is_kept_whole(pod: Pod) -> bool:
    """Whether a pod's gate must never be taken away for mere lapse of time: it belongs to a gang that nothing
    but our gates keeps whole.
    """
    ref = gang_of(pod)
    return ref is not None and ref.key.source == "label" and ref.size is not None


def _size(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None


@dataclass(slots=True)
class _Member:
    pod: Pod
    state: State
    since_seconds: float


@dataclass(slots=True)
class _Gang:
    size: int | None = None
    members: dict[str, _Member] = field(default_factory=dict)
    done: int = 0


@dataclass(slots=True)
class GangBook:
    """All members of all gangs, waiting or not. Not thread-safe: its owner holds a lock.

    ``group_size``: ``minCount`` of a PodGroup by namespace and name; 0 for a group that is no gang, None
    while it is not known.
    """

    is_member: Callable[[Pod], bool]
    group_size: Callable[[str, str], int | None] = lambda namespace, name: None
    _gangs: dict[GangKey, _Gang] = field(default_factory=dict)
    _key_of: dict[str, GangKey] = field(default_factory=dict)
    _alone: dict[str, _Member] = field(default_factory=dict)

    def observe(self, pod: Pod, now: float) -> None:
        """Take in one pod as the watch shows it."""
        uid = pod.metadata.uid
        ref = gang_of(pod)
        if _state(pod) != "half":
            self._alone.pop(uid, None)
        known = self._key_of.get(uid)
        if known is not None and (ref is None or ref.key != known):
            self.forget(uid)
        if ref is None or pod.metadata.deletion_timestamp or pod.status.phase in FINISHED_PHASES:
            alone = self._alone.get(uid)
            self.forget(uid, succeeded=pod.status.phase == "Succeeded")
            if ref is None and _state(pod) == "half" and not pod.metadata.deletion_timestamp:
                self._alone[uid] = _Member(pod, "half", alone.since_seconds if alone else now)
            return
        if uid not in self._key_of and not self.is_member(pod):
            return
        gang = self._gangs.setdefault(ref.key, _Gang())
        gang.size = ref.size if ref.size is not None else gang.size
        state = _state(pod)
        old = gang.members.get(uid)
        since = old.since_seconds if old is not None and old.state == state else now
        gang.members[uid] = _Member(pod, state, since)
        self._key_of[uid] = ref.key

    def forget(self, uid: str, *, succeeded: bool = False) -> None:
        """Drop a pod; one that did its work still counts as having run."""
        self._alone.pop(uid, None)
        key = self._key_of.pop(uid, None)
        if key is None:
            return
        gang = self._gangs[key]
        gang.members.pop(uid, None)
        gang.done += succeeded
        if not gang.members:
            del self._gangs[key]

    def replace_all(self, pods: Iterable[Pod], now: float) -> None:
        """Take in a fresh list: pods it lacks are gone."""
        items = list(pods)
        present = {pod.metadata.uid for pod in items}
        for uid in [uid for uid in (*self._key_of, *self._alone) if uid not in present]:
            self.forget(uid)
        for pod in items:
            self.observe(pod, now)

    def key_of(self, uid: str) -> GangKey | None:
        """The gang that a pod must be planned with now; None for a pod that is planned alone."""
        key = self._key_of.get(uid)
        if key is None:
            return None
        size = self._size_of(key)
        if size == 0:
            return None
        gang = self._gangs[key]
        return None if size is not None and self._placed(gang) >= size else key

    def unit(self, key: GangKey, waiting: Mapping[str, WaitingPod]) -> GangUnit | str:
        """The members to place now, out of the waiting pods; or why there are none."""
        gang, size = self._gangs.get(key), self._size_of(key)
        if gang is None:
            return f"gang {key} has no members"
        if size is None:
            return f"the size of gang {key} is not known"
        lacking = size - self._placed(gang)
        ready = [waiting[uid] for uid, m in gang.members.items() if m.state == "waiting" and uid in waiting]
        if len(ready) < lacking:
            here = sum(member.state == "waiting" for member in gang.members.values())
            return f"gang {key} has {self._placed(gang) + here} of {size} pods"
        # Pods that have lost their gate come first: nothing else keeps them from being bound alone.
        ready.sort(key=lambda pod: (pod.gated, -pod.priority, pod.created, pod.uid))
        return GangUnit(key, tuple(ready[:lacking]))

    def nominated(self, now: float) -> list[NominatedGang]:
        """Every gang with members nominated behind their gate."""
        found = []
        for key, gang in self._gangs.items():
            half = [member for member in gang.members.values() if member.state == "half"]
            if not half:
                continue
            size = self._size_of(key) or 0
            found.append(
                NominatedGang(
                    key=key,
                    pods=tuple(member.pod for member in half),
                    complete=self._placed(gang) + len(half) >= size,
                    begun=any(member.state in ("released", "bound") for member in gang.members.values()),
                    seconds=now - max(member.since_seconds for member in half),
                )
            )
        return found

    def left_gated(self, now: float, after_seconds: float) -> list[Pod]:
        """Pods on their own that have their node and still their gate, for that long."""
        return [m.pod for m in self._alone.values() if now - m.since_seconds >= after_seconds]

    def _size_of(self, key: GangKey) -> int | None:
        if key.source == "workload":
            return self.group_size(key.namespace, key.name)
        gang = self._gangs.get(key)
        # Without a readable size there is nothing to wait for: its pods are planned alone.
        return 0 if gang is None or gang.size is None else gang.size

    @staticmethod
    def _placed(gang: _Gang) -> int:
        return gang.done + sum(member.state in ("released", "bound") for member in gang.members.values())


def _state(pod: Pod) -> State:
    if pod.spec.node_name:
        return "bound"
    if not pod.status.nominated_node_name:
        return "waiting"
    return "half" if is_gated(pod) else "released"
