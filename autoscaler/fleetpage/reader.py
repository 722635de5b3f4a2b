"""Make the page's view from the scheduler's Fleet, the policy and the carbon intensities in force.

What is occupied is what facts say (allocated claims, bound device-plugin pods), not what is expected: the
page shows the cluster, the prices include the expectations. A view is kept for ``FRESH_SECONDS``: many open
pages cost one. Reads the Fleet under its lock; the drawing happens off it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from autoscaler.fleetpage.view import FleetView, NodeFacts, PodView, build_view
from cluster.policy import ClusterPolicy
from dra.inventory import NodeInventory
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from scheduler.fleet import Fleet
from scheduler.node_classes import NodeClassifier, classifier_of

FRESH_SECONDS = 0.7


class FleetReader:
    """Callable: the present view. Safe from any thread."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Callable[[], ClusterPolicy],
        carbon: Callable[[], Mapping[str, Intensity]],
        clock: Callable[[], float],
    ) -> None:
        """``carbon``: intensities by grid zone; ``clock``: seconds, any origin, never going back."""
        self._fleet = fleet
        self._policy = policy
        self._carbon = carbon
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: FleetView | None = None
        self._kept_at = 0.0

    def __call__(self) -> FleetView:
        """The view, at most ``FRESH_SECONDS`` old."""
        with self._lock:
            now = self._clock()
            if self._kept is None or now - self._kept_at > FRESH_SECONDS:
                self._kept = self._read()
                self._kept_at = now
            return self._kept

    def _read(self) -> FleetView:
        policy, carbon = self._policy(), self._carbon()
        classifier = classifier_of(policy)
        fleet = self._fleet
        nodes: list[NodeFacts] = []
        with fleet.lock:
            generation = fleet.generation
            for name, row in fleet.rows.items():
                inventory, fact = fleet.inventory(name), fleet.facts.nodes.get(name)
                if inventory is None or fact is None:
                    continue
                masks = tuple(int(mask) for mask in fleet.columns.certain[row, : len(inventory.gpus)])
                slices = fleet.facts.published.count(name)
                nodes.append(_node_facts(inventory, masks, fact.labels, policy, classifier, carbon, slices))
            claims = list(fleet.facts.claims.values())
            pods = [
                PodView(pod.namespace, pod.name, pod.node, str(pod.demand))
                for pod in fleet.facts.pods.values()
                if pod.demand is not None
            ]
        return build_view(nodes, claims, pods, generation=generation, currency=policy.currency)


def _node_facts(
    inventory: NodeInventory,
    masks: tuple[int, ...],
    labels: Mapping[str, str],
    policy: ClusterPolicy,
    classifier: NodeClassifier,
    carbon: Mapping[str, Intensity],
    slices: int,
) -> NodeFacts:
    zone = classifier.zone(labels)
    intensity = carbon.get(zone) if zone is not None else None
    grams: float | NoData = NoData("no carbon data for this zone" if zone else "no grid zone for this region")
    if intensity is not None:
        grams = intensity.grams_per_kwh
    return NodeFacts(
        inventory=inventory,
        masks=masks,
        region=labels.get(policy.carbon.region_label, ""),
        zone=zone or "",
        grams_per_kwh=grams,
        gpu_hour=_gpu_hour(inventory, labels, policy, classifier),
        slices=slices,
    )


def _gpu_hour(
    inventory: NodeInventory, labels: Mapping[str, str], policy: ClusterPolicy, classifier: NodeClassifier
) -> float | None:
    """Price of one whole GPU of the node: of its class, else of its model, else the policy's general one."""
    index = classifier.node_class(labels)
    of_class = policy.nodes[index].gpu_hour if index >= 0 else None
    if of_class is not None:
        return of_class
    if not inventory.gpus and not inventory.shared:
        return None
    model = inventory.main_model
    return policy.prices.gpu_hour_by_model.get(model.name if model else "", policy.prices.gpu_hour)
