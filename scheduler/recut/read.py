"""Which nodes are idle and may be re-cut, and what is wanted, read from fleet and census.

A node may be re-cut when it is the device plugin's (no DRA slices), MIG capable, of a known model, under the
MIG strategy "mixed" (or none), ready, not cordoned by anyone, matched by the policy's selector, not being
cut already, not cut by hand, and used by nobody: no GPU pod runs on it, is nominated to it or has room
reserved there. Nodes of the strategy "single" are left alone: their instances are all called
``nvidia.com/gpu``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cluster.policy import ClusterPolicy
from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Node
from dra.catalog import GpuModel, find_model
from dra.inventory import profile_of_resource
from scheduler.demand import Demand
from scheduler.fleet import Fleet
from scheduler.packing.mix import parse_class
from scheduler.recut.choose import IdleNode, Outlook
from scheduler.recut.configs import DISABLED, WHOLE
from scheduler.recut.steps import CAPABLE_LABEL, CONFIG_LABEL, RECORD_ANNOTATION, STATE_LABEL
from scheduler.repack.census import Census

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
STRATEGY_LABEL = "nvidia.com/mig.strategy"


def offered(node: Node) -> dict[str, int]:
    """GPU resources that the node offers, by resource name."""
    found: dict[str, int] = {}
    for name, amount in node.status.allocatable.items():
        if name == "nvidia.com/gpu" or profile_of_resource(name) is not None:
            try:
                count = int(parse_quantity(amount))
            except QuantityRefused:
                continue
            if count:
                found[name] = count
    return found


def classes_of(resources: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The same by class: a profile, or whole GPUs."""
    named = ((profile_of_resource(name) or WHOLE, count) for name, count in resources.items())
    return tuple(sorted(named))


def read_idle(fleet: Fleet, census: Census, policy: ClusterPolicy) -> list[IdleNode]:
    """The nodes that may be re-cut now, as far as what they are and who uses them goes."""
    used = {pod.node for pod in census.residents()}
    idle: list[IdleNode] = []
    for name, node in sorted(census.all_nodes().items()):
        if name in used or not _may_be_cut(node, policy.mig_geometry.node_selector):
            continue
        with fleet.lock:
            inventory = fleet.inventory(name)
            if (inventory is not None and inventory.regime != "device-plugin") or fleet.facts.tenants(name):
                continue
        labels = node.metadata.labels
        model = find_model(labels.get(PRODUCT_LABEL, "").partition("-MIG-")[0])
        gpus = labels.get(COUNT_LABEL, "")
        if not isinstance(model, GpuModel) or not gpus.isdecimal() or int(gpus) < 1:
            continue
        present = classes_of(offered(node))
        config = labels.get(CONFIG_LABEL, "")
        if not config:
            if any(kind != WHOLE for kind, _ in present):
                continue  # instances made by hand: there is no configuration to go back to
            config = DISABLED
        idle.append(IdleNode(name, model, int(gpus), config, present))
    return idle


def read_outlook(fleet: Fleet, idle: list[IdleNode], policy: ClusterPolicy) -> Outlook:
    """What waits, what the mix is, and what is free on the other nodes."""
    waiting: dict[str, float] = {}
    expected: dict[str, float] = {}
    with fleet.lock:
        pods = list(fleet.facts.pods.values())
    for pod in pods:
        if pod.demand is not None and pod.demand.understood:
            for name, count in _wanted(pod.demand):
                expected[name] = expected.get(name, 0.0) + count
                if not pod.node:
                    waiting[name] = waiting.get(name, 0.0) + count
    for written, weight in policy.demand.classes.items():
        found = parse_class(written)
        if found is not None and found.kind != "shared":
            name = found.profile if found.kind == "mig" else WHOLE
            expected[name] = expected.get(name, 0.0) + weight * max(1, found.gpus)
    return Outlook(waiting, expected, _free_elsewhere(fleet, {node.name for node in idle}))


def _free_elsewhere(fleet: Fleet, idle: set[str]) -> dict[str, float]:
    free: dict[str, float] = {}
    with fleet.lock:
        columns = fleet.view()
        keep = columns.valid.copy()
        for name in idle:
            if name in fleet.rows:
                keep[fleet.rows[name]] = False
        left = np.clip(columns.static_total - columns.static_used, 0, None)[keep].sum(axis=0)
        for profile, count in zip(fleet.profiles.values, left.tolist(), strict=False):
            free[profile] = float(count)
        whole = (columns.occupied == 0) & (columns.model_id >= 0) & columns.whole
        free[WHOLE] = float(whole[keep].sum())
    return free


def _may_be_cut(node: Node, selector: Mapping[str, str]) -> bool:
    labels = node.metadata.labels
    ready = any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)
    return (
        labels.get(CAPABLE_LABEL) == "true"
        and labels.get(STRATEGY_LABEL, "mixed") in ("mixed", "none", "")
        and labels.get(STATE_LABEL, "success") in ("success", "")
        and all(labels.get(key) == value for key, value in selector.items())
        and ready
        and not node.spec.unschedulable
        and RECORD_ANNOTATION not in node.metadata.annotations
        and node.metadata.deletion_timestamp is None
    )


def _wanted(demand: Demand) -> list[tuple[str, int]]:
    return [
        (request.profile if request.kind == "mig" and request.profile else WHOLE, request.count)
        for request in demand.requests
        if request.kind != "shared"
    ]
