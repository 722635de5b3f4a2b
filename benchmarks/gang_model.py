"""A small world to try gangs in: an API server's pods, a kube-scheduler and the product's own planner loop.

What is modelled of kube-scheduler 1.36 (read from its source): it learns of pods by a watch that
lags (within LAG_SECONDS); a gated pod
is not tried; a nominated pod, gated or not, holds room on its node against pods of equal or lower priority;
the nominated node is tried first, then the others; a failed cycle clears the nomination; a pod that failed is
tried again when something was freed or a while has passed. Not modelled: preemption, and plugins other than
resources.

What may go wrong is drawn from the seed: patches fail, the planner dies and another takes over with empty
hands, gangs finish and free their room, pods come late. All time is simulated; nothing runs concurrently, but
who acts next is drawn too.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.policy import Planner, PlanSolver
from cluster.wire import Pod
from scheduler.planner.gangs import GANG_LABEL, GANG_SIZE
from scheduler.planner.loop import PlannerLoop
from scheduler.planner.nominate import Nominator
from scheduler.planner.plan import Chosen, Nowhere
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
        self.planner = _PlannerSide(self)
        self.scheduler = _SchedulerSide(self)
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

    def settle(self, steps: int = 4000) -> None:
        """Let all act in random order until nothing changes any more."""
        quiet = 0
        while quiet < 6 and steps:
            steps -= 1
            before = len(self.log)
            # What is overdue on either watch arrives before anybody acts on what is newer.
            self.planner.watch()
            self.scheduler.watch()
            for act in self.rng.sample(
                [self.planner.watch, self.planner.round, self.scheduler.watch, self.scheduler.cycle], 4
            ):
                act()
            self.now += self.rng.choice((0.01, 0.5, 2.0))
            if self.case.faults and self.rng.random() < 0.03:
                self.planner.replace()
            behind = min(self.planner.view.seen, self.scheduler.view.seen) < len(self.log)
            if len(self.log) != before or behind:
                quiet = 0
            else:
                quiet += 1
                self.now += 11.0


def gpus_of(pod: dict[str, Any]) -> int:
    """GPUs a pod asks for."""
    return int(pod["spec"]["containers"][0]["resources"]["limits"][GPU])


@dataclass(slots=True)
class _View:
    """Pods as one watcher has seen them so far."""

    world: World
    seen: int = 0
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)

    def advance(self, every: bool) -> list[tuple[str, dict[str, Any]]]:
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


class _PlannerSide:
    """The product's loop, over a chooser that counts GPUs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.view = _View(world)
        self.held: dict[str, tuple[str, int, float]] = {}
        self.loop = self._loop()

    def _loop(self) -> PlannerLoop:
        return PlannerLoop(
            asks_for_gpus=lambda pod: True,
            chooser=self,
            nominator=Nominator(self.world, 1),
            policy=lambda: Planner(gate_timeout_seconds=20.0, solver=PlanSolver(enabled=False)),
            active=lambda: True,
            observer=_Silent(),
            clock=lambda: self.world.now,
            still_holds=self.still_holds,
        )

    def replace(self) -> None:
        """The leader dies; another begins with a fresh list."""
        self.loop.stop()
        self.held.clear()
        self.loop = self._loop()
        self.view = _View(self.world, seen=0)
        self.view.advance(every=True)
        self.loop.replaced([_wire(pod) for pod in self.view.pods.values()])

    def watch(self, every: bool = False) -> None:
        """Take in some events."""
        for kind, pod in self.view.advance(every):
            name = pod["metadata"]["name"]
            if kind == "DELETED" or pod["spec"].get("nodeName"):
                self.held.pop(name, None)
            self.loop.changed(kind, _wire(pod))

    def round(self) -> None:
        """One round of planning."""
        self.loop.round()

    def choose(self, pod: Pod, hold_seconds: float) -> Chosen | Nowhere:
        """Best fit."""
        free = self._free(pod.metadata.uid)
        need = int(pod.spec.containers[0].resources.limits[GPU])
        fits = sorted((room, node) for node, room in free.items() if room >= need)
        if not fits:
            return Nowhere("full")
        return self.hold(pod, fits[0][1], hold_seconds)

    def hold(self, pod: Pod, node: str, hold_seconds: float) -> Chosen | Nowhere:
        """Hold room on a node."""
        need = int(pod.spec.containers[0].resources.limits[GPU])
        if self._free(pod.metadata.uid)[node] < need:
            return Nowhere("full")
        self.held[pod.metadata.uid] = (node, need, self.world.now + hold_seconds)
        return Chosen(node, 1.0)

    def still_holds(self, pod: Pod, node: str, look_at_room: bool) -> bool:
        """Whether the node has room for the pod beside all others."""
        need = int(pod.spec.containers[0].resources.limits[GPU])
        return not look_at_room or self._free(pod.metadata.uid)[node] >= need

    def release(self, uid: str) -> None:
        """Give room back."""
        self.held.pop(uid, None)

    def _free(self, without: str) -> dict[str, int]:
        free = dict(self.world.case.nodes)
        self.held = {uid: hold for uid, hold in self.held.items() if hold[2] > self.world.now}
        for name, pod in self.view.pods.items():
            place = pod["spec"].get("nodeName") or pod["status"].get("nominatedNodeName")
            if name != without and name not in self.held and place:
                free[place] -= gpus_of(pod)
        for name, (node, need, _) in self.held.items():
            if name != without:
                free[node] -= need
        return free


class _SchedulerSide:
    """The little kube-scheduler."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.view = _View(world)
        self.failed: dict[str, float] = {}
        self.assumed: dict[str, str] = {}

    def watch(self, every: bool = False) -> None:
        """Take in some events; something freed lets failed pods try again."""
        for kind, pod in self.view.advance(every):
            name = pod["metadata"]["name"]
            if kind == "DELETED":
                self.assumed.pop(name, None)
                self.failed.clear()
            elif not pod["spec"].get("nodeName"):
                self.failed.pop(name, None)

    def cycle(self) -> None:
        """Try one pod."""
        ready = [
            pod
            for name, pod in self.view.pods.items()
            if not pod["spec"].get("nodeName")
            and name not in self.assumed
            and not pod["spec"]["schedulingGates"]
            and self.failed.get(name, 0.0) <= self.world.now
        ]
        if not ready:
            return
        pod = min(ready, key=lambda one: (-one["spec"]["priority"], one["metadata"]["creationTimestamp"]))
        name, need = pod["metadata"]["name"], gpus_of(pod)
        free = self._free(pod)
        nominated = pod["status"].get("nominatedNodeName")
        fits = [node for node, room in free.items() if room >= need]
        real = self.world.pods.get(name)
        if nominated in fits or fits:
            node = nominated if nominated in fits else self.world.rng.choice(sorted(fits))
            self.assumed[name] = node
            if real is not None:
                real["spec"]["nodeName"] = node
                real["status"]["nominatedNodeName"] = ""
                self.world.history.append(f"{name}: bound to {node}")
                self.world.tell("MODIFIED", name)
            return
        self.failed[name] = self.world.now + 60.0
        if nominated and real is not None and real["status"].get("nominatedNodeName") == nominated:
            real["status"]["nominatedNodeName"] = ""
            self.world.history.append(f"{name}: nomination cleared")
            self.world.tell("MODIFIED", name)

    def _free(self, pod: dict[str, Any]) -> dict[str, int]:
        free = dict(self.world.case.nodes)
        for name, other in self.view.pods.items():
            if name == pod["metadata"]["name"]:
                continue
            place = self.assumed.get(name) or other["spec"].get("nodeName")
            if not place and other["spec"]["priority"] >= pod["spec"]["priority"]:
                place = other["status"].get("nominatedNodeName")
            if place:
                free[place] -= gpus_of(other)
        return free


class _Silent:
    def planned(self, made: object, outcomes: object, seconds: float) -> None:
        """Nothing is told."""

    def gates_timed_out(self, pods: object) -> None:
        """Nothing is told."""

    def settled(self, fate: object) -> None:
        """Nothing is told."""


def _wire(pod: dict[str, Any]) -> Pod:
    return msgspec.convert(pod, Pod)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one set came to: gangs left partly bound, and pods that never ran though everything else ended."""

    partial: tuple[str, ...]
    starved: tuple[str, ...]
    overfull: tuple[str, ...]
    history: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """All or nothing, and everybody's turn came."""
        return not (self.partial or self.starved or self.overfull)


def run_set(seed: int) -> Outcome:
    """One random set from arrival until everything has run."""
    rng = random.Random(seed)
    case = random_set(rng)
    world = World(case, rng)
    partial: set[str] = set()
    overfull: set[str] = set()
    waiting = list(range(len(case.pods)))
    while waiting:
        for _ in range(min(len(waiting), rng.randint(1, 6))):
            world.create(waiting.pop(0))
        world.settle(steps=rng.randint(1, 40))
    for _ in range(2 * len(case.pods) + 2):
        world.settle()
        partial.update(world.partly_bound())
        overfull.update(world.overfull())
        if not world.finish_one():
            break
    world.planner.loop.stop()
    return Outcome(tuple(sorted(partial)), tuple(world.pods), tuple(sorted(overfull)), tuple(world.history))
