"""The planner's way to the prices: the cheapest node that may take the pod, its room held.

Keeps the nodes as the watch shows them, and for every set of constraints seen the mask of rows it admits,
renewed when a node changed. At 5,000 nodes a mask costs some milliseconds once; a choice then is one look at
the price vector.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.wire import Node, Pod
from scheduler.decider import Decider
from scheduler.planner.admission import Constraints, admits, constraints_of
from scheduler.planner.batch import Batch
from scheduler.planner.plan import Chosen, Nowhere
from scheduler.planner.problem import Asked, Snapshot, snapshot
from scheduler.planner.queue import WaitingPod

MOST_MASKS = 64


class DeciderChooser:
    """Answers the planner from a Decider; a reflector handler for nodes."""

    def __init__(
        self,
        decider: Decider,
        clock: Callable[[], float] = time.time,
        nodes_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``clock``: the one the decider's reservations run on (Unix seconds). ``nodes_changed``: called when
        a node went away or other pods may use it than before.
        """
        self.nodes_changed = nodes_changed
        self._decider = decider
        self._clock = clock
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._version = 0
        self._masks: OrderedDict[Constraints, tuple[tuple[int, int], NDArray[np.bool_]]] = OrderedDict()

    def replaced(self, items: Sequence[Node]) -> None:
        """A fresh list of nodes."""
        with self._lock:
            self._nodes = {node.metadata.name: node for node in items}
            self._version += 1

    def changed(self, kind: str, item: Node) -> None:
        """One watch event; heartbeats change nothing that matters here."""
        name = item.metadata.name
        with self._lock:
            old = self._nodes.get(name)
            if kind == "DELETED":
                self._nodes.pop(name, None)
            else:
                self._nodes[name] = item
                if old is not None and old.spec == item.spec and old.metadata.labels == item.metadata.labels:
                    return
            self._version += 1
        if old is not None:
            self.nodes_changed()

    def asks_for_gpus(self, pod: Pod) -> bool:
        """Whether the planner should look after the pod at all."""
        demand = self._decider.demand(pod)
        return demand is not None and demand.understood and not constraints_of(pod).depends_on_pods

    def hold(self, pod: Pod, node: str, hold_seconds: float) -> Chosen | Nowhere:
        """See ``plan.Chooser``."""
        fleet = self._decider.fleet
        with fleet.lock:
            demand = self._decider.demand(pod)
            row = fleet.rows.get(node)
            if demand is None or row is None:
                return Nowhere(f"node {node} is gone")
            now = self._clock()
            fleet.release(pod.metadata.uid)
            price = float(self._decider.prices(demand)[row])
            if not np.isfinite(price) or not self._mask(constraints_of(pod))[row]:
                return Nowhere(f"node {node} has no room for {demand} any more")
            fleet.reserve(pod.metadata.uid, row, demand, now + hold_seconds)
            return Chosen(node, price)

    def release(self, uid: str) -> None:
        """See ``plan.Chooser``."""
        self._decider.fleet.release(uid)

    def still_holds(self, pod: Pod, node: str, look_at_room: bool) -> bool:
        """Whether a nomination still makes sense: the node is there and admits the pod and, if that is to be
        looked at, has room for it.
        """
        fleet = self._decider.fleet
        with fleet.lock:
            row = fleet.rows.get(node)
            if row is None or not self._mask(constraints_of(pod))[row]:
                return False
            demand = self._decider.demand(pod)
            if demand is None or not look_at_room:
                return True
            price = self._decider.price_without(pod.metadata.uid, demand, node)
            return price is None or bool(np.isfinite(price))

    def snapshot(self, batch: Batch) -> Snapshot:
        """The batch and the fleet as a plan's problem; what the pods held so far is given back first."""
        asked: list[Asked] = []
        fleet = self._decider.fleet
        with fleet.lock:
            fleet.expire(self._clock())
            for pod in batch.pods:
                fleet.release(pod.uid)
            for pod in batch.singles:
                self._ask(asked, pod, -1, batch.rank(pod, pod.priority))
            for index, gang in enumerate(batch.gangs):
                for pod in gang.pods:
                    self._ask(asked, pod, index, batch.rank(pod, gang.priority))
            return snapshot(self._decider, asked, len(batch.gangs), self._mask)

    def admitted(self, constraints: Constraints) -> NDArray[np.bool_]:
        """bool[rows]: the nodes that pods of these constraints may use; to be called with the fleet's lock
        held and not to be changed.
        """
        return self._mask(constraints)

    def _ask(self, asked: list[Asked], pod: WaitingPod, gang: int, priority: int) -> None:
        demand = self._decider.demand(pod.pod)
        if demand is not None and demand.understood:
            asked.append(Asked(pod.uid, demand, constraints_of(pod.pod), priority, gang))

    def choose(self, pod: Pod, hold_seconds: float) -> Chosen | Nowhere:
        """See ``plan.Chooser``."""
        fleet = self._decider.fleet
        with fleet.lock:
            demand = self._decider.demand(pod)
            if demand is None or not demand.understood:
                return Nowhere("its GPU demand is not understood; left to the scheduler")
            now = self._clock()
            fleet.expire(now)
            fleet.release(pod.metadata.uid)
            row = self._decider.place(demand, self._mask(constraints_of(pod)))
            if row is None:
                return Nowhere(f"no admissible node has room for {demand}")
            price = float(self._decider.prices(demand)[row])
            fleet.reserve(pod.metadata.uid, row, demand, now + hold_seconds)
            return Chosen(fleet.names[row], price)

    def _mask(self, constraints: Constraints) -> NDArray[np.bool_]:
        fleet = self._decider.fleet
        with self._lock:
            stamp = (self._version, len(fleet.names))
            known = self._masks.get(constraints)
            if known is not None and known[0] == stamp:
                self._masks.move_to_end(constraints)
                return known[1]
            mask = np.zeros(len(fleet.names), dtype=np.bool_)
            for name, node in self._nodes.items():
                row = fleet.rows.get(name)
                if row is not None:
                    mask[row] = admits(node, constraints)
            self._masks[constraints] = (stamp, mask)
            if len(self._masks) > MOST_MASKS:
                self._masks.popitem(last=False)
            return mask
