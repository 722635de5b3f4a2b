"""A cluster of the openb trace's shape as this product would meet it: its nodes, and its pods until so full.

The node list gives CPU, memory and GPU counts (1,213 nodes, 6,212 GPUs; more nodes repeat it). Models are
the trace's where it names them; its anonymous G2 and G3 become A100-80GB and H100-80GB under our DRA driver,
MIG on demand; every sixth T4 node shares its GPUs in four time-sliced replicas, all others offer whole GPUs.
Pods are drawn from the ``default`` list with their CPU and memory: whole GPUs as they are, a fraction as the
smallest MIG profile that holds it, on a whole GPU where none does, and one in ten as a replica. Wishes for
a model are left out. They go where the product's own prices send them, solved on the empty cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from dra.catalog import models
from dra.inventory import SLICEWISE_DRIVER, Gpu, NodeInventory
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.resource_api import DeviceClass, ResourceClaim
from dra.slices import device_name, to_slices
from scheduler.columns import Columns
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.fleet import Fleet
from scheduler.packing.mix import mix_of, observe
from scheduler.packing.prices import PriceTables, solve_prices
from scheduler.prediction import expected, predict
from scheduler.slice_store import LeanSlice
from scheduler.snapshot import Snapshot
from simulator.openb import NodeShape, PodShape, read_nodes, read_pods

DATA = Path(__file__).resolve().parent.parent / "simulator/data/openb"
REPLICAS = 4
MODELS = {
    "A10": "A10-24GB",
    "P100": "P100-16GB",
    "T4": "T4-16GB",
    "V100M16": "V100-16GB",
    "V100M32": "V100-32GB",
    "G2": "A100-80GB",
    "G3": "H100-80GB",
}
CUT = ("G2", "G3")
PROFILES = ((125, "1g.10gb"), (330, "2g.20gb"), (500, "3g.40gb"))  # up to so many milli-GPU
CLASSES = {
    "gpu.slicewise.io": ("nvidia.com/gpu", "type == 'gpu'"),
    **{
        f"mig-{profile.replace('.', '')}": (f"nvidia.com/mig-{profile}", f"profile == '{profile}'")
        for _, profile in PROFILES
    },
}

Json = dict[str, Any]


@dataclass(slots=True)
class Filled:
    """The objects of the cluster and the fleet that knows them; ``shapes``: the pods that may come."""

    fleet: Fleet
    snapshot: Snapshot
    shapes: list[Json]
    used: float
    bound: list[tuple[Pod, ResourceClaim | None]]


def filled_cluster(nodes: int, share: float, seed: int = 1) -> Filled:
    """Make the cluster with ``share`` of its GPUs in use, as far as pods fit."""
    fleet, objects, slices, inventories, capacity = empty_cluster(nodes)
    filler = Filler(fleet, inventories, np.random.default_rng(seed))
    filler.fill(share * capacity)
    return Filled(
        fleet=fleet,
        snapshot=Snapshot(
            taken_at="2026-11-21T00:00:00Z",
            nodes=[msgspec.Raw(msgspec.json.encode(item)) for item in objects],
            pods=[msgspec.Raw(msgspec.json.encode(item)) for item in filler.pods],
            resource_slices=slices,
            resource_claims=[msgspec.Raw(msgspec.json.encode(item)) for item in filler.claims],
            device_classes=[msgspec.Raw(msgspec.json.encode(item)) for item in _classes()],
            policy="apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\ncarbon: {provider: none}\n",
        ),
        shapes=filler.shapes,
        used=filler.used / capacity,
        bound=filler.bound,
    )


def empty_cluster(
    nodes: int,
) -> tuple[Fleet, list[Json], list[msgspec.Raw], dict[str, NodeInventory], float]:
    """A fleet without pods, its Node and ResourceSlice objects, what its DRA nodes offer, and its GPUs."""
    fleet = Fleet()
    listed = read_nodes(DATA / "openb_node_list_gpu_node.csv.gz")
    objects: list[Json] = []
    slices: list[msgspec.Raw] = []
    inventories: dict[str, NodeInventory] = {}
    for item in _classes():
        fleet.apply_class(msgspec.convert(item, DeviceClass))
    for index in range(nodes):
        shape = listed[index % len(listed)]
        name = f"gpu-{index:05d}"
        objects.append(_node(name, index, shape))
        if shape.model in CUT:
            inventories[name] = inventory = _inventory(name, index, shape)
            made = to_slices(inventory, [0] * shape.gpus, {})
            slices.extend(msgspec.Raw(msgspec.json.encode(item)) for item in made)
    for raw in slices:
        fleet.apply_slice(msgspec.json.decode(raw, type=LeanSlice))
    fleet.replace_nodes(msgspec.convert(item, Node) for item in objects)
    capacity = float(sum(listed[index % len(listed)].gpus for index in range(nodes)))
    return fleet, objects, slices, inventories, capacity


def _classes() -> list[Json]:
    return [_class(name, *rest) for name, rest in CLASSES.items()]


def pod(name: str, spec: Json, node: str = "", claim: str = "") -> Json:
    """A pod as the API server would send it."""
    status: Json = {"phase": "Running" if node else "Pending"}
    if claim:
        status["extendedResourceClaimStatus"] = {"resourceClaimName": claim, "requestMappings": []}
    return {
        "metadata": {"name": name, "namespace": "load", "uid": f"uid-{name}", "generation": 1},
        "spec": {**spec, **({"nodeName": node} if node else {})},
        "status": status,
    }


class Filler:
    """Lets pods of one list come, each to the node that the product's prices choose."""

    def __init__(
        self,
        fleet: Fleet,
        inventories: dict[str, NodeInventory],
        random: np.random.Generator,
        pods: str = "default",
        see: Callable[[PriceTables], PriceTables] = lambda tables: tables,
    ) -> None:
        """``pods``: the list they are drawn from; ``see``: what of solved tables is used."""
        trace = read_pods(DATA / f"openb_pod_list_{pods}.csv.gz")
        self._see = see
        self._fleet, self._inventories, self._random = fleet, inventories, random
        specs: dict[bytes, Json] = {}
        self._drawn: list[Json] = []
        for index in random.choice(trace.pods, size=20_000).tolist():
            shape = trace.shapes[index]
            if shape.gpus:
                spec = _spec(shape, shared=shape.shared and random.random() < 0.1)
                self._drawn.append(specs.setdefault(msgspec.json.encode(spec), spec))
        self.shapes = list(specs.values())
        self.pods: list[Json] = []
        self.claims: list[Json] = []
        self.bound: list[tuple[Pod, ResourceClaim | None]] = []
        self.used = 0.0
        policy = ClusterPolicy()
        demands = [msgspec.convert(pod("x", spec), Pod) for spec in self._drawn[:2000]]
        self._decider = Decider(fleet, lambda: policy, lambda: self._tables, dict, lambda: 0.0)
        found = [self._decider.demand(item) for item in demands]
        conditions = read_conditions(fleet, policy)
        mix = mix_of(
            observe((item, 1) for item in found if item is not None), {}, conditions.summary.models.values()
        )
        self._tables = see(solve_prices(conditions.summary, mix, conditions.price_of, None, 30.0))

    def fill(self, wanted: float) -> None:
        """Let pods come until so many GPUs are in use, or 500 in a row found no place."""
        refused, number = 0, 0
        while self.used < wanted and refused < 500:
            spec = self._drawn[number % len(self._drawn)]
            number += 1
            refused = 0 if self._place(f"p-{number}", spec) else refused + 1

    def arrive(self, wanted: float, resolve_every: int) -> tuple[int, int]:
        """Let pods come until they have asked for so many GPUs, prices solved anew every so many pods; return
        how many came and how many fitted nowhere.
        """
        asked, number, failed = 0.0, 0, 0
        solved: PriceTables | None = None
        while asked < wanted:
            spec = self._drawn[number % len(self._drawn)]
            number += 1
            asked += asked_gpus(spec)
            failed += not self._place(f"p-{number}", spec)
            if number % resolve_every == 0:
                found = read_conditions(self._fleet, ClusterPolicy())
                mix = mix_of(found.observed, {}, found.summary.models.values())
                solved = solve_prices(found.summary, mix, found.price_of, solved, 30.0)
                self._tables = self._see(solved)
        return number, failed

    def _place(self, name: str, spec: Json) -> bool:
        fleet = self._fleet
        demand = self._decider.demand(msgspec.convert(pod(name, spec), Pod))
        row = None if demand is None else self._decider.place(demand)
        if demand is None or row is None:
            return False
        columns = fleet.view(np.array([row]))
        before = columns.occupied[0].copy()
        after = predict(columns, expected(columns), demand, fleet.hardware, fleet.profiles).after[0]
        node = fleet.names[row]
        claim: Json | None = None
        if node in self._inventories:
            claim = _claim(f"c-{name}", self._inventories[node], before, after)
            self.claims.append(claim)
        item = pod(name, spec, node, f"c-{name}" if claim else "")
        self.pods.append(item)
        bound = msgspec.convert(item, Pod)
        allocated = msgspec.convert(claim, ResourceClaim) if claim else None
        if allocated is not None:
            fleet.apply_claim(allocated)
        fleet.apply_pod(bound)
        self.bound.append((bound, allocated))
        self.used += _gpus(demand, columns, before, after)
        return True


def asked_gpus(spec: Json) -> float:
    """GPUs that a pod of the mapped list asks for."""
    ((resource, count),) = spec["containers"][0]["resources"]["limits"].items()
    if resource == "nvidia.com/gpu.shared":
        return int(count) / REPLICAS
    profile = models()["A100-80GB"].profile(resource.removeprefix("nvidia.com/mig-"))
    return int(count) * (profile.size / 8.0 if profile is not None else 1.0)


def _gpus(
    demand: Demand, columns: Columns, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]
) -> float:
    units = np.bitwise_count(columns.full[0])
    own = columns.model_id[0] >= 0
    taken = float((np.bitwise_count(after & ~before)[own] / units[own]).sum())
    return taken + sum(request.count for request in demand.requests if request.kind == "shared") / REPLICAS


def _spec(shape: PodShape, shared: bool) -> Json:
    resource, count = "nvidia.com/gpu", shape.gpus
    if shared:
        resource = "nvidia.com/gpu.shared"
    elif shape.shared:
        fitting = [profile for most, profile in PROFILES if shape.gpu_milli <= most]
        resource = f"nvidia.com/mig-{fitting[0]}" if fitting else resource
    requests = {"cpu": f"{shape.cpu_milli}m", "memory": f"{shape.memory_mib}Mi", resource: str(count)}
    limits = {resource: str(count)}
    container = {"name": "c", "image": "m", "resources": {"requests": requests, "limits": limits}}
    return {"schedulerName": "default-scheduler", "containers": [container]}


def _node(name: str, index: int, shape: NodeShape) -> Json:
    model = models()[MODELS[shape.model]]
    allocatable = {"cpu": f"{shape.cpu_milli}m", "memory": f"{shape.memory_mib}Mi", "pods": "110"}
    labels = {"kubernetes.io/hostname": name}
    if shape.model not in CUT:
        labels |= {
            "nvidia.com/gpu.product": model.products[0],
            "nvidia.com/gpu.count": str(shape.gpus),
            "nvidia.com/gpu.memory": str(model.memory_mib),
        }
        if shape.model == "T4" and index % 6 == 0:
            labels["nvidia.com/gpu.replicas"] = str(REPLICAS)
            allocatable["nvidia.com/gpu.shared"] = str(shape.gpus * REPLICAS)
        else:
            allocatable["nvidia.com/gpu"] = str(shape.gpus)
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}


def _inventory(name: str, index: int, shape: NodeShape) -> NodeInventory:
    model = models()[MODELS[shape.model]]
    gpus = tuple(Gpu(i, f"GPU-{index:05d}-{i}", model, True, model.products[0]) for i in range(shape.gpus))
    orders = (geometry(model).least_harm_order(0, {}),) * shape.gpus
    wiring = nvswitch(model, shape.gpus)
    return NodeInventory(name, "slicewise", SLICEWISE_DRIVER, name, gpus, wiring, orders, {}, {})


def _claim(
    name: str, inventory: NodeInventory, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]
) -> Json:
    results = []
    for index, gpu in enumerate(inventory.gpus):
        bits = int(after[index]) & ~int(before[index])
        if bits == inventory.whole_mask(index):
            results.append(device_name(gpu))
        elif bits:
            placement = next(p for p in inventory.orders[index] if p.bits == bits)
            results.append(device_name(gpu, placement))
    found = [
        {"request": "r", "driver": inventory.driver, "pool": inventory.pool, "device": device}
        for device in results
    ]
    return {
        "metadata": {"name": name, "namespace": "load", "uid": f"uid-{name}"},
        "status": {"allocation": {"devices": {"results": found}}},
    }


def _class(name: str, resource: str, test: str) -> Json:
    expression = f"device.driver == '{SLICEWISE_DRIVER}' && device.attributes['{SLICEWISE_DRIVER}'].{test}"
    return {
        "metadata": {"name": name},
        "spec": {"extendedResourceName": resource, "selectors": [{"cel": {"expression": expression}}]},
    }
