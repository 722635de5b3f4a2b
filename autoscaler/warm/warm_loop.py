"""Keeps placeholders and prefetches as the policies say: looks, asks the pure parts, lets the hands work.

Looks every second, and at once when the scheduler refuses a pod. Works only while this process leads; what it
has made belongs to the policy's ConfigMap and is collected with it, whoever runs. Pods that have ended are
swept away, for the watch of living pods does not show them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from autoscaler.controller import Policies, PolicyKey
from autoscaler.decide import cold_start_seconds
from autoscaler.forecast import Forecast
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.ports import Recorder, ScaleReads
from autoscaler.replica_shape import PodTemplate
from autoscaler.signals import Signals
from autoscaler.sizing import DEFAULT_PER_REPLICA
from autoscaler.targets import ScaleSight, Target, TargetRefused
from autoscaler.view import View
from autoscaler.warm import warm_pods
from autoscaler.warm.placeholder_count import Moment, Wanted, placeholders_wanted
from autoscaler.warm.prefetching import Fleet, Prefetching
from autoscaler.warm.warm_book import WarmBook
from autoscaler.warm.warm_hands import WarmHands
from autoscaler.warm.warm_plan import steps
from autoscaler.warm.warm_pods import WarmPod
from cluster import event_reasons
from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.periodic import Periodic
from cluster.policy import AutoscalingPolicy
from cluster.warm_policy import Placeholders
from cluster.wire import ObjectReference
from metrics.groups import WarmMetrics
from metrics.samples import NoData

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 30.0
# Where the next replicas would go takes a look at all nodes, and an image takes minutes anyway.
PREFETCH_SECONDS: Final = 10.0
# A replica that found no room within this was refused for another reason; others need not wait for it.
HELPED_SECONDS: Final = 60.0
# Victims of a preemption are gone, and a nomination is bound, well within this.
NOMINATED_SECONDS: Final = 5.0
_MOST_MADE: Final = 8
# The watch shows a pod that was made well within this; until then it counts as there.
SHOWN_SECONDS: Final = 10.0
# What was refused (a right, a quota, a priority class that is missing) is not asked for at every turn.
REFUSED_SECONDS: Final = 15.0

Json = dict[str, Any]


class Templates(Protocol):
    """What is needed of ``replica_shape.ReplicaShapes``, which the control loop has read already."""

    def wants_reading(self, sight: ScaleSight, pods: Sequence[PodSight]) -> bool: ...

    def read(self, sight: ScaleSight, pods: Sequence[PodSight]) -> None: ...

    def template(self, target: Target) -> PodTemplate | NoData: ...


@dataclass(slots=True)
class _Memory:
    """What is kept of one workload."""

    forecast: Forecast | None = None
    forecast_at: float = 0.0
    wanted: Wanted = field(default_factory=Wanted)
    made: dict[str, float] = field(default_factory=dict)
    make_again_at: float = 0.0
    prefetch_at: float = 0.0
    problem: str = ""
    no_placeholders: str = ""


class WarmLoop(Periodic):
    """Owns the thread; ``turn`` is called by it, and by tests."""

    def __init__(
        self,
        api: Api,
        policies: Callable[[], Policies],
        owner_of: Callable[[PolicyKey], ObjectReference | None],
        views: Callable[[], Iterable[View]],
        scales: ScaleReads,
        templates: Templates,
        pods: PodIndex,
        book: WarmBook,
        fleet: Fleet,
        recorder: Recorder,
        metrics: WarmMetrics,
        *,
        active: Callable[[], bool],
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``owner_of``: the ConfigMap of a policy; ``active``: whether this process leads and everything is
        known; ``clock``: the controller's; ``wall_clock``: Unix time.
        """
        super().__init__("warm", self.turn, PERIOD_SECONDS, if_failed="warm capacity: a turn failed")
        self._policies, self._owner_of, self._views = policies, owner_of, views
        self._scales, self._templates = scales, templates
        self._pods, self._book, self._fleet = pods, book, fleet
        self._recorder, self._metrics = recorder, metrics
        self._active = active
        self._hands = WarmHands(api, metrics, dry_run=dry_run)
        self._prefetching = Prefetching(self._hands, fleet)
        self._clock, self._wall_clock = clock, wall_clock
        self._memories: dict[Target, _Memory] = {}
        self._helped: dict[str, float] = {}
        self._swept: float | None = None
        book.refused_seen = self.nudge

    def turn(self) -> None:
        """Bring every workload's warm pods to what its policy says now."""
        if not self._active():
            self._forget_all()
            return
        now = self._clock()
        wanted = {
            Target.of(policy, key[0]): (key, policy)
            for key, policy in self._policies().items()
            if policy.warm.placeholders is not None or policy.warm.prefetch is not None
        }
        for target in set(self._memories) - set(wanted):
            self._forget(target)
        self._sweep_orphans(wanted)
        if not wanted:
            return
        views = {view.target: view for view in self._views()}
        sights = {target: sight for target in wanted if (sight := self._sight(target)) is not None}
        refused = {target: self._refused(sight) for target, sight in sights.items()}
        searching = {uid for uids in refused.values() for uid in uids}
        self._helped = {uid: at for uid, at in self._helped.items() if uid in searching}
        paused = any(now - at < HELPED_SECONDS for at in self._helped.values()) or any(
            self._book.held(target) and not self._helped.keys() >= set(uids)
            for target, uids in refused.items()
        )
        for target, sight in sights.items():
            key, policy = wanted[target]
            memory = self._memories.setdefault(target, _Memory())
            try:
                self._keep_warm(key, policy, sight, views.get(target), memory, refused[target], paused, now)
            except (ApiError, TargetRefused) as error:
                memory.make_again_at = now + REFUSED_SECONDS
                self._failed(key, memory, str(error))
            else:
                if now >= memory.make_again_at:
                    memory.problem = ""
        if self._swept is None or now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._prefetching.ended(self._hands.sweep_ended(), now)

    # --- one workload -------------------------------------------------------------------------------------

    def _keep_warm(
        self,
        key: PolicyKey,
        policy: AutoscalingPolicy,
        sight: ScaleSight,
        view: View | None,
        memory: _Memory,
        refused: list[str],
        paused: bool,
        now: float,
    ) -> None:
        target, owner = sight.target, self._owner_of(key)
        if owner is None or view is None:
            return
        template = self._template(key, sight, memory, now)
        mine = self._book.of(str(target))
        placeholders = [pod for pod in mine if pod.kind == "placeholder"]
        if policy.warm.placeholders is not None:
            count = self._wanted(policy, policy.warm.placeholders, view, memory, now)
            why = "" if template is None else warm_pods.why_no_placeholder(template["spec"])
            if why and why != memory.no_placeholders:
                self._tell(key, f"{target}: no placeholders: {why}")
            memory.no_placeholders = why
            count = 0 if why else count
            self._place(policy, owner, target, memory, template, placeholders, refused, paused, count)
        due = now >= max(memory.make_again_at, memory.prefetch_at)
        if policy.warm.prefetch is not None and template is not None and due:
            memory.prefetch_at = now + PREFETCH_SECONDS
            prefetches = [pod for pod in mine if pod.kind == "prefetch"]
            held = [pod.node for pod in placeholders if pod.node]
            self._prefetching.bring(policy.warm.prefetch, owner, target, template, prefetches, held, now)
        self._count(target)

    def _template(self, key: PolicyKey, sight: ScaleSight, memory: _Memory, now: float) -> Json | None:
        """What a replica looks like; None, and said, where that is not known."""
        pods = self._pods.staying(sight.target.namespace, sight.selector)
        if self._templates.wants_reading(sight, pods):
            self._templates.read(sight, pods)
        found = self._templates.template(sight.target)
        if not isinstance(found, NoData):
            return found.as_json()
        if now >= memory.make_again_at:
            memory.make_again_at = now + REFUSED_SECONDS
            self._failed(key, memory, f"{sight.target}: no warm pods: {found.reason}")
        return None

    def _wanted(
        self, policy: AutoscalingPolicy, asked: Placeholders, view: View, memory: _Memory, now: float
    ) -> int:
        cold_start = cold_start_seconds(policy, view.signals)
        forecast, per_replica = self._forecast(policy, view, memory, cold_start)
        moment = Moment(
            planned=max(view.decision.replicas, view.signals.current),
            max_replicas=policy.max_replicas,
            cold_start_seconds=cold_start,
            now=now,
            unix_seconds=self._wall_clock(),
        )
        memory.wanted, count = placeholders_wanted(asked, forecast, per_replica, memory.wanted, moment)
        return count

    def _forecast(
        self, policy: AutoscalingPolicy, view: View, memory: _Memory, cold_start: float
    ) -> tuple[Forecast | None, float]:
        """The forecast that the decision made, or one of our own where the policy states no objective."""
        learned = view.decision.state.learned
        given = None if policy.in_flight is None else policy.in_flight.per_replica
        if learned is not None:
            return learned.forecast, given or learned.per_replica or DEFAULT_PER_REPLICA
        seen = _in_flight(view.signals)
        if seen is not None and view.decided_at_seconds > memory.forecast_at:
            at = memory.forecast_at = view.decided_at_seconds
            known = memory.forecast or Forecast.begun(seen, at)
            memory.forecast = known.seen(seen, at, lead_seconds=cold_start, unix_seconds=self._wall_clock())
        return memory.forecast, given or DEFAULT_PER_REPLICA

    def _place(
        self,
        policy: AutoscalingPolicy,
        owner: ObjectReference,
        target: Target,
        memory: _Memory,
        template: Json | None,
        existing: list[WarmPod],
        refused: list[str],
        paused: bool,
        count: int,
    ) -> None:
        plan = steps(count, existing, refused, helped=frozenset(self._helped), paused=paused)
        for pod, replica in plan.hand_over:
            self._helped[replica] = self._clock()
            self._hands.delete(pod, "placeholder_handed_over", "gives way to a replica")
        for pod in plan.let_go:
            self._hands.delete(pod, "placeholder_deleted", "no longer wanted")
        now, shown = self._clock(), {pod.uid for pod in existing}
        memory.made = {
            uid: at for uid, at in memory.made.items() if uid not in shown and now - at < SHOWN_SECONDS
        }
        if template is None or now < memory.make_again_at:
            return
        body = warm_pods.placeholder(template, target, owner, policy.warm.image)
        for _ in range(min(plan.make - len(memory.made), _MOST_MADE)):
            uid = self._hands.create(target, body, "placeholder_created")
            if uid:
                memory.made[uid] = now

    # --- the API server -----------------------------------------------------------------------------------

    def _sight(self, target: Target) -> ScaleSight | None:
        try:
            return self._scales.read(target)
        except (ApiError, TargetRefused) as error:
            log.debug("warm capacity: %s", error)  # the control loop says it
            return None

    def _refused(self, sight: ScaleSight) -> list[str]:
        """UIDs of the replicas that the scheduler refuses and that have room nowhere, oldest first. A
        nomination is room only while it is young: one that was refused had been overtaken.
        """
        facts, now = self._fleet.decider.fleet.facts, self._wall_clock()
        pods = [
            pod
            for pod in self._pods.matching(sight.target.namespace, sight.selector)
            if pod.refused_since is not None
            and not (pod.leaving or pod.ready or pod.node)
            and (now - pod.refused_since >= NOMINATED_SECONDS or facts.node_of_pod(pod.uid) is None)
        ]
        pods.sort(key=lambda pod: (pod.refused_since or 0.0, pod.name))
        return [pod.uid for pod in pods]

    # --- cleaning up --------------------------------------------------------------------------------------

    def _sweep_orphans(self, wanted: Mapping[Target, tuple[PolicyKey, AutoscalingPolicy]]) -> None:
        """Delete the warm pods that no policy asks for any more."""
        kinds: dict[tuple[str, str], AutoscalingPolicy] = {
            (target.namespace, str(target)): policy for target, (_, policy) in wanted.items()
        }
        for pod in self._book.all():
            policy = kinds.get((pod.namespace, pod.workload))
            asked = policy is not None and (
                policy.warm.placeholders if pod.kind == "placeholder" else policy.warm.prefetch
            )
            if not asked:
                try:
                    self._hands.delete(pod, "placeholder_deleted", "no policy asks for it")
                except ApiError as error:
                    self._metrics.changes.labels("error").inc()
                    log.warning("warm capacity: %s", error)

    def _failed(self, key: PolicyKey, memory: _Memory, problem: str) -> None:
        """Count an attempt that came to nothing; say why once, until it is for another reason."""
        self._metrics.changes.labels("error").inc()
        if memory.problem != problem:
            memory.problem = problem
            self._tell(key, problem)

    def _tell(self, key: PolicyKey, problem: str) -> None:
        log.warning("warm capacity: %s", problem)
        about = self._owner_of(key)
        if about is not None:
            hint = ""
            if warm_pods.PRIORITY_CLASS in problem or "cannot create resource" in problem:
                hint = "; apply deploy/manifests/warm.yaml, which brings the class and the rights"
            self._recorder.record(
                about, event_reasons.WARM_REFUSED, problem + hint, event_reasons.WARNING, "KeepWarm"
            )

    def _count(self, target: Target) -> None:
        pods = self._book.of(str(target))
        counts = {
            "placeholder_running": sum(p.kind == "placeholder" and bool(p.node) for p in pods),
            "placeholder_waiting": sum(p.kind == "placeholder" and not p.node for p in pods),
            "prefetch": sum(p.kind == "prefetch" for p in pods),
        }
        for state, count in counts.items():
            self._metrics.pods.labels(target.namespace, target.kind, target.name, state).set(count)

    def _forget(self, target: Target) -> None:
        del self._memories[target]
        labels = {"namespace": target.namespace, "kind": target.kind, "name": target.name}
        self._metrics.pods.remove_by_labels(labels)

    def _forget_all(self) -> None:
        for target in list(self._memories):
            self._forget(target)
        self._helped, self._swept = {}, None
        self._prefetching.forget()


def _in_flight(signals: Signals) -> float | None:
    return None if isinstance(signals.in_flight, NoData) else signals.in_flight
