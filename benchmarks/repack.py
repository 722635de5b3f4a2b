"""How long the repacker thinks: a fleet of many nodes, full of small MIG pods, with pods waiting for large
instances.

    python -m benchmarks.repack --nodes 5000 --waiting 20

Times the reading of the scene (first, and again when little changed), a plan, and what the plan reaches: how
many waiting pods are helped with how many moves, each plan checked by replaying it. No cluster is needed. The
figures go to build/bench/repack.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import msgspec

from cluster.disruption import Budgets
from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from dra.catalog import models
from dra.inventory import Gpu, NodeInventory, from_slices
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.resource_api import DeviceClass, ResourceClaim, ResourceSlice, slices_from_json
from dra.slices import nvidia_slices
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.packing.mix import DemandMix
from scheduler.packing.prices import solve_prices
from scheduler.repack.census import Census
from scheduler.repack.plan import plan
from scheduler.repack.read import SceneReader
from scheduler.repack.scene import Limits

MODEL = models()["H100-80GB"]
PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb")
NOW = 1_800_000_000.0
DRIVER = "gpu.nvidia.com"


class Made:
    """The fleet of the benchmark, filled at random by ``seed`` to the share ``load`` of its units."""

    def __init__(self, nodes: int, gpus: int, load: float, waiting: int, seed: int) -> None:
        self.draw = random.Random(seed)
        self.fleet, self.census = Fleet(), Census()
        self.policy = ClusterPolicy.model_validate({"carbon": {"provider": "none"}})
        for name, kind in (("gpu.nvidia.com", "gpu"), ("mig.nvidia.com", "mig")):
            expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{kind}'"
            spec = {"selectors": [{"cel": {"expression": expression}}]}
            self.fleet.apply_class(msgspec.convert({"metadata": {"name": name}, "spec": spec}, DeviceClass))
        names = [f"node-{number:05d}" for number in range(nodes)]
        made_nodes: list[Node] = []
        made_slices: list[ResourceSlice] = []
        for name in names:
            made_nodes.append(_node(name))
            made_slices.extend(slices_from_json(nvidia_slices(_inventory(name, gpus))))
        self.fleet.replace_slices(made_slices)
        self.fleet.replace_nodes(made_nodes)
        self.census.replace_nodes(made_nodes)
        self.pods = 0
        found = from_slices(names[0], slices_from_json(nvidia_slices(_inventory(names[0], gpus))))
        assert found is not None
        places = [(name, ref) for name, ref in found.devices.items() if ref.placement is not None]
        pods, claims = [], []
        for name in names:
            masks = [0] * gpus
            self.draw.shuffle(places)
            for device, ref in places:
                placement = ref.placement
                assert placement is not None
                taken = sum(mask.bit_count() for mask in masks)
                if taken >= load * gpus * MODEL.units:
                    break
                if placement.profile in PROFILES and not placement.bits & masks[ref.gpu]:
                    masks[ref.gpu] |= placement.bits
                    pod, claim = self._pod(placement.profile, name, device)
                    pods.append(pod)
                    claims.append(claim)
        for _ in range(waiting):
            pod, claim = self._pod(self.draw.choice(["4g.40gb", "7g.80gb"]), "", "")
            pods.append(pod)
            claims.append(claim)
        self.fleet.replace_claims(claims)
        self.fleet.replace_pods(pods)
        self.census.replace_pods(pods)
        conditions = read_conditions(self.fleet, self.policy)
        mix = DemandMix({"mig:1g.10gb": 4.0, "mig:3g.40gb": 2.0, "mig:7g.80gb": 1.0})
        tables = solve_prices(conditions.summary, mix, lambda _: 2.5, None)
        self.decider = Decider(self.fleet, lambda: self.policy, lambda: tables, dict, lambda: NOW)

    def _pod(self, profile: str, node: str, device: str) -> tuple[Pod, ResourceClaim]:
        self.pods += 1
        name = f"pod-{self.pods}"
        app = f"app-{self.draw.randrange(2000)}"
        owner = {"kind": "ReplicaSet", "name": app, "uid": f"uid-{app}", "controller": True}
        pod = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "ownerReferences": [owner],
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "nodeName": node,
                "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            },
            "status": {"phase": "Running" if node else "Pending"},
        }
        selector = {"cel": {"expression": f"device.attributes['{DRIVER}'].profile == '{profile}'"}}
        request = {"name": "r", "exactly": {"deviceClassName": "mig.nvidia.com", "selectors": [selector]}}
        result = {"request": "r", "driver": DRIVER, "pool": node, "device": device}
        claim = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"claim-{name}",
                "ownerReferences": [{"kind": "Pod", "name": name, "uid": f"uid-{name}"}],
            },
            "spec": {"devices": {"requests": [request]}},
            "status": {"allocation": {"devices": {"results": [result]}}} if node else {},
        }
        return msgspec.convert(pod, Pod), msgspec.convert(claim, ResourceClaim)


def _node(name: str) -> Node:
    offered = {"cpu": "192", "memory": "2048Gi", "pods": "250"}
    return msgspec.convert({"metadata": {"name": name}, "status": {"allocatable": offered}}, Node)


def _inventory(name: str, gpus: int) -> NodeInventory:
    order = geometry(MODEL).least_harm_order(0, {})
    cards = tuple(Gpu(i, f"GPU-{name}-{i}", MODEL, True, MODEL.products[0]) for i in range(gpus))
    return NodeInventory(name, "nvidia", DRIVER, name, cards, nvswitch(MODEL, gpus), (order,) * gpus, {}, {})


def timed(what: str, act):  # type: ignore[no-untyped-def]
    """Run and say how long it took."""
    started = time.perf_counter()
    result = act()
    seconds = time.perf_counter() - started
    print(f"  {what}: {seconds:.3f} s", file=sys.stderr, flush=True)
    return result, seconds


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    flags.add_argument("--nodes", type=int, default=5000)
    flags.add_argument("--gpus", type=int, default=8, help="a node")
    flags.add_argument("--load", type=float, default=0.85, help="share of units in use")
    flags.add_argument("--waiting", type=int, default=20, help="pods that wait for 4g or 7g")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--output", type=Path, default=Path("build/bench/repack.json"))
    options = flags.parse_args(arguments)
    print(f"{options.nodes} nodes x {options.gpus} H100, load {options.load}", file=sys.stderr)
    made, build = timed(
        "building the fleet",
        lambda: Made(options.nodes, options.gpus, options.load, options.waiting, options.seed),
    )
    reader = SceneReader(made.decider, made.census, Budgets())
    _, first = timed("first scene", lambda: reader.scene(made.policy, NOW))
    scene, again = timed("scene again, nothing changed", lambda: reader.scene(made.policy, NOW))
    limits = Limits(evictions=30, concurrent=4, horizon_hours=4.0)
    found, planning = timed("plan", lambda: plan(scene, limits))
    document = {
        "nodes": options.nodes,
        "gpus": options.nodes * options.gpus,
        "pods": made.pods,
        "waiting": options.waiting,
        "seed": options.seed,
        "build_seconds": round(build, 3),
        "first_scene_seconds": round(first, 3),
        "scene_seconds": round(again, 3),
        "plan_seconds": round(planning, 3),
        "helped": len(found.reliefs),
        "moves": sum(len(relief.moves) for relief in found.reliefs),
        "unmet": len(found.unmet),
        "savings": len(found.savings),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
