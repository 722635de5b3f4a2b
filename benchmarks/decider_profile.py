"""Figures of the decider at 5,000 nodes × 8 GPUs, in one process and on one core.

Run from the repository root: ``python -m benchmarks.decider_profile [--fleet plugin|nvidia|slicewise]``.
Prints how long loading takes, what a request costs when its demand is known, when it is new, and after a
watch event, and the memory in use. Times of requests are processor time of the thread. Fleets: device plugin
(50,000 bound pods), NVIDIA's DRA driver, our driver (MIG on demand, about 60,000 allocated claims).
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np

from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from dra.catalog import models
from dra.inventory import Gpu, NodeInventory
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.resource_api import ResourceClaim
from dra.slices import nvidia_slices, to_slices
from metrics.carbon.intensity import Intensity
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.packing.mix import DemandMix
from scheduler.packing.prices import PriceTables, solve_prices
from scheduler.slice_store import LeanSlice

REGIONS = ("eu-north-1", "eu-central-1", "us-east-1")


def milliseconds(call: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        # Time of this thread on the processor: other processes of the machine do not count.
        start = time.thread_time()
        call()
        times.append((time.thread_time() - start) * 1000)
    return times


def show(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"{name:52s} mean {statistics.mean(times):8.3f} ms"
        f"   p50 {ordered[len(ordered) // 2]:8.3f}   p99 {p99:8.3f}"
    )


def plugin_node(index: int) -> Node:
    product = ("NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3")[index % 2]
    labels = {
        "kubernetes.io/hostname": f"node-{index}",
        "topology.kubernetes.io/region": REGIONS[index % 3],
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.memory": "81920",
    }
    images = [{"names": [f"registry.example/app-{index % 7}-{i}:v1"]} for i in range(40)]
    return msgspec.convert(
        {
            "metadata": {"name": f"node-{index}", "labels": labels},
            "status": {"allocatable": {"nvidia.com/gpu": "8", "cpu": "96"}, "images": images},
        },
        Node,
    )


def dra_node(index: int) -> Node:
    labels = {"kubernetes.io/hostname": f"node-{index}", "topology.kubernetes.io/region": REGIONS[index % 3]}
    return msgspec.convert({"metadata": {"name": f"node-{index}", "labels": labels}}, Node)


def pod(name: str, resources: dict[str, int], node: str = "") -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
            "spec": {
                "nodeName": node,
                "containers": [
                    {"name": "c", "image": "registry.example/app-1-1:v1", "resources": {"limits": resources}}
                ],
            },
            "status": {"phase": "Running" if node else "Pending"},
        },
        Pod,
    )


def plugin_fleet(nodes: int, pods: int, rng: random.Random) -> Fleet:
    fleet = Fleet()
    items = [plugin_node(index) for index in range(nodes)]
    bound = []
    for index in range(pods):
        resources = {"nvidia.com/gpu": 1} if index < nodes * 5 else {"cpu": 1}
        bound.append(pod(f"p-{index}", resources, f"node-{rng.randrange(nodes)}"))
    start = time.perf_counter()
    fleet.replace_nodes(items)
    middle = time.perf_counter()
    fleet.replace_pods(bound)
    end = time.perf_counter()
    print(f"load {nodes} nodes {middle - start:.2f} s, {pods} pods {end - middle:.2f} s")
    return fleet


def dra_fleet(nodes: int, ours: bool) -> Fleet:
    model = models()["H100-80GB"]
    fleet = Fleet()
    items = [dra_node(index) for index in range(nodes)]
    published: list[LeanSlice] = []
    claims: list[ResourceClaim] = []
    rng = random.Random(7)
    driver = "gpu.slicewise.io" if ours else "gpu.nvidia.com"
    order = geometry(model).least_harm_order(0, {})
    for index in range(nodes):
        name = f"node-{index}"
        gpus = tuple(Gpu(i, f"GPU-{index}-{i}", model, True, "NVIDIA H100 80GB HBM3") for i in range(8))
        inventory = NodeInventory(
            name,
            "slicewise" if ours else "nvidia",
            driver,
            name,
            gpus,
            nvswitch(model, 8),
            (order,) * 8,
            {},
            {},
        )
        made = to_slices(inventory, (0,) * 8, {}, version="1.35+") if ours else nvidia_slices(inventory)
        # As the watch delivers them: from JSON.
        published.extend(msgspec.json.decode(msgspec.json.encode(item), type=LeanSlice) for item in made)
        for gpu in range(8):
            for start in rng.sample(range(7), rng.randrange(4)):
                device = f"gpu-{gpu}-1g10gb-{start}" if ours else f"gpu-{gpu}-mig-1g10gb-19-{start}"
                claims.append(claim(f"c-{index}-{gpu}-{start}", driver, name, device))
    print(f"{len(published)} slices, {len(claims)} claims; resident {resident():.0f} MiB")
    begun = time.perf_counter()
    fleet.replace_nodes(items)
    fleet.replace_slices(published)
    middle = time.perf_counter()
    fleet.replace_claims(claims)
    print(f"load nodes and slices {middle - begun:.2f} s, claims {time.perf_counter() - middle:.2f} s")
    return fleet


def claim(name: str, driver: str, pool: str, device: str) -> ResourceClaim:
    result = {"request": "r", "driver": driver, "pool": pool, "device": device}
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
            "status": {"allocation": {"devices": {"results": [result]}}},
        },
        ResourceClaim,
    )


def resident() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def tables_for(fleet: Fleet, policy: ClusterPolicy) -> PriceTables:
    start = time.perf_counter()
    summary = read_conditions(fleet, policy).summary
    middle = time.perf_counter()
    mix = DemandMix(
        {"whole:1": 5, "whole:2": 2, "whole:4": 1, "whole:8": 1, "mig:1g.10gb": 4, "mig:3g.40gb": 2}
    )
    tables = solve_prices(summary, mix, lambda _: policy.prices.gpu_hour, None)
    print(f"summary {middle - start:.3f} s, LP {time.perf_counter() - middle:.3f} s")
    return tables


def measure(fleet: Fleet, wanted: dict[str, int], event: Callable[[int], None]) -> None:
    policy = ClusterPolicy()
    tables = tables_for(fleet, policy)
    intensity = {
        zone: Intensity(zone, 100.0 + 50 * i, "average", 0.0, 1e12, "test", False)
        for i, zone in enumerate(fleet.zones_in_use())
    }
    decider = Decider(fleet, lambda: policy, lambda: tables, lambda: dict(intensity), time.time)
    # The world is learned once, at start-up.
    decider.prioritize(pod("warm", {"nvidia.com/gpu": 3}), [])
    intensity.update(
        {zone: Intensity(zone, 100.0, "average", 0.0, 1e12, "test", False) for zone in fleet.zones_in_use()}
    )
    decider.prioritize(pod("warm", {"nvidia.com/gpu": 3}), [])
    gc.collect()
    gc.freeze()
    names = [name for name in fleet.names if name]
    random.Random(3).shuffle(names)
    fresh = iter(range(10**9))
    show(
        "first sight of a demand, prioritize",
        milliseconds(lambda: decider.prioritize(odd(next(fresh)), names), 20),
    )
    show("first sight of a demand, filter", milliseconds(lambda: decider.filter(odd(next(fresh)), names), 20))
    show("filter, known demand", milliseconds(lambda: decider.filter(pod("f", wanted), names), 300))
    show(
        "prioritize, known demand, same pod (reserves)",
        milliseconds(lambda: decider.prioritize(pod("p", wanted), names), 300),
    )
    counter = iter(range(10**9))
    show(
        "prioritize, known demand, new pods (reserves)",
        milliseconds(lambda: decider.prioritize(pod(f"n-{next(counter)}", wanted), names), 300),
    )
    show("watch event → row rebuilt", milliseconds(lambda: event(next(counter)), 300))

    def event_and_ask() -> None:
        event(next(counter))
        decider.prioritize(pod("p", wanted), names)

    show("watch event, then prioritize", milliseconds(event_and_ask, 300))
    show("full reprice of one known demand", milliseconds(lambda: reprice(decider), 20))
    demand = decider.demand(pod("x", wanted))
    assert demand is not None
    show("place (planner)", milliseconds(lambda: decider.place(demand), 300))
    show("bills", milliseconds(lambda: decider.bills(pod("b", wanted)), 3))
    print(
        f"resident {resident():.0f} MiB, "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def odd(number: int) -> Pod:
    made = pod(f"odd-{number}", {"nvidia.com/gpu": 1 + number % 8})
    made.metadata.annotations["slicewise.io/weights"] = f"w-{number}"
    return made


def reprice(decider: Decider) -> None:
    shapes = decider.shapes.demands()[-1:]
    for shape in decider.shapes._shapes.values():
        shape.epoch = -1
    decider.refresh(shapes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=50000)
    parser.add_argument("--fleet", choices=("plugin", "nvidia", "slicewise"), default="plugin")
    options = parser.parse_args()
    np.seterr(all="raise")
    if options.fleet == "plugin":
        fleet = plugin_fleet(options.nodes, options.pods, random.Random(1))
        measure(
            fleet,
            {"nvidia.com/gpu": 2},
            lambda i: fleet.apply_pod(pod(f"e-{i}", {"nvidia.com/gpu": 1}, f"node-{i % options.nodes}")),
        )
    else:
        ours = options.fleet == "slicewise"
        fleet = dra_fleet(options.nodes, ours)
        driver = "gpu.slicewise.io" if ours else "gpu.nvidia.com"
        device = "gpu-7-3g40gb-4" if ours else "gpu-7-mig-3g40gb-9-4"
        measure(
            fleet,
            {"nvidia.com/mig-3g.40gb": 1},
            lambda i: fleet.apply_claim(claim(f"e-{i}", driver, f"node-{i % options.nodes}", device)),
        )


if __name__ == "__main__":
    main()
