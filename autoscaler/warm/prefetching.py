"""Brings images, and weights, to the nodes of the next replicas.

What a prefetch that succeeded has brought is remembered for some hours, since a kubelet lists only its 50
largest images. One that failed, or was preempted, has brought nothing that is known: after
``RETRY_SECONDS`` without a living prefetch there, another is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from autoscaler.targets import Target
from autoscaler.warm import warm_pods
from autoscaler.warm.likely_nodes import lacking, likely_nodes
from autoscaler.warm.warm_hands import WarmHands
from autoscaler.warm.warm_pods import WarmPod
from cluster.warm_policy import Prefetch
from cluster.wire import Node, ObjectReference, Pod
from scheduler.decider import Decider
from scheduler.planner.admission import admits, constraints_of

# What was brought to a node is taken to be gone after so long, should the node not list it.
BROUGHT_SECONDS: Final = 6 * 3600.0
RETRY_SECONDS: Final = 600.0

Json = dict[str, Any]


class Fleet(Protocol):
    """What is needed of the live placement: prices, and the nodes as they are."""

    @property
    def decider(self) -> Decider: ...

    def nodes(self) -> Mapping[str, Node]: ...


class Prefetching:
    """Remembers what was brought where: node and image, and until when that counts."""

    def __init__(self, hands: WarmHands, fleet: Fleet) -> None:
        self._hands, self._fleet = hands, fleet
        self._brought: dict[tuple[str, str], float] = {}

    def forget(self) -> None:
        """Remember nothing."""
        self._brought = {}

    def ended(self, pods: Iterable[Pod], now: float) -> None:
        """Take note of warm pods that have ended: what those that succeeded have brought stays."""
        for pod in pods:
            warm = warm_pods.read(pod)
            if warm is not None and warm.kind == "prefetch" and pod.status.phase == "Succeeded":
                self._remember(warm, now + BROUGHT_SECONDS)

    def _remember(self, pod: WarmPod, until: float) -> None:
        node, images = pod.prefetches
        for image in images.split(","):
            self._brought[node, image] = max(until, self._brought.get((node, image), until))

    def bring(
        self,
        policy: Prefetch,
        owner: ObjectReference,
        target: Target,
        template: Json,
        existing: list[WarmPod],
        held: list[str],
        now: float,
    ) -> None:
        """Prefetch onto the likely nodes that lack an image. ``held``: nodes of the workload's placeholders;
        ``now``: seconds of any clock that never runs backwards. Raises ApiError.
        """
        self._brought = {known: until for known, until in self._brought.items() if now < until}
        for pod in existing:
            self._remember(pod, now + RETRY_SECONDS)
        images = warm_pods.images_of(template["spec"])
        if not images:
            return
        busy = {pod.prefetches[0] for pod in existing}
        listed = self._fleet.decider.fleet.facts.nodes

        def lists(node: str) -> Iterable[str]:
            fact = listed.get(node)
            return () if fact is None else fact.images

        nodes = lacking(
            self._likely(template, target, held, policy.nodes),
            images,
            lists,
            lambda node, image: (node, image) in self._brought,
        )
        for node in nodes:
            if node in busy or len(busy) >= policy.nodes:
                continue
            busy.add(node)
            self._hands.create(
                target, warm_pods.prefetch(template, target, owner, node, policy), "prefetch_created"
            )
            self._brought |= {(node, image): now + RETRY_SECONDS for image in images}

    def _likely(self, template: Json, target: Target, held: list[str], most: int) -> tuple[str, ...]:
        """The nodes of the next replicas."""
        meta = {**(template.get("metadata") or {}), "namespace": target.namespace, "name": target.name}
        pod = msgspec.convert({"metadata": meta, "spec": template["spec"]}, Pod, strict=False)
        decider = self._fleet.decider
        demand = decider.demand(pod)
        if demand is None or not demand.understood:
            return tuple(held[:most])
        with decider.fleet.lock:
            prices, names = decider.prices(demand), list(decider.fleet.names)
        constraints, nodes = constraints_of(pod), self._fleet.nodes()
        admitted = np.full_like(prices, np.inf)
        left = most + len(held)
        for row in np.argsort(prices, kind="stable").tolist():
            if not left or not np.isfinite(prices[row]):
                break
            node = nodes.get(names[row])
            if node is not None and admits(node, constraints):
                admitted[row], left = prices[row], left - 1
        return likely_nodes(held, names, admitted, most)
