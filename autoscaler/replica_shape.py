"""What one replica of a workload asks of a node: read from its newest pod, else from its pod template.

The newest pod goes first, since it is what the next one will look like after admission has had its say
(defaults, injected sidecars, tolerations). A workload without pods is read by ``spec.template``, as
Deployments, StatefulSets and most custom resources have it. Whatever a pod template hash or a controller
revision names is read once; without either, once a pod.

``template`` is the pod itself, for whoever makes pods like it (``autoscaler.warm``); ``shape`` is what counts
of it for room. Replicas of several pods (LeaderWorkerSet) and pods whose place depends on other pods are not
counted: ``NoData`` with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from autoscaler.placeable import ReplicaShape
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.targets import ScaleSight, Target
from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.envelopes import object_decoder
from cluster.wire import ObjectMeta, Pod, PodSpec, PodStatus
from metrics.samples import NoData
from scheduler.decider import Decider
from scheduler.planner.admission import constraints_of

REVISION_LABELS: Final = ("pod-template-hash", "controller-revision-hash")
GROUP_LABEL: Final = "leaderworkerset.sigs.k8s.io/name"
_NONE: Final = msgspec.Raw(b"null")
# A template without pods may be edited unseen, and an answer that failed may come.
KEPT_SECONDS: Final = 30.0


class _Template(msgspec.Struct, rename="camel", frozen=True):
    """core/v1 PodTemplateSpec, or a pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: msgspec.Raw = _NONE
    status: PodStatus = PodStatus()


class _Spec(msgspec.Struct, rename="camel", frozen=True):
    template: _Template | None = None
    leader_worker_template: dict[str, object] | None = None


class _Workload(msgspec.Struct, rename="camel", frozen=True):
    spec: _Spec = _Spec()


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod that stands for its workload's replicas; ``spec`` as JSON. ``grouped``: it is one of several that
    are a replica.
    """

    metadata: ObjectMeta
    spec: bytes
    status: PodStatus
    grouped: bool = False

    def as_json(self) -> dict[str, Any]:
        """The annotations and the spec, as in a manifest."""
        return {
            "metadata": {"annotations": self.metadata.annotations},
            "spec": msgspec.json.decode(self.spec),
        }


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read of one revision; ``until``: when to read again, in seconds of the clock."""

    revision: str
    template: PodTemplate | NoData
    pod: Pod | NoData
    until: float


class ReplicaShapes:
    """Shapes by workload. ``read`` asks the API server at need, ``shape`` only looks at what was read."""

    def __init__(self, api: Api, decider: Decider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._decider, self._clock = api, decider, clock
        self._kept: dict[Target, _Kept] = {}

    def wants_reading(self, sight: ScaleSight, pods: Sequence[PodSight]) -> bool:
        """Whether what is kept of the workload is missing, old, or of another revision."""
        kept = self._kept.get(sight.target)
        return kept is None or kept.revision != self._revision(pods) or self._clock() >= kept.until

    def read(self, sight: ScaleSight, pods: Sequence[PodSight]) -> None:
        """Read the workload's newest pod or its template. Never raises for what the API server says."""
        revision, newest = self._revision(pods), self._newest(pods)
        try:
            found = self._template(sight) if newest is None else self._pod(newest)
            pod = found if isinstance(found, NoData) else _typed(found)
        except (ApiError, msgspec.DecodeError) as error:
            found = pod = NoData(f"its pod template cannot be read ({error})", "outage")
        lasts = newest is not None and isinstance(found, PodTemplate)
        until = float("inf") if lasts else self._clock() + KEPT_SECONDS
        self._kept[sight.target] = _Kept(revision, found, pod, until)

    def template(self, target: Target) -> PodTemplate | NoData:
        """The pod that was read."""
        kept = self._kept.get(target)
        return NoData("its pod template has not been read") if kept is None else kept.template

    def shape(self, target: Target) -> ReplicaShape | NoData:
        """What a replica asks for; to be called with the fleet's lock held."""
        kept = self._kept.get(target)
        if kept is None:
            return NoData("its pod template has not been read")
        pod = kept.pod
        if isinstance(pod, NoData):
            return pod
        demand = self._decider.demand(pod)
        if demand is None:
            return NoData("its pods ask for no GPU")
        if not demand.understood:
            return NoData("the GPU demand of its pods is not understood")
        constraints = constraints_of(pod)
        if constraints.depends_on_pods or any(
            spread.get("whenUnsatisfiable") == "DoNotSchedule" for spread in pod.spec.topology_spread
        ):
            return NoData("where its pods may go depends on other pods")
        return ReplicaShape(demand, constraints, pod.spec.priority)

    def forget(self, target: Target) -> None:
        """Drop what was read of a workload."""
        self._kept.pop(target, None)

    def _pod(self, sight: PodSight) -> PodTemplate:
        path = f"/api/v1/namespaces/{quote(sight.namespace)}/pods/{quote(sight.name)}"
        pod = self._api.get(path, _Template)
        return PodTemplate(
            pod.metadata, bytes(pod.spec), pod.status, grouped=GROUP_LABEL in pod.metadata.labels
        )

    def _template(self, sight: ScaleSight) -> PodTemplate | NoData:
        found = self._api.get(sight.path.removesuffix("/scale"), _Workload).spec
        if found.leader_worker_template is not None:
            return NoData("a replica is a group of pods")
        if found.template is None or bytes(found.template.spec) == bytes(_NONE):
            return NoData("it has no pods yet, and no spec.template to read")
        target, meta = sight.target, found.template.metadata
        metadata = ObjectMeta(
            name=f"{target.name}-",
            namespace=target.namespace,
            labels=meta.labels,
            annotations=meta.annotations,
        )
        return PodTemplate(metadata, bytes(found.template.spec), PodStatus())

    def _revision(self, pods: Sequence[PodSight]) -> str:
        newest = self._newest(pods)
        if newest is None:
            return ""
        return next((newest.labels[label] for label in REVISION_LABELS if label in newest.labels), newest.uid)

    def _newest(self, pods: Sequence[PodSight]) -> PodSight | None:
        known = self._decider.fleet.facts.pods

        def since(pod: PodSight) -> tuple[str, str]:
            fact = known.get(pod.uid)
            return ("" if fact is None else fact.since), pod.name

        return max(pods, key=since, default=None)


def _typed(template: PodTemplate) -> Pod | NoData:
    if template.grouped:
        return NoData("a replica is a group of pods")
    spec = object_decoder(PodSpec).decode(template.spec)
    return Pod(metadata=template.metadata, spec=spec, status=template.status)


def looked_at(
    sights: Iterable[ScaleSight], pods: PodIndex, shapes: ReplicaShapes, pool: Executor
) -> list[tuple[PodSight, ...]]:
    """The pods of each workload that stay; meanwhile ``pool`` has read every shape that wants reading."""
    present = [(sight, pods.staying(sight.target.namespace, sight.selector)) for sight in sights]
    stale = [one for one in present if shapes.wants_reading(*one)]
    list(pool.map(lambda one: shapes.read(*one), stale))
    return [found for _sight, found in present]
