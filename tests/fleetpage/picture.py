"""A fleet to draw: the demo's nodes with allocations that show every kind of span."""

from __future__ import annotations

import math
import random

from autoscaler.fleetpage.view import FleetView, NodeFacts, PodView, build_view
from deploy.demo.fleet import demo_fleet
from deploy.demo.publishing import hardware
from deploy.demo.workload import GRAMS_PER_KWH
from dra.inventory import DeviceRef, NodeInventory
from dra.resource_api import (
    AllocationResult,
    DeviceAllocationResult,
    DeviceRequestAllocationResult,
    ObjectMeta,
    ResourceClaim,
    ResourceClaimConsumerReference,
    ResourceClaimStatus,
)
from scheduler.bill import Bill


def claim(name: str, inventory: NodeInventory, *devices: str, namespace: str = "team-a") -> ResourceClaim:
    """An allocated claim of the pod ``name``."""
    results = tuple(
        DeviceRequestAllocationResult(
            request="gpu", driver=inventory.driver or "", pool=inventory.pool or "", device=device
        )
        for device in devices
    )
    return ResourceClaim(
        metadata=ObjectMeta(name=f"{name}-claim", namespace=namespace, uid=f"uid-{name}"),
        status=ResourceClaimStatus(
            allocation=AllocationResult(devices=DeviceAllocationResult(results=results)),
            reserved_for=(ResourceClaimConsumerReference(resource="pods", name=name, uid=name),),
        ),
    )


def demo_view(seed: int = 3, fill: float = 0.75, generation: int = 1) -> FleetView:
    """The demo's fleet with random instances, about ``fill`` of the units taken."""
    draw = random.Random(seed)
    nodes, claims = [], []
    pods: list[PodView] = []
    for node in demo_fleet():
        inventory = hardware(node, "slicewise", {})
        masks = [0] * len(inventory.gpus)
        for position, gpu in enumerate(inventory.gpus):
            for name, ref in sorted(inventory.devices.items(), key=lambda _: draw.random()):
                if ref.gpu != position or draw.random() > fill / (1 if ref.placement is None else 2):
                    continue
                bits = _bits(inventory, ref)
                profile = None if ref.placement is None else gpu.model.profile(ref.placement.profile)
                if bits & masks[position] or (profile is not None and not profile.plain):
                    continue
                if ref.placement is None and gpu.partitionable and draw.random() > 0.2:
                    continue
                masks[position] |= bits
                pod = f"pod-{len(pods):04d}"
                claims.append(claim(pod, inventory, name))
                kind = "1 whole GPU" if ref.placement is None else f"1 × {ref.placement.profile}"
                pods.append(PodView("team-a", pod, node.name, kind))
        grid = node.zone.grid
        hour = {"H100-80GB": 4.0, "A30-24GB": 0.8, "L40S-48GB": 1.2}.get(node.shape.model, 2.5)
        nodes.append(NodeFacts(inventory, tuple(masks), node.zone.region, grid, GRAMS_PER_KWH[grid], hour))
    pods += [PodView("team-b", f"waiting-{i}", "", "1 × 3g.40gb") for i in range(3)]
    return build_view(nodes, claims, pods, generation=generation, currency="USD")


def demo_bills(view: FleetView) -> list[Bill]:
    """Made-up prices of one pod; nodes without MIG refuse it."""
    bills = []
    for i, node in enumerate(view.nodes):
        if node.gpus[0].units < 8:
            bills.append(Bill(node.name, {}, math.inf, False, "no GPU here can hold a 3g.40gb instance"))
            continue
        carbon = (node.grams_per_kwh or 0.0) * 0.15 / 1e6 * 100
        terms = {
            "fragmentation": 0.25 + (i * 7 % 5) * 0.21,
            "nvlink": 0.0,
            "carbon": carbon,
            "money": (node.gpu_hour or 0.0) / 2,
            "locality": 0.0,
        }
        bills.append(Bill(node.name, terms, sum(terms.values()), True))
    return bills


def _bits(inventory: NodeInventory, ref: DeviceRef) -> int:
    return inventory.whole_mask(ref.gpu) if ref.placement is None else ref.placement.bits
