"""Who else sets a workload's replicas: an autoscaler that names it, or a hand that keeps changing the count.

Two writers undo each other's work for ever, so the second one is detected and told, never fought (rule 13):

- A HorizontalPodAutoscaler or a KEDA ScaledObject that targets the same object is a second writer for as
  long as it exists (a ScaledObject that is paused is none). Versions of a kind are one kind.
- Else ``spec.replicas`` is compared with what was last written or accepted here. A single change by somebody
  else (``kubectl scale``) is taken over as the count to go on from, and told. Two within ``WINDOW_SECONDS``
  are a second writer, until a window has passed without another. Setting a workload to 0 and back is how
  people pause it, and counts as neither.

A restart remembers nothing: the first count seen is accepted. The change's author is named by
``metadata.managedFields``. With ``actuator: advise`` nothing of this is asked: there another writes by
design.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import msgspec

from autoscaler.replicas_writers import ReplicasWriter
from autoscaler.targets import ScaleSight, Target
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ObjectMeta

WINDOW_SECONDS: Final = 900.0
MOST_CHANGES: Final = 2
OURSELVES: Final = "slicewise-controller"
_HPAS: Final = "/apis/autoscaling/v2/horizontalpodautoscalers"
_SCALED_OBJECTS: Final = "/apis/keda.sh/v1alpha1/scaledobjects"
_PAUSED, _PAUSED_AT = "autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas"
_NO: Final = frozenset({"0", "f", "F", "false", "False", "FALSE"})  # as KEDA reads it; anything else pauses

Aim = tuple[str, str, str, str]
"""API group, kind, namespace and name of a target."""


# --- changes by others -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """``spec.replicas`` went from ``before`` to ``after`` by somebody else's hand."""

    at_seconds: float
    author: str
    before: int
    after: int

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"{self.author} set the replicas from {self.before} to {self.after}; going on from there"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one target: the count ``expected`` to be there, and others' newest changes."""

    expected: int
    changes: tuple[Change, ...] = ()

    def seen(self, replicas: int, author: str, now: float) -> tuple[Record, Change | None]:
        """Take in the count that is there now; return the change when somebody else made one."""
        if replicas == self.expected:
            return self, None
        change = Change(now, author, self.expected, replicas)
        counts = replicas > 0 and self.expected > 0
        kept = (*self.changes, change)[-MOST_CHANGES:] if counts else self.changes
        return Record(replicas, kept), change

    def rival(self, now: float) -> str | None:
        """Name the one who keeps changing the count; None when nobody does."""
        if len(self.changes) < MOST_CHANGES:
            return None
        first, last = self.changes[0], self.changes[-1]
        if last.at_seconds - first.at_seconds > WINDOW_SECONDS or now - last.at_seconds > WINDOW_SECONDS:
            return None
        return last.author


def written_by_us(writers: Sequence[ReplicasWriter] | None) -> bool:
    """Whether the count that is there is this controller's: who changes a field takes it from the others."""
    return any(writer.manager == OURSELVES for writer in writers or ())


def author_of(writers: Sequence[ReplicasWriter] | None) -> str:
    """The newest owner of ``spec.replicas`` other than ourselves; "somebody" when nothing tells."""
    others = [writer for writer in writers or () if writer.manager != OURSELVES]
    newest = max(others, key=lambda writer: writer.time, default=None)
    return "somebody" if newest is None else newest.manager


# --- autoscalers that name the target --------------------------------------------------------------------


class _Reference(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """autoscaling/v2 CrossVersionObjectReference; KEDA's has defaults."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str = ""


class _Spec(msgspec.Struct, rename="camel", frozen=True, gc=False):
    scale_target_ref: _Reference = _Reference()


class Autoscaler(msgspec.Struct, frozen=True, gc=False):
    """A HorizontalPodAutoscaler or a ScaledObject: whom it scales."""

    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()


@dataclass(slots=True)
class Autoscalers:
    """The autoscalers of one kind by what they scale; a handler for their reflector."""

    kind: str
    by_aim: dict[Aim, str] = field(default_factory=dict)
    _aims: dict[tuple[str, str], Aim] = field(default_factory=dict)

    def replaced(self, items: Sequence[Autoscaler]) -> None:
        found = {(item.metadata.namespace, item.metadata.name): _aimed_at(item) for item in items}
        self._aims = {key: aim for key, aim in found.items() if aim is not None}
        self._sort()

    def changed(self, kind: str, item: Autoscaler) -> None:
        key = item.metadata.namespace, item.metadata.name
        aim = None if kind == "DELETED" else _aimed_at(item)
        if self._aims.get(key) == aim:  # most events tell of a status
            return
        if aim is None:
            del self._aims[key]
        else:
            self._aims[key] = aim
        self._sort()

    def _sort(self) -> None:
        self.by_aim = {aim: f"{self.kind} {name}" for (_, name), aim in sorted(self._aims.items())}


def _aimed_at(item: Autoscaler) -> Aim | None:
    """What an autoscaler scales; None for one that is paused."""
    notes = item.metadata.annotations
    if _PAUSED_AT in notes or notes.get(_PAUSED, "false") not in _NO:
        return None
    reference = item.spec.scale_target_ref
    return _group(reference.api_version), reference.kind, item.metadata.namespace, reference.name


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _aim(target: Target) -> Aim:
    return _group(target.api_version), target.kind, target.namespace, target.name


# --- live ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """``rival``: who sets the replicas as well (None: nobody). ``change``: what somebody else did once."""

    rival: str | None = None
    change: Change | None = None


class Rivals(Protocol):
    """What the controller needs of ``OtherWriters``."""

    def look(self, sight: ScaleSight, now: float) -> Look: ...

    def wrote(self, target: Target, replicas: int) -> None: ...

    def forget(self, target: Target) -> None: ...


class OtherWriters:
    """Watches autoscalers and remembers counts. ``look`` is used by the thread that runs the rounds, and asks
    nobody.
    """

    def __init__(
        self,
        api: Api,
        writers: Callable[[Target], Sequence[ReplicasWriter] | None],
    ) -> None:
        """``writers``: who owns ``spec.replicas`` of a target, None where nothing tells."""
        self._writers = writers
        self._records: dict[Target, Record] = {}
        self._hpas, self._scaled = Autoscalers("HorizontalPodAutoscaler"), Autoscalers("ScaledObject")
        self._watches = (
            Reflector(api, _HPAS, Autoscaler, self._hpas),
            # KEDA may be installed and removed at any time.
            Reflector(api, _SCALED_OBJECTS, Autoscaler, self._scaled, optional=True),
        )

    def start(self) -> None:
        """Start watching; returns at once."""
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        """End the watches."""
        for watch in self._watches:
            watch.stop()

    @property
    def ready(self) -> bool:
        """Whether the autoscalers are known, or cannot be (then counts alone tell)."""
        return all(watch.synced.is_set() or watch.last_error is not None for watch in self._watches)

    def look(self, sight: ScaleSight, now: float) -> Look:
        """Say who else sets the replicas of a target; ``now`` is of any clock that never runs backwards."""
        target, aim = sight.target, _aim(sight.target)
        # A ScaledObject works through an HPA of its own; it is the one that a person knows.
        named = self._scaled.by_aim.get(aim) or self._hpas.by_aim.get(aim)
        if named is not None:  # its changes are expected, and forgotten when it goes
            self._records[target] = Record(sight.replicas)
            return Look(named)
        record, change = self._records.get(target) or Record(sight.replicas), None
        if record.expected != sight.replicas:
            writers = self._writers(target)
            if written_by_us(writers):  # the answer to our write was lost, or another replica of us led
                record = replace(record, expected=sight.replicas)
            else:
                record, change = record.seen(sight.replicas, author_of(writers), now)
        self._records[target] = record
        return Look(record.rival(now), change)

    def wrote(self, target: Target, replicas: int) -> None:
        """Take note of a count that was written here."""
        record = self._records.get(target)
        self._records[target] = replace(record, expected=replicas) if record else Record(replicas)

    def forget(self, target: Target) -> None:
        """Drop what is known of a target; the next count seen is accepted."""
        self._records.pop(target, None)
