"""A small world to try gangs in: an API server's pods, a kube-scheduler and the product's own planner loop.

What is modelled of kube-scheduler 1.36 (read from its source): it learns of pods by a watch that lags (within
``gang_world.LAG_SECONDS``); a gated pod is not tried; a nominated pod, gated or not, holds room on its node
against pods of equal or lower priority; the nominated node is tried first, then the others; a failed cycle
clears the nomination; a pod that failed is tried again when something was freed or a while has passed. Not
modelled: preemption, and plugins other than resources.

What may go wrong is drawn from the seed: patches fail, the planner dies and another takes over with empty
hands, gangs finish and free their room, pods come late. All time is simulated; nothing runs concurrently, but
who acts next is drawn too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.gang_world import GPU, View, World, gpus_of, random_set
from cluster.policy import Planner, PlanSolver
from cluster.wire import Pod
from scheduler.planner.loop import PlannerLoop
from scheduler.planner.nominate import Nominator
from scheduler.planner.plan import Chosen, Nowhere


class _PlannerSide:
    """The product's loop, over a chooser that counts GPUs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.view = View(world)
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
        self.view = View(self.world, seen=0)
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
        self.view = View(world)
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


class _Play:
    """The world and the two that act in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.planner = _PlannerSide(world)
        self.scheduler = _SchedulerSide(world)

    def settle(self, steps: int = 4000) -> None:
        """Let all act in random order until nothing changes any more."""
        world, quiet = self.world, 0
        log = world.log
        while quiet < 6 and steps:
            steps -= 1
            before = len(log)
            # What is overdue on either watch arrives before anybody acts on what is newer.
            self.planner.watch()
            self.scheduler.watch()
            for act in world.rng.sample(
                [self.planner.watch, self.planner.round, self.scheduler.watch, self.scheduler.cycle], 4
            ):
                act()
            world.now += world.rng.choice((0.01, 0.5, 2.0))
            if world.case.faults and world.rng.random() < 0.03:
                self.planner.replace()
            behind = min(self.planner.view.seen, self.scheduler.view.seen) < len(log)
            if len(log) != before or behind:
                quiet = 0
            else:
                quiet += 1
                world.now += 11.0


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
    play = _Play(world)
    partial: set[str] = set()
    overfull: set[str] = set()
    waiting = list(range(len(case.pods)))
    while waiting:
        for _ in range(min(len(waiting), rng.randint(1, 6))):
            world.create(waiting.pop(0))
        play.settle(steps=rng.randint(1, 40))
    for _ in range(2 * len(case.pods) + 2):
        play.settle()
        partial.update(world.partly_bound())
        overfull.update(world.overfull())
        if not world.finish_one():
            break
    play.planner.loop.stop()
    return Outcome(tuple(sorted(partial)), tuple(world.pods), tuple(sorted(overfull)), tuple(world.history))
