"""The prices of the live fleet, as a new node is judged by.

A zone that a new node would stand in may have no node yet, so nobody has asked for its intensity. Zones that
were asked about are therefore remembered, and the carbon board looks them up from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from autoscaler.nodes.daemons import Daemon, daemons_for
from autoscaler.nodes.fresh_node import Prices, used_share
from autoscaler.nodes.node_kinds import Running
from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from scheduler.demand import Demand
from scheduler.service import Service


class DaemonTemplates(Protocol):
    """The DaemonSets of the cluster."""

    @property
    def settled(self) -> bool:
        """Whether they are known, or cannot be."""

    def templates(self) -> tuple[Pod, ...]:
        """A pod of each, unbound."""


class _NoDaemonSets:
    settled = True

    def templates(self) -> tuple[Pod, ...]:
        return ()


class FleetPrices:
    """Reads one service. Safe to use from several threads."""

    def __init__(
        self,
        service: Service,
        policy: Callable[[], ClusterPolicy],
        clock: Callable[[], float],
        daemon_sets: DaemonTemplates | None = None,
    ) -> None:
        """``clock``: Unix seconds; ``daemon_sets``: None for no daemons on new nodes."""
        self._service, self._policy, self._clock = service, policy, clock
        self._daemon_sets: DaemonTemplates = daemon_sets or _NoDaemonSets()

    def now(self) -> Prices:
        """What everything costs now."""
        fleet = self._service.fleet
        with fleet.lock:
            share = used_share(fleet.view())
        return Prices(
            self._policy(), self._service.prices.current(), self._service.carbon(), self._clock(), share
        )

    def ready(self) -> Mapping[str, bool]:
        """What must be known before anything can be priced, and whether it is."""
        return {**self._service.ready(), "DaemonSets": self._daemon_sets.settled}

    def demand(self, pod: Pod) -> Demand | None:
        """What a pod asks for, by the classes and templates of the cluster."""
        return self._service.decider.demand(pod)

    def daemons(self, node: Node) -> tuple[Daemon, ...]:
        """The DaemonSet pods that a new node like this one will run."""
        return daemons_for(node, self._daemon_sets.templates(), self.demand)

    def hours(self) -> dict[str, float]:
        """Money per hour of all GPUs of each GPU node."""
        service = self._service
        with service.fleet.lock:
            world, columns = service.decider.world(), service.fleet.view()
            hour = world.hour_by_model[columns.row_model]
            classes = world.policy.nodes
            own = np.array([np.nan if one.gpu_hour is None else one.gpu_hour for one in classes] + [np.nan])
            stated = own[columns.class_id]
            hour = np.where(np.isnan(stated), hour, stated)
            gpus = np.maximum(columns.gpu_count, np.where(columns.gpu_count > 0, 0, columns.shared_gpus))
            return {name: float(hour[row] * gpus[row]) for name, row in service.fleet.rows.items()}

    def remember(self, zones: Iterable[str]) -> None:
        """Ask for the intensities of these grid zones from now on."""
        self._service.other_zones.update(zones)

    def running(self) -> Iterator[Running]:
        """The GPU nodes of the fleet, one of each kind."""
        fleet = self._service.fleet
        seen: set[tuple[object, ...]] = set()
        with fleet.lock:
            names = sorted(fleet.rows)
            for name in names:
                inventory, fact = fleet.inventory(name), fleet.facts.nodes.get(name)
                if inventory is None or fact is None:
                    continue
                kind = (
                    fact.labels.get("node.kubernetes.io/instance-type"),
                    fact.labels.get("nvidia.com/gpu.product"),
                    inventory.regime,
                    len(inventory.gpus),
                    tuple(sorted(inventory.static.items())),
                )
                if kind not in seen:
                    seen.add(kind)
                    yield Running(fact.labels, inventory)
