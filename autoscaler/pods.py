"""What a workload's pod means for supply: serving, on its way, refused by the scheduler, or leaving.

Pure. A pod counts as unschedulable only after the scheduler has refused it for a while: until then a node may
be on its way, and calling it lost would make the autoscaler give up too early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from autoscaler.scrape_address import MetricsDoor, metrics_door
from cluster.times import unix_seconds
from cluster.wire import Pod, PodCondition

Standing: TypeAlias = Literal["ready", "starting", "unschedulable", "doomed", "leaving"]
"""``doomed``: it may serve, but its node is about to go, so it is no supply."""

# A start that waited longer than this for a node says nothing about the next start on a free GPU.
LONGEST_WAIT_FOR_NODE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class PodSight:
    """One pod; times are Unix seconds. ``start_seconds`` is set for pods whose start was watched: from
    creation to Ready. ``door``: where it may be asked for its metrics, None where it may not.
    """

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    leaving: bool
    ready: bool
    refused_since: float | None = None
    start_seconds: float | None = None
    door: MetricsDoor | None = None
    node: str = ""

    def standing(self, now: float, unschedulable_after_seconds: float) -> Standing:
        """What the pod is worth as supply at ``now``."""
        if self.leaving:
            return "leaving"
        if self.ready:
            return "ready"
        refused = self.refused_since is not None and now - self.refused_since > unschedulable_after_seconds
        return "unschedulable" if refused else "starting"


def sight(pod: Pod, before: PodSight | None) -> PodSight:
    """Read a pod; ``before`` is the last sight of it, None when it is new to us."""
    conditions = {condition.type: condition for condition in pod.status.conditions}
    is_ready = conditions.get("Ready", PodCondition()).status == "True"
    placed = conditions.get("PodScheduled", PodCondition())
    refused_since = None
    if placed.status == "False" and placed.reason == "Unschedulable":
        refused_since = unix_seconds(placed.last_transition_time)
    start_seconds = None if before is None else before.start_seconds
    if is_ready and before is not None and not before.ready and start_seconds is None:
        start_seconds = _start_seconds(pod, conditions)
    return PodSight(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        labels=pod.metadata.labels,
        leaving=pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Succeeded", "Failed"),
        ready=is_ready,
        refused_since=refused_since,
        start_seconds=start_seconds,
        door=metrics_door(pod),
        node=pod.spec.node_name,
    )


def _start_seconds(pod: Pod, conditions: Mapping[str, PodCondition]) -> float | None:
    created = unix_seconds(pod.metadata.creation_timestamp)
    ready = unix_seconds(conditions["Ready"].last_transition_time)
    if created is None or ready is None:
        return None
    placed = unix_seconds(conditions.get("PodScheduled", PodCondition()).last_transition_time)
    if placed is not None and placed - created > LONGEST_WAIT_FOR_NODE_SECONDS:
        return None
    return max(0.0, ready - created)
