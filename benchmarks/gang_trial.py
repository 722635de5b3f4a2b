"""Random gang sets on a real kube-scheduler: who is bound with whom, and whether everybody's turn comes.

Every set has its own nodes (kwok, by label) and namespace, so that several run side by side on one control
plane. A gang that runs whole is deleted after a moment, as if it had finished, and makes room for the next. A
gang that stays partly bound for longer than ``PARTIAL_SECONDS`` broke its promise; pods that are still
unbound when nothing has moved for ``IDLE_SECONDS`` were starved.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gang_world import GPU, GangSet, random_set
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, in_parallel, node_manifest
from deploy.local.rest import SUCCESS
from scheduler.planner.gangs import GANG_LABEL, GANG_SIZE

PARTIAL_SECONDS = 6.0
IDLE_SECONDS = 75.0
RUN_SECONDS = 0.4
POLL_SECONDS = 0.15
GATE_SECONDS = 20.0
SET_LABEL = "slicewise.io/gang-set"
URGENT = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "urgent"},
    "value": 10,
    # Preemption could take single members out of a running gang: that is another matter.
    "preemptionPolicy": "Never",
}


@dataclass(slots=True)
class Trial:
    """One set under way."""

    number: int
    case: GangSet
    namespace: str
    nodes: list[str]
    left: int
    partial_since: dict[str, float] = field(default_factory=dict)
    whole_since: dict[str, float] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)
    moved_at: float = 0.0
    starved: list[str] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0
    longest_partial_seconds: float = 0.0


def run_trials(
    cluster: ControlPlane,
    seeds: Sequence[int],
    *,
    side_by_side: int = 10,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trial]:
    """Run one set a seed, some at a time; answers what became of each."""
    cluster.apply([URGENT])
    done: list[Trial] = []
    for first in range(0, len(seeds), side_by_side):
        group = [begin(cluster, seed) for seed in seeds[first : first + side_by_side]]
        while any(trial.left or trial.starved for trial in group if not trial.seconds):
            for trial in group:
                if not trial.seconds:
                    step(cluster, trial)
            time.sleep(POLL_SECONDS)
        for trial in group:
            clean_up(cluster, trial)
        done += group
        bad = [trial.number for trial in done if trial.partial or trial.starved]
        say(f"{len(done)} of {len(seeds)} sets, broken: {bad or 'none'}")
    return done


def begin(cluster: ControlPlane, seed: int) -> Trial:
    """Create a set's nodes, namespace and pods."""
    case = random_set(random.Random(seed))
    mark = f"set-{seed}"
    manifests = [
        node_manifest(
            f"{mark}-{name}",
            labels={
                SET_LABEL: mark,
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                "nvidia.com/gpu.count": str(gpus),
                "nvidia.com/gpu.memory": "81559",
            },
            allocatable={GPU: str(gpus)},
        )
        for name, gpus in case.nodes.items()
    ]
    nodes = create_nodes(cluster, manifests)
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": mark, "labels": {"slicewise.io/managed": "true"}},
    }
    cluster.request("POST", "/api/v1/namespaces", namespace)
    path = f"/api/v1/namespaces/{mark}/pods"
    wait_for_gate(cluster, mark)
    pods = [_pod(mark, index, *pod) for index, pod in enumerate(case.pods)]
    in_parallel(cluster, pods, lambda connection, pod: connection.request("POST", path, pod))
    now = time.monotonic()
    return Trial(seed, case, mark, nodes, len(pods), moved_at=now, started=now)


def wait_for_gate(cluster: ControlPlane, namespace: str) -> None:
    """Until the admission plugin knows the gate policy and the namespace: it learns of both by watches."""
    probe = _pod(namespace, 0, "", 0, 1, 0)
    deadline = time.monotonic() + GATE_SECONDS
    while not (
        cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", probe)["spec"].get(
            "schedulingGates"
        )
    ):
        if time.monotonic() > deadline:
            raise TimeoutError(f"pods of {namespace} get no gate within {GATE_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _pod(mark: str, index: int, gang: str, size: int, gpus: int, priority: int) -> dict[str, Any]:
    labels = {GANG_LABEL: gang, GANG_SIZE: str(size)} if gang else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{index}", "namespace": mark, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {SET_LABEL: mark},
            **({"priorityClassName": "urgent"} if priority else {}),
            "containers": [{"name": "c", "image": "model:1", "resources": {"limits": {GPU: str(gpus)}}}],
        },
    }


def step(cluster: ControlPlane, trial: Trial) -> None:
    """Look at a set once: note what is partly bound, end what has run, see whether it is over."""
    path = f"/api/v1/namespaces/{trial.namespace}/pods"
    items = [
        pod for pod in cluster.request("GET", path)["items"] if not pod["metadata"].get("deletionTimestamp")
    ]
    now = time.monotonic()
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pod in items:
        groups[pod["metadata"].get("labels", {}).get(GANG_LABEL) or pod["metadata"]["name"]].append(pod)
    ended: list[str] = []
    for name, members in groups.items():
        bound = sum(bool(pod["spec"].get("nodeName")) for pod in members)
        size = int(members[0]["metadata"].get("labels", {}).get(GANG_SIZE, "1"))
        if 0 < bound < size:
            since = trial.partial_since.setdefault(name, now)
            trial.longest_partial_seconds = max(trial.longest_partial_seconds, now - since)
            if now - since > PARTIAL_SECONDS:
                trial.partial.add(name)
        else:
            trial.partial_since.pop(name, None)
        if bound == len(members) >= size and now - trial.whole_since.setdefault(name, now) >= RUN_SECONDS:
            ended += [pod["metadata"]["name"] for pod in members]
    for pod_name in ended:
        cluster.request("DELETE", f"{path}/{pod_name}", accepted=SUCCESS | {404})
    if len(items) != trial.left or ended:
        trial.moved_at = now
    trial.left = len(items) - len(ended)
    if trial.left == 0:
        trial.seconds = now - trial.started
    elif now - trial.moved_at > IDLE_SECONDS:
        trial.starved = sorted(pod["metadata"]["name"] for pod in items)
        trial.seconds = now - trial.started


def clean_up(cluster: ControlPlane, trial: Trial) -> None:
    """Delete the set's pods, namespace and nodes."""
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    cluster.request("DELETE", f"/api/v1/namespaces/{trial.namespace}/pods", now, accepted=SUCCESS | {404})
    cluster.request("DELETE", f"/api/v1/namespaces/{trial.namespace}", accepted=SUCCESS | {404, 409})
    delete_nodes(cluster, trial.nodes)
