"""Say which pods shall go before a workload is lowered: ``controller.kubernetes.io/pod-deletion-cost``.

The order is that of ``victims``: starting, then idlest, then the pod whose going heals most fragmentation

    healing = V(node without the pod) - V(node with it)

with V the value of a node's free space by the scheduler's price tables, in money per hour. Only the pods that
go are marked, the first of them with the lowest cost; marks of ours on others are taken away. So a lowering
by k writes about k annotations, on pods that are about to be deleted. A cost that somebody else set is
left alone, and its pod is chosen only when there are not enough others.

Only ReplicaSets look at the cost (KEP-2255), so only pods that a ReplicaSet owns are marked. A ReplicaSet
deletes pods without a node, pending and unready ones before it looks at costs at all. Whatever fails here is
logged and stops no scaling: then the ReplicaSet chooses by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.replica_shape import REVISION_LABELS
from autoscaler.targets import ScaleSight, Target
from autoscaler.victims import Candidate, order_of_going
from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.wire import Pod
from metrics.samples import NoData
from scheduler.decider import Decider
from scheduler.scoring.fragmentation import node_value

log = logging.getLogger(__name__)

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
# Far below what people use, so that ours are told from theirs; an int32 all the same.
LOWEST_COST: Final = -1_000_000_000
_OURS_BELOW: Final = LOWEST_COST // 2
# Of a larger step the first so many are marked; the ReplicaSet chooses the others.
MOST_PODS: Final = 64
# Seconds of rounds that marking may take: so much at once, and so much of each second in the long run.
MOST_SECONDS: Final = 0.5
SHARE_OF_TIME: Final = 0.1
_AT_ONCE: Final = 8
_TEMPLATE_HASH: Final = REVISION_LABELS[0]

Loads = Callable[[Target], Mapping[str, float] | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """A change to one pod: its new deletion cost, None to take ours away."""

    name: str
    value: int | None


def costs(pods: Sequence[Candidate], stated: Mapping[str, int], going: int) -> tuple[Cost, ...]:
    """Return what must change so that ``going`` of ``pods`` go in the order of ``victims``.

    ``stated`` are the costs that stand on the pods now, by name.
    """
    others = {name for name, cost in stated.items() if cost >= _OURS_BELOW}
    order = order_of_going([pod for pod in pods if pod.name not in others])
    chosen = {name: LOWEST_COST + place for place, name in enumerate(order[:going])}
    names = [pod.name for pod in pods if pod.name not in others]
    return tuple(
        Cost(name, chosen.get(name)) for name in sorted(names) if stated.get(name) != chosen.get(name)
    )


class DeletionCosts:
    """Marks pods. Safe to use from several threads."""

    def __init__(
        self,
        api: Api,
        pods: PodIndex,
        loads: Loads,
        healing: Callable[[str], float],
        *,
        doomed: Callable[[PodSight], bool] = lambda _pod: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``loads``: requests in flight by pod name of a target, None before they are known; ``healing``: by
        pod UID, what is won when it goes; ``doomed``: whether the pod's node is about to go, so that the pod
        goes first, as one that does not serve.
        """
        self._doomed = doomed
        self._api, self._pods, self._loads, self._healing = api, pods, loads, healing
        self._clock = clock
        self._lock = threading.Lock()
        self._left_seconds, self._at = MOST_SECONDS, clock()

    def mark(self, sight: ScaleSight, going: int) -> None:
        """Mark the pods that shall go when ``going`` of the workload's replicas are taken away."""
        pods = [
            pod
            for pod in self._pods.matching(sight.target.namespace, sight.selector)
            if not pod.leaving and (_TEMPLATE_HASH in pod.labels or sight.target.kind == "ReplicaSet")
        ]
        if len(pods) <= going:
            return
        began = self._clock()
        if not self._may_begin(began):
            log.info("%s: too many workloads are lowered at once, its ReplicaSet chooses", sight.target)
            return
        try:
            candidates = self._candidates(sight.target, pods)
            self._write(sight.target, costs(candidates, self._stated(sight), min(going, MOST_PODS)))
        except ApiError as error:
            log.warning("%s: its ReplicaSet chooses which pods go: %s", sight.target, error)
        finally:
            with self._lock:
                self._left_seconds -= self._clock() - began

    def _may_begin(self, now: float) -> bool:
        with self._lock:
            self._left_seconds = min(MOST_SECONDS, self._left_seconds + SHARE_OF_TIME * (now - self._at))
            self._at = now
            return self._left_seconds > 0.0

    def _candidates(self, target: Target, pods: Sequence[PodSight]) -> list[Candidate]:
        loads = self._loads(target) or {}
        unknown = NoData("the pod does not report")
        return [
            Candidate(
                pod.name,
                pod.ready and not self._doomed(pod),
                loads.get(pod.name, unknown),
                self._healing(pod.uid),
            )
            for pod in pods
        ]

    def _stated(self, sight: ScaleSight) -> dict[str, int]:
        """The costs that stand on the workload's pods: read now, since nothing else keeps them."""
        matched = ",".join(f"{key}={value}" for key, value in sight.selector.pairs)
        path = f"/api/v1/namespaces/{quote(sight.target.namespace)}/pods"
        found = self._api.list_objects(path, Pod, {"labelSelector": matched})
        written = {pod.metadata.name: pod.metadata.annotations.get(ANNOTATION, "") for pod in found}
        return {name: int(text) for name, text in written.items() if _is_cost(text)}

    def _write(self, target: Target, changes: Sequence[Cost]) -> None:
        def patch(change: Cost) -> None:
            value = None if change.value is None else str(change.value)
            path = f"/api/v1/namespaces/{quote(target.namespace)}/pods/{quote(change.name)}"
            self._api.patch(path, {"metadata": {"annotations": {ANNOTATION: value}}})

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="deletion-cost") as pool:
            list(pool.map(patch, changes[: 2 * MOST_PODS]))


def _is_cost(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal()


def healing_of(decider: Decider) -> Callable[[str], float]:
    """By how much the fleet's free space is worth more once a pod (UID) is gone, money per hour; 0 without
    prices.
    """

    def healing(uid: str) -> float:
        fleet = decider.fleet
        with fleet.lock:
            world = decider.world()
            if not world.tables.gpu_value:
                return 0.0
            rows, after = fleet.view_without(uid)
            if not len(rows):
                return 0.0
            before = fleet.view(rows)
            gained = node_value(world, after, after.occupied) - node_value(world, before, before.occupied)
            return float(gained.sum())

    return healing
