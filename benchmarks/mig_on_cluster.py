"""MIGBench's protocol on the real control plane: kube-scheduler, DRA and kwok nodes, time compressed.

The arrivals are those of ``benchmarks.mig`` (same seed, same jobs); a second of the machine stands for
``--speed`` seconds of the study. A job is a pod that asks for ``nvidia.com/mig-<profile>``; it is deleted
when its time has passed since it was bound. Two sides, one after the other:

- ``plain``: kube-scheduler as it ships, devices as NVIDIA's driver names and sorts them;
- ``slicewise``: the shipped profile with extender and planner, and a driver that publishes each card's
  placements by worth lost (``scheduler.packing.mig_values.device_order``).

Scheduling time is creation → bound of the pods that found room when they came (the API server's watch, this
process's clock), beside kube-scheduler's own end-to-end histogram of successful attempts. Waits and GPC
utilisation are in the study's seconds. Writes build/bench/mig_on_cluster.json. Usage:
python -m benchmarks.mig_on_cluster [--jobs 500] [--load 1.4] [--speed 150] [--nodes 2] [--gpus 4] [--seed 42]
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.planned_road import POLICY, process
from benchmarks.scheduler_run import NAMESPACE, RunFailed, extended_config, say, serving
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.demo.fleet import ZONES, DemoNode, Shape, node_manifest
from deploy.demo.publishing import Side
from deploy.demo.virtual_driver import VirtualDriver
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import RequestRefused
from dra.inventory import NodeInventory
from dra.mig import geometry
from dra.resource_api import ResourceClaim
from scheduler.packing.mig_values import device_order, mask_values
from simulator.mig_arrivals import Arrivals, draw, parse_mix
from simulator.mig_grid import full_name, mig_model

OUTPUT = Path("build/bench/mig_on_cluster.json")
MODEL = "H100-80GB"
MIX = "1g:35,2g:25,3g:25,7g:5"
TARGET_MILLISECONDS = 139.0
ATTEMPT = "scheduler_scheduling_attempt_duration_seconds"
_GONE = (200, 202, 404)
_PATIENCE_SECONDS = 240.0


class ByWorth(VirtualDriver):
    """Our driver, ordering each card's placements by the worth they take from it."""

    counts: dict[str, float]

    def documents(self, inventory: NodeInventory, masks: Sequence[int]) -> list[dict[str, Any]]:
        found = super().documents(inventory, masks)
        for document in found:
            devices = document["spec"].get("devices", [])
            index = next((d["attributes"]["index"]["int"] for d in devices), None)
            if index is None:
                continue
            model = inventory.gpus[index].model
            order = device_order(model, mask_values(model, self.counts), masks[index])
            rank = {(p.profile, p.start): position for position, p in enumerate(order)}
            devices.sort(key=lambda device: rank.get(_placement(device), len(rank)))
        return found


def _placement(device: dict[str, Any]) -> tuple[str, int]:
    attributes = device["attributes"]
    return (
        attributes.get("profile", {}).get("string", ""),
        attributes.get("placementStart", {}).get("int", -1),
    )


@dataclass
class Jobs:
    """Handler of the pods' reflector: what was bound when, and what is to be deleted when."""

    seconds: dict[str, float]
    clock: Any
    created: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    had_room: dict[str, bool] = field(default_factory=dict)
    endings: list[tuple[float, str]] = field(default_factory=list)
    changed_: threading.Condition = field(default_factory=threading.Condition)

    def replaced(self, items: Sequence[Pod]) -> None:
        for pod in items:
            self.changed("ADDED", pod)

    def changed(self, kind: str, item: Pod) -> None:
        name = item.metadata.name
        if kind == "DELETED" or not item.spec.node_name or name in self.bound or name not in self.seconds:
            return
        with self.changed_:
            now = self.clock()
            self.bound[name] = now
            heapq.heappush(self.endings, (now + self.seconds[name], name))
            self.changed_.notify_all()


def side_run(
    side: Side, options: argparse.Namespace, arrivals: Arrivals, profiles: list[str]
) -> dict[str, Any]:
    """Play the arrivals on a control plane of their own."""
    shape = Shape("h100", options.nodes, "gpu-h100", MODEL, "NVIDIA-H100-80GB-HBM3", options.gpus, True,
                  "nvswitch", 192, 1024)  # fmt: skip
    nodes = [DemoNode(f"h100-{number}", ZONES[0], shape) for number in range(1, options.nodes + 1)]
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = stack.enter_context(ControlPlane(name=f"mig-{side}", with_scheduler=False))
        for node in nodes:
            plane.request("POST", "/api/v1/nodes", node_manifest(node))
        driver = (
            ByWorth(plane.connect, nodes, side, {})
            if side == "slicewise"
            else VirtualDriver(plane.connect, nodes, side, {})
        )
        if isinstance(driver, ByWorth):
            driver.counts = dict(zip(profiles, options.weights, strict=True))
        driver.publish()
        api = Api.connect(str(plane.kubeconfig))
        stack.callback(api.close)
        start = time.monotonic() + 1e9
        jobs = Jobs({}, lambda: time.monotonic() - start)
        for path, kind, handler in (
            ("/apis/resource.k8s.io/v1/resourceclaims", ResourceClaim, driver),
            ("/api/v1/pods", Pod, jobs),
        ):
            reflector: Reflector[Any] = Reflector(api, path, kind, handler)
            reflector.start()
            stack.callback(reflector.stop)
        driver.start()
        stack.callback(driver.stop)
        if side == "plain":
            plane.start_scheduler({})
        else:
            plane.apply(POLICY)
            extender = f"http://127.0.0.1:{plane.claim_port()}"
            controller = f"http://127.0.0.1:{plane.claim_port()}"
            stack.enter_context(
                serving(process("scheduler", plane, extender), f"{extender}/readyz", logs / "scheduler.log")
            )
            stack.enter_context(
                serving(
                    process("autoscaler", plane, controller), f"{controller}/readyz", logs / "controller.log"
                )
            )
            plane.start_scheduler(extended_config(extender))
        _nodes_ready(plane, len(nodes))
        jobs.seconds = {_name(job): length / options.speed for job, length in enumerate(arrivals.seconds)}
        start = time.monotonic()
        jobs.clock = lambda: time.monotonic() - start
        finished = _play(plane, driver, jobs, arrivals, profiles, options.speed)
        text = plane.scheduler_metrics()
        problems = list(driver.problems)
    return _figures(side, options, arrivals, jobs, finished, text, problems)


def _play(
    plane: ControlPlane,
    driver: VirtualDriver,
    jobs: Jobs,
    arrivals: Arrivals,
    profiles: list[str],
    speed: float,
) -> float:
    """Create and delete on time; returns the run's length in the machine's seconds."""
    model = mig_model(MODEL)
    shapes = geometry(model)
    position, deleted, last_change = 0, 0, jobs.clock()
    with plane.connect() as connection:
        while deleted < len(arrivals.at):
            now = jobs.clock()
            if position < len(arrivals.at) and arrivals.at[position] / speed <= now:
                name, profile = _name(position), profiles[arrivals.profile[position]]
                jobs.had_room[name] = any(
                    shapes.free_starts(profile, mask) for masks in driver.masks().values() for mask in masks
                )
                jobs.created[name] = now
                connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", _pod(name, profile))
                position += 1
                continue
            with jobs.changed_:
                due = bool(jobs.endings) and jobs.endings[0][0] <= now
                name = heapq.heappop(jobs.endings)[1] if due else ""
                if not due:
                    nearest = [jobs.endings[0][0]] if jobs.endings else []
                    if position < len(arrivals.at):
                        nearest.append(arrivals.at[position] / speed)
                    jobs.changed_.wait(min([0.2, *(max(0.0, at - now) for at in nearest)]))
            if due:
                path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
                connection.request("DELETE", path, {"gracePeriodSeconds": 0}, accepted=_GONE)
                deleted, last_change = deleted + 1, jobs.clock()
            elif jobs.clock() - max(last_change, arrivals.at[-1] / speed) > _PATIENCE_SECONDS:
                raise RunFailed(f"{len(arrivals.at) - deleted} pods were not bound and nothing moves")
    return float(jobs.clock())


def _figures(
    side: Side,
    options: argparse.Namespace,
    arrivals: Arrivals,
    jobs: Jobs,
    finished: float,
    metrics: str,
    problems: list[str],
) -> dict[str, Any]:
    model = mig_model(MODEL)
    slices = [model.profile(name).compute_slices for name in options.profiles]  # type: ignore[union-attr]
    capacity = options.nodes * options.gpus * model.compute_slices
    work = sum(slices[p] * s for p, s in zip(arrivals.profile, arrivals.seconds, strict=True))
    waits = sorted((jobs.bound[name] - jobs.created[name]) * options.speed for name in jobs.created)
    at_once = [
        (jobs.bound[name] - jobs.created[name]) * 1000.0 for name, room in jobs.had_room.items() if room
    ]
    total, count = _attempts(metrics)
    return {
        "mean_scheduling_milliseconds": round(fmean(at_once), 1) if at_once else None,
        "median_scheduling_milliseconds": round(median(at_once), 1) if at_once else None,
        "slowest_scheduling_milliseconds": [round(value) for value in sorted(at_once)[-5:]],
        "pods_that_found_room": len(at_once),
        "scheduler_attempt_mean_milliseconds": round(1000.0 * total / count, 1) if count else None,
        "mean_wait_seconds": round(fmean(waits), 1),
        "p95_wait_seconds": round(waits[min(len(waits) - 1, int(0.95 * len(waits)))], 1),
        "gpc_utilisation_percent": round(100.0 * work / (capacity * finished * options.speed), 2),
        "makespan_seconds": round(finished * options.speed),
        "wall_seconds": round(finished, 1),
        "problems": problems[:5],
    }


def _attempts(text: str) -> tuple[float, float]:
    """(seconds, number) of kube-scheduler's attempts that ended in a binding."""
    total = count = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("result") == "scheduled":
                total += sample.value if sample.name == f"{ATTEMPT}_sum" else 0.0
                count += sample.value if sample.name == f"{ATTEMPT}_count" else 0.0
    return total, count


def _nodes_ready(plane: ControlPlane, expected: int) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        nodes = plane.request("GET", "/api/v1/nodes")["items"]
        ready = sum(
            condition["status"] == "True"
            for node in nodes
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready"
        )
        if ready >= expected:
            return
        if time.monotonic() > deadline:
            raise RunFailed(f"nodes: {ready} of {expected} are ready after 60 s")
        time.sleep(0.1)


def _name(job: int) -> str:
    return f"job-{job:05d}"


def _pod(name: str, profile: str) -> dict[str, Any]:
    resource = {f"nvidia.com/mig-{profile}": "1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "work",
                    "image": "registry.example/work:1",
                    "resources": {"limits": resource, "requests": {**resource, "cpu": "100m"}},
                }
            ],
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a side could not be carried out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mig_on_cluster", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--load", type=float, default=1.4)
    parser.add_argument("--speed", type=float, default=150.0, help="study seconds a second (default: 150)")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--sides", default="plain,slicewise")
    options = parser.parse_args(arguments)
    model, mix = mig_model(MODEL), parse_mix(MIX)
    options.profiles = [full_name(model, name) for name in mix]
    options.weights = list(mix.values())
    slices = [profile.compute_slices for profile in map(model.profile, options.profiles) if profile]
    arrivals = draw(
        options.weights,
        slices,
        capacity=options.nodes * options.gpus * model.compute_slices,
        load=options.load,
        jobs=options.jobs,
        seed=options.seed,
    )
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.mig_on_cluster --jobs {options.jobs} --load {options.load:g} "
        f"--speed {options.speed:g} --nodes {options.nodes} --gpus {options.gpus} --seed {options.seed}",
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "target_milliseconds": TARGET_MILLISECONDS,
        "sides": {},
    }
    for side in options.sides.split(","):
        say(f"{side}: {options.jobs} jobs, about {arrivals.at[-1] / options.speed:.0f} s of arrivals")
        try:
            report["sides"][side] = side_run(side, options, arrivals, options.profiles)
        except (RunFailed, RequestRefused) as failed:
            say(f"mig_on_cluster: {side}: {failed}")
            return 1
        say(f"{side}: {json.dumps(report['sides'][side])}")
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
