"""The API server of ``benchmarks.gang_model``: pods, patches that may fail, and watches that lag.

Its time is simulated (``World.now``) and moved on by whoever runs it.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from cluster.api_errors import ApiRefused, ApiUnreachable
from scheduler.planner.gangs import GANG_LABEL, GANG_SIZE
from scheduler.planner.queue import PLAN_GATE

GPU = "nvidia.com/gpu"
LAG_SECONDS = 0.4
"""A watch is never further behind: what ``gangs.CONFIRM_SECONDS`` counts on."""


@dataclass(frozen=True, slots=True)
class GangSet:
    """One random set: GPUs by node, and pods as (gang or "", size of the gang, GPUs, priority)."""

    nodes: dict[str, int]
    pods: tuple[tuple[str, int, int, int], ...]
    faults: float


def random_set(rng: random.Random) -> GangSet:
    """Gangs that together want more than there is, each of which fits the empty cluster, among single
    pods.
    """
    nodes = {f"n{index}": rng.choice((2, 4, 8)) for index in range(rng.randint(2, 4))}
    pods: list[tuple[str, int, int, int]] = []
    for index in range(rng.randint(2, 5)):
        gpus = rng.choice([size for size in (1, 1, 2, 4) if size <= max(nodes.values())])
        most = sum(room // gpus for room in nodes.values())
        size = rng.randint(2, max(2, min(6, most))) if most >= 2 else 1
        pods += [(f"gang{index}", size, gpus, rng.choice((0, 0, 10)))] * size
    pods += [("", 0, rng.choice((1, 2)), 0) for _ in range(rng.randint(0, 4))]
    rng.shuffle(pods)
    return GangSet(nodes, tuple(pods), rng.choice((0.0, 0.0, 0.1)))


class World:
    """Pods as the API server has them, and who watches them."""

    def __init__(self, case: GangSet, rng: random.Random) -> None:
        self.case, self.rng, self.now = case, rng, 1000.0
        self.pods: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, bytes]] = []
        self.at: list[float] = []
        self.history: list[str] = []
        self.done: set[str] = set()

    def create(self, index: int) -> None:
        """One pod arrives, behind its gate."""
        gang, size, gpus, priority = self.case.pods[index]
        name = f"pod-{index}"
        labels = {GANG_LABEL: gang, GANG_SIZE: str(size)} if gang else {}
        self.pods[name] = {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": name,
                "labels": labels,
                "creationTimestamp": f"{index:04d}",
            },
            "spec": {
                "schedulerName": "default-scheduler",
                "priority": priority,
                "schedulingGates": [{"name": PLAN_GATE}],
                "containers": [{"name": "c", "resources": {"limits": {GPU: str(gpus)}}}],
            },
            "status": {"phase": "Pending"},
        }
        self.tell("ADDED", name)

    def tell(self, kind: str, name: str) -> None:
        """Append to the watch."""
        self.pods[name]["metadata"]["resourceVersion"] = str(len(self.log))
        self.log.append((kind, json.dumps(self.pods[name]).encode()))
        self.at.append(self.now)

    def delete(self, name: str) -> None:
        """A pod ends and is gone."""
        self.tell("DELETED", name)
        del self.pods[name]

    # --- what the planner may call ------------------------------------------------------------------------

    def patch(self, path: str, body: Any, content_type: str) -> None:
        """The API server's PATCH of a pod or its status, failing as the set says."""
        if self.rng.random() < self.case.faults:
            raise ApiUnreachable("down for the moment")
        parts = path.split("/")
        name, status = parts[6], parts[-1] == "status"
        found, wanted = self.pods.get(name), json.loads(body)
        if found is None or wanted["metadata"]["uid"] != found["metadata"]["uid"]:
            raise ApiRefused(status=404, reason="NotFound", message=name)
        seen = wanted["metadata"].get("resourceVersion", found["metadata"]["resourceVersion"])
        if seen != found["metadata"]["resourceVersion"]:
            raise ApiRefused(status=409, reason="Conflict", message=name)
        if status:
            if found["spec"].get("nodeName"):
                raise ApiRefused(status=403, reason="Forbidden", message="bound")
            node = wanted["status"]["nominatedNodeName"]
            found["status"]["nominatedNodeName"] = node or ""
        else:
            found["spec"]["schedulingGates"] = []
        self.history.append(f"{name}: {wanted.get('status', 'ungated')}")
        self.tell("MODIFIED", name)

    # --- running ------------------------------------------------------------------------------------------

    def gangs(self) -> dict[str, list[dict[str, Any]]]:
        """Living members by gang."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for pod in self.pods.values():
            if gang := pod["metadata"]["labels"].get(GANG_LABEL):
                found[gang].append(pod)
        return found

    def partly_bound(self) -> list[str]:
        """Gangs of which some but too few members are bound."""
        bad = []
        for gang, members in self.gangs().items():
            bound = sum(bool(pod["spec"].get("nodeName")) for pod in members)
            if 0 < bound < int(members[0]["metadata"]["labels"][GANG_SIZE]):
                bad.append(gang)
        return bad

    def overfull(self) -> list[str]:
        """Nodes with more GPUs in use than they have."""
        used: dict[str, int] = defaultdict(int)
        for pod in self.pods.values():
            if node := pod["spec"].get("nodeName"):
                used[node] += gpus_of(pod)
        return [node for node, count in used.items() if count > self.case.nodes[node]]

    def finish_one(self) -> bool:
        """One running gang, or a running single pod, ends; False when nothing runs."""
        running: dict[str, list[str]] = defaultdict(list)
        for name, pod in self.pods.items():
            if pod["spec"].get("nodeName"):
                running[pod["metadata"]["labels"].get(GANG_LABEL) or name].append(name)
        whole = [key for key in sorted(running) if key not in self.partly_bound()]
        if not whole:
            return False
        for name in running[self.rng.choice(whole)]:
            self.done.add(name)
            self.delete(name)
        return True


def gpus_of(pod: dict[str, Any]) -> int:
    """GPUs a pod asks for."""
    return int(pod["spec"]["containers"][0]["resources"]["limits"][GPU])


@dataclass(slots=True)
class View:
    """Pods as one watcher has seen them so far."""

    world: World
    seen: int = 0
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)

    def advance(self, every: bool) -> list[tuple[str, dict[str, Any]]]:
        """Take in what has come, all of it or as far as chance has it; answers these events."""
        left = len(self.world.log) - self.seen
        overdue = bisect_left(self.world.at, self.world.now - LAG_SECONDS) - self.seen
        count = left if every else max(overdue, self.world.rng.randint(0, left))
        events = [(kind, json.loads(body)) for kind, body in self.world.log[self.seen : self.seen + count]]
        self.seen += count
        for kind, pod in events:
            if kind == "DELETED":
                self.pods.pop(pod["metadata"]["name"], None)
            else:
                self.pods[pod["metadata"]["name"]] = pod
        return events
