"""Replacements for replicas on nodes that are about to go, asked for before those die.

A workload's controller replaces a pod only when it is gone, minutes after the notice. So while ``k`` replicas
of a workload stand on such nodes, ``k`` more are asked for than the decision says; when they are gone, those
are taken back in the same moment, and the workload's controller keeps what runs:

    spec.replicas = decided + doomed

The decision never sees this: it is shown ``spec.replicas`` less what was added here (the collector counts
doomed pods as no supply), and writes what it decides through here. What was added is remembered in this
process alone, while it leads. After a restart or a change of the lead all doomed replicas count as replaced:
if they were not, the load asks for what is missing, and nothing is doubled. When the answer to a write is
lost, the count that is read next tells whether it was applied; any other leaves unknown what was added.

This may exceed ``maxReplicas`` for as long as doomed replicas live.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace

import msgspec

from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.ports import Recorder, Scales
from autoscaler.targets import ScaleSight, Target
from autoscaler.warm.notices import NodeNotices
from cluster import event_reasons
from cluster.api_errors import ApiError
from cluster.wire import Scale
from metrics.groups import WarmMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surplus:
    """What to ask for: ``base`` replicas as decided, ``added`` for doomed ones; ``changes``: is another
    number than now.
    """

    base: int
    added: int
    changes: bool


def surplus(replicas: int, doomed: int, added: int | None) -> Surplus:
    """Decide from ``spec.replicas``, the replicas on nodes that go, and what was added so far (None: not
    known).

    Of a workload at zero nothing is replaced. Never takes more back than was added.
    """
    if added is None:
        added = min(doomed, max(0, replicas - 1))
    added = min(added, replicas)
    base = replicas - added
    if base == 0:
        return Surplus(base, added, False)
    return Surplus(base, doomed, doomed != added)


class Replacements:
    """Stands between the control loop and the scales. Safe to use from several threads."""

    def __init__(
        self,
        scales: Scales,
        pods: PodIndex,
        notices: NodeNotices,
        recorder: Recorder,
        metrics: WarmMetrics,
        *,
        may_write: Callable[[Target], bool],
    ) -> None:
        """``may_write``: whether this process sets the target's replicas at all, and leads."""
        self._scales, self._pods, self._notices = scales, pods, notices
        self._recorder, self._metrics, self._may_write = recorder, metrics, may_write
        self._lock = threading.Lock()
        self._added: dict[Target, int] = {}
        # After a write without an answer: what is added, by the count that may stand there.
        self._possible: dict[Target, dict[int, int]] = {}

    def read(self, target: Target) -> ScaleSight:
        """The scale as the decision is to see it; sets the replicas first where replacements are due."""
        sight = self._scales.read(target)
        with self._lock:
            possible = self._possible.get(target)
            known = self._added.get(target) if possible is None else possible.get(sight.replicas)
            if not known and not self._notices:
                self._added[target] = 0
                self._possible.pop(target, None)
                return sight
        pods = self._pods.matching(target.namespace, sight.selector)
        doomed = [pod for pod in pods if not pod.leaving and self._notices.of(pod.node)]
        if not doomed and not known:
            self._keep(target, 0)
            return sight
        if not self._may_write(target):
            self._forget([target])  # whoever writes may add some of its own
            return sight
        wanted = surplus(sight.replicas, len(doomed), known)
        if wanted.changes:
            total = wanted.base + wanted.added
            try:
                self._scales.write(sight, total)
            except ApiError:
                with self._lock:
                    counts = self._possible.setdefault(target, {})
                    counts |= {sight.replicas: sight.replicas - wanted.base, total: wanted.added}
                raise
            self._say(sight, wanted, doomed)
        self._keep(target, wanted.added)
        # The version goes with the count that stands there, which is not the one that is shown.
        version = "" if wanted.added or wanted.changes else sight.resource_version
        return replace(sight, replicas=wanted.base, resource_version=version)

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        """Set what was decided, and what was added for doomed replicas; the answer tells of the first."""
        with self._lock:
            added = self._added.get(sight.target, 0) if replicas else 0
        scale = self._scales.write(sight, replicas + added)
        if replicas == 0:  # not before: a write that fails leaves them there
            self._keep(sight.target, 0)
        spec = msgspec.structs.replace(scale.spec, replicas=scale.spec.replicas - added)
        return msgspec.structs.replace(scale, spec=spec)

    def forget(self) -> None:
        """The lead was gained or lost: what was added before says nothing about what others did since."""
        self.keep_only(())

    def keep_only(self, targets: Container[Target]) -> None:
        """Forget the targets that no policy names any more, and take their gauges back."""
        with self._lock:
            known = [target for target in self._added.keys() | self._possible.keys() if target not in targets]
        self._forget(known)

    def _forget(self, targets: Iterable[Target]) -> None:
        for target in targets:
            with self._lock:
                self._added.pop(target, None)
                self._possible.pop(target, None)
            labels = {"namespace": target.namespace, "kind": target.kind, "name": target.name}
            self._metrics.pods.remove_by_labels({**labels, "state": "replacement"})

    def _keep(self, target: Target, added: int) -> None:
        with self._lock:
            before = self._added.get(target, 0)
            self._added[target] = added
            self._possible.pop(target, None)
        if added or before:
            labels = (target.namespace, target.kind, target.name, "replacement")
            self._metrics.pods.labels(*labels).set(added)

    def _say(self, sight: ScaleSight, wanted: Surplus, doomed: list[PodSight]) -> None:
        now = wanted.base + wanted.added
        if doomed:
            marks = sorted({f"{pod.node} ({self._notices.of(pod.node)})" for pod in doomed})
            why = f"{len(doomed)} replicas stand on nodes that are about to go: {', '.join(marks[:3])}"
        else:
            why = "the replicas on nodes that were about to go are gone"
        note = f"{sight.replicas} -> {now} replicas: {why}"
        log.info("%s: %s", sight.target, note)
        reason = event_reasons.SCALED_UP if now > sight.replicas else event_reasons.SCALED_DOWN
        self._recorder.record(sight.reference, reason, note, event_reasons.NORMAL, "Scale")
