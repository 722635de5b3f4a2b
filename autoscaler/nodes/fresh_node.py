"""What an empty node of some kind would take of the pending demand, what it costs, and what is left of it.

A fleet of that one node is filled by the code that places pods: the DaemonSet pods that will run there
(``daemons``), then what waits, largest demand first, each as first-fit would place it, until nothing more
fits. Nodes of one kind are alike, so a filling that repeats is counted and not made again. Then

    money  = GPUs × price of a GPU-hour of its class or model
    risk   = GPUs × interruptions per hour × cost of one
    carbon = GPUs × idle watts + GPUs in use × (peak − idle watts), × grid intensity × price of a tonne
    left   = share of the fleet's GPUs in use × V(what is left), V from the packing LP's prices

all in money per hour, multiplied by ``terms`` of the policy. A new node draws its idle watts only because it
was added, so they count here and not in the placement of a pod. What is left is worth something only as far
as GPUs of this cluster are in use at all: in a half-empty cluster every second spare GPU stays spare.

Pure: a fleet of its own, prices and policy passed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf

import msgspec
import numpy as np

from autoscaler.nodes.daemons import Daemon
from autoscaler.nodes.node_kinds import NodeKind
from cluster.policy import ClusterPolicy
from cluster.wire import ContainerResources, ObjectMeta, Pod, PodSpec
from dra.inventory import NodeInventory
from dra.resource_api import ResourceSlice, slices_from_json
from dra.slices import nvidia_slices, to_slices
from metrics.carbon.intensity import Intensity
from scheduler.columns import Columns
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.fleet import Fleet
from scheduler.packing.prices import PriceTables
from scheduler.scoring.context import World
from scheduler.scoring.fragmentation import node_value

_GRAMS_PER_TONNE = 1_000_000.0
_WATTS_PER_KILOWATT = 1000.0
_MOST_FILLINGS = 32
_SLICES = re.compile(r"(\d+)g\.")


@dataclass(frozen=True, slots=True)
class Prices:
    """What everything is priced with. ``used_share``: share of the fleet's GPUs that are in use, 0 to 1."""

    policy: ClusterPolicy
    tables: PriceTables
    carbon: Mapping[str, Intensity]
    now: float
    used_share: float


@dataclass(frozen=True, slots=True)
class Filled:
    """``nodes`` of one kind and what they would hold. Money per hour; GPUs in whole GPUs' worth.

    ``watts``: of all GPUs of these nodes; ``zone``: the grid zone, None where it is not known; ``left``: V of
    what stays free, not yet multiplied by the share in use.
    """

    nodes: int
    placed: Mapping[Demand, int]
    gpus: float
    used_gpus: float
    money: float
    risk: float
    watts: float
    zone: str | None
    left: float

    @property
    def replicas(self) -> int:
        """Pods that the nodes make placeable."""
        return sum(self.placed.values())


def fill(kind: NodeKind, demands: Mapping[Demand, int], prices: Prices, most_nodes: int) -> Filled:
    """Fill at most ``most_nodes`` of a kind with ``demands`` (pods by what they ask for)."""
    rest = {demand: count for demand, count in demands.items() if demand.understood and count > 0}
    order = sorted(rest, key=lambda demand: (-_size(demand), str(demand), repr(demand)))
    placed: dict[Demand, int] = {}
    nodes, fillings = 0, 0
    gpus = used = money = risk = watts = left = 0.0
    zone: str | None = None
    while nodes < most_nodes and rest and fillings < _MOST_FILLINGS:
        fresh = _Fresh(kind, prices)
        held = fresh.hold(order, rest)
        zone = fresh.zone
        if not held:
            break
        fillings += 1
        times = min(most_nodes - nodes, *(rest[demand] // count for demand, count in held.items()))
        nodes += times
        gpus, used = gpus + times * fresh.gpus, used + times * fresh.used
        money, risk = money + times * fresh.money, risk + times * fresh.risk
        watts, left = watts + times * fresh.watts, left + times * fresh.left
        for demand, count in held.items():
            placed[demand] = placed.get(demand, 0) + times * count
            rest[demand] -= times * count
            if not rest[demand]:
                del rest[demand]
        order = [demand for demand in order if demand in rest]
    return Filled(nodes, placed, gpus, used, money, risk, watts, zone, left)


def in_full_use(kind: NodeKind, prices: Prices) -> Filled:
    """One node of a kind with all its GPUs in use, whatever by."""
    fresh = _Fresh(kind, prices)
    fresh.hold([], {})
    return Filled(
        1, {}, fresh.gpus, fresh.gpus, fresh.money, fresh.risk, fresh.peak_watts, fresh.zone, left=0.0
    )


def carbon_per_hour(filled: Filled, prices: Prices) -> float | None:
    """Money per hour of the carbon of these nodes; None where the intensity of their zone is not known."""
    grams = prices.carbon.get(filled.zone or "")
    if grams is None or grams.valid_until_seconds <= prices.now:
        return None
    tonne = prices.policy.prices.carbon_tonne
    return filled.watts / _WATTS_PER_KILOWATT * grams.grams_per_kwh / _GRAMS_PER_TONNE * tonne


def carbon_gap(filled: Iterable[Filled], prices: Prices) -> str:
    """Why carbon is left out of all of these, "" where it is not: one of which it is not known must not win
    for that.
    """
    if not prices.policy.terms.carbon or prices.policy.carbon.provider == "none":
        return "the policy names no carbon provider or gives carbon no weight"
    for found in filled:
        if carbon_per_hour(found, prices) is None:
            label = prices.policy.carbon.region_label
            zone = f"of grid zone {found.zone}" if found.zone else f"where a node has no known {label}"
            return f"no carbon intensity {zone}"
    return ""


def used_share(columns: Columns) -> float:
    """The share of the MIG units, fixed instances and shared replicas of a fleet that is in use; 0 without
    GPUs.
    """
    exists = np.where(columns.model_id >= 0, columns.full, 0).astype(np.uint16)
    units = np.bitwise_count(exists).sum(axis=1)
    taken = np.bitwise_count(columns.occupied & exists).sum(axis=1)
    by_gpu = np.where(units > 0, taken / np.maximum(units, 1) * columns.gpu_count, 0.0).sum()
    there = float(columns.gpu_count.sum())
    static, used = columns.static_total.sum(axis=1), columns.static_used.sum(axis=1)
    cut = columns.valid & (static > 0)
    there += float(columns.shared_gpus[cut].sum())
    by_gpu += (used[cut] / static[cut] * columns.shared_gpus[cut]).sum()
    shared = columns.valid & (columns.shared_total > 0) & (columns.gpu_count == 0) & ~cut
    there += float(columns.shared_gpus[shared].sum())
    by_gpu += (columns.shared_used[shared] / columns.shared_total[shared] * columns.shared_gpus[shared]).sum()
    return min(1.0, float(by_gpu) / there) if there else 0.0


class _Fresh:
    """One empty node in a fleet of its own, and what it comes to once it is filled."""

    def __init__(self, kind: NodeKind, prices: Prices) -> None:
        self._prices = prices
        self._fleet = Fleet(1)
        name = kind.name or "fresh"
        metadata = msgspec.structs.replace(kind.node.metadata, name=name)
        spec = msgspec.structs.replace(kind.node.spec, unschedulable=False)
        if kind.inventory is not None:
            for item in _slices(kind.inventory, name):
                self._fleet.apply_slice(item)
        self._fleet.apply_node(msgspec.structs.replace(kind.node, metadata=metadata, spec=spec))
        self._decider = Decider(
            self._fleet,
            lambda: prices.policy,
            lambda: prices.tables,
            lambda: prices.carbon,
            lambda: prices.now,
        )
        self.gpus = self.used = self.money = self.risk = self.watts = self.left = 0.0
        self.peak_watts = 0.0
        self.zone: str | None = None
        for number, daemon in enumerate(kind.daemons):
            self._settle(daemon, f"daemon-{number}", name)

    def _settle(self, daemon: Daemon, uid: str, node: str) -> None:
        """Take off what a daemon takes; one that asks for GPUs which are not there will not run."""
        if daemon.demand is None:
            asked = {"cpu": f"{daemon.cpu_milli}m", "memory": f"{daemon.memory_mib}Mi"}
            spec = PodSpec(node_name=node, resources=ContainerResources(requests=dict(asked)))
            self._fleet.apply_pod(Pod(metadata=ObjectMeta(name=uid, uid=uid), spec=spec))
        elif (row := self._decider.place(daemon.demand)) is not None:
            self._fleet.reserve(uid, row, daemon.demand, inf)

    def hold(self, order: list[Demand], rest: Mapping[Demand, int]) -> dict[Demand, int]:
        """Place as much of ``rest`` as fits, in this order; then count what the node comes to."""
        held: dict[Demand, int] = {}
        for demand in order:
            for _ in range(rest[demand]):
                row = self._decider.place(demand)
                if row is None:
                    break
                uid = f"pending-{sum(held.values())}"
                self._fleet.reserve(uid, row, demand, inf)
                held[demand] = held.get(demand, 0) + 1
        self._count()
        return held

    def _count(self) -> None:
        with self._fleet.lock:
            world, columns = self._decider.world(), self._fleet.view()
            if not len(columns) or columns.row_model[0] < 0:
                return
            model = world.hardware.models[int(columns.row_model[0])]
            zone = int(columns.zone_id[0])
            self.zone = world.zones.values[zone] if zone >= 0 else None
            self.gpus, self.used = _gpus(world, columns)
            policy = self._prices.policy
            hour = float(world.hour_by_model[int(columns.row_model[0])])
            risk = 0.0
            if (number := int(columns.class_id[0])) >= 0:
                found = policy.nodes[number]
                hour = hour if found.gpu_hour is None else found.gpu_hour
                risk = found.interruptions_per_hour * found.interruption_cost
            self.money, self.risk = self.gpus * hour, self.gpus * risk
            self.peak_watts = self.gpus * model.peak_watts
            self.watts = self.gpus * model.idle_watts + self.used * (model.peak_watts - model.idle_watts)
            # No more than what the free GPUs cost, however the LP's scaling of the demand came out.
            self.left = min(_left(world, columns), (self.gpus - self.used) * hour)


def _gpus(world: World, columns: Columns) -> tuple[float, float]:
    """GPUs of the one row, and how many GPUs' worth of them are in use."""
    model = world.hardware.models[int(columns.row_model[0])]
    exists = np.where(columns.model_id >= 0, columns.full, 0).astype(np.uint16)
    used = float((np.bitwise_count(columns.occupied & exists) / model.units).sum())
    gpus = float(columns.gpu_count[0])
    cut = 0.0
    for profile, total, taken in zip(
        world.profiles.values, columns.static_total[0], columns.static_used[0], strict=False
    ):
        spec = model.profile(profile)
        size = (spec.size if spec is not None else 1) / model.units
        cut += float(total) * size
        used += float(taken) * size
    stated = float(columns.shared_gpus[0])
    if cut:
        gpus = max(gpus, stated, float(ceil(cut - 1e-9)))
    if columns.shared_total[0]:
        gpus = max(gpus, stated)
        used += float(columns.shared_used[0]) * stated / float(columns.shared_total[0])
    return gpus, min(used, gpus)


def _left(world: World, columns: Columns) -> float:
    """V of what is free on the one row; shared replicas have no price a node and count nothing."""
    value = float(node_value(world, columns, columns.occupied)[0])
    prices = world.tables.class_price
    for profile, total, taken in zip(
        world.profiles.values, columns.static_total[0], columns.static_used[0], strict=False
    ):
        value += float(total - taken) * prices.get(f"mig:{profile}", 0.0)
    return max(0.0, value)


def _slices(inventory: NodeInventory, name: str) -> tuple[ResourceSlice, ...]:
    """What the driver of an empty node like that would publish."""
    own = replace(inventory, node=name, pool=name)
    if own.regime == "nvidia":
        return slices_from_json(nvidia_slices(own))
    return slices_from_json(to_slices(own, [0] * len(own.gpus), {}))


def _size(demand: Demand) -> float:
    """About how many GPUs a demand takes, to place the largest first."""
    size = 0.0
    for request in demand.requests:
        slices = _SLICES.match(request.profile or "")
        each = 1.0 if request.kind == "whole" else int(slices[1]) / 8.0 if slices else 1.0 / 16.0
        size += each * request.count
    return size
