"""One side of the demo: a cluster of its own, the plan's pods on it, and what was seen.

``plain``: kube-scheduler as it comes, NVIDIA's driver's order of devices, a fixed number of LLM replicas.
``slicewise``: the scheduler profile, extender, planner, driver and autoscaler of this project. Everything
else is the same: hardware, arrivals, their clock, the queueing server, Prometheus. All processes end with the
cluster, also when this one dies.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.demo.addons import AddOns
from deploy.demo.fleet import node_manifest, topology_of
from deploy.demo.llm_server import Output
from deploy.demo.measure import FleetSample, PodRecord, fleet_sample, nvlink_share
from deploy.demo.observing import PodWatch
from deploy.demo.placement_orders import ByWorth, order_reflector
from deploy.demo.plan import LEAD_SECONDS, DemoPlan
from deploy.demo.publishing import Side
from deploy.demo.replay import Replay
from deploy.demo.scheduler_metrics import ALGORITHM, Histogram, read_histogram
from deploy.demo.virtual_driver import VirtualDriver
from deploy.demo.workload import (
    GRAMS_PER_KWH,
    LLM_NAMESPACE,
    llm_deployment,
    namespace_of,
    namespaces,
    road_of,
)
from deploy.local.conditions import condition
from deploy.local.control_plane import SYSTEM_NAMESPACE, ControlPlane
from deploy.local.processes import ServerFailed
from dra.resource_api import ResourceClaim

_READY_SECONDS = 180.0
_SAMPLE_SECONDS = 1.0

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class SideResult:
    """Everything that was seen on one side."""

    side: Side
    samples: tuple[FleetSample, ...]
    pods: tuple[PodRecord, ...]
    algorithm: Histogram
    llm: Output
    llm_replicas: int | None
    setup_seconds: float
    slices_republished: int
    nominations: Mapping[str, float]
    problems: tuple[str, ...]


class SideRun:
    """A context manager: the cluster lives inside the ``with``; ``run`` replays the plan on it once."""

    def __init__(self, side: Side, plan: DemoPlan, report: Report) -> None:
        self._side: Side = side
        self._plan = plan
        self._report = report
        self._stack = ExitStack()
        self._plane = ControlPlane(name=f"slicewise-demo-{side}", with_scheduler=False)
        self._addons: AddOns | None = None
        self._start = 0.0

    def __enter__(self) -> SideRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def page_url(self) -> str | None:
        """The fleet page's address, on the Slicewise side."""
        return self._addons.page_url if self._addons is not None else None

    @property
    def kubeconfig(self) -> Path:
        return self._plane.kubeconfig

    def run(self) -> SideResult:
        """Set up, replay, measure. Raises ServerFailed when a process does not come up or ends early."""
        began = time.monotonic()
        plan, plane = self._plan, self._plane
        self._report(0.0, "starting the control plane")
        self._stack.callback(plane.stop)
        plane.start()
        self._report(0.02, "creating nodes and devices")
        order = ByWorth()
        driver = VirtualDriver(plane.connect, plan.nodes, self._side, {}, order)
        self._create_nodes()
        driver.publish()
        plane.apply(namespaces())
        api = Api.connect(str(plane.kubeconfig))
        self._stack.callback(api.close)
        pods = PodWatch(self._clock)
        self._watch(Reflector(api, "/apis/resource.k8s.io/v1/resourceclaims", ResourceClaim, driver))
        self._watch(Reflector(api, "/api/v1/pods", Pod, pods))
        if self._side == "slicewise":
            self._watch(order_reflector(api, SYSTEM_NAMESPACE, order))
        driver.start()
        self._stack.callback(driver.stop)
        port = plane.claim_port()
        scrape = {
            "job_name": "llm",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        prometheus = plane.start_prometheus([scrape])
        if self._side == "slicewise":
            self._report(0.04, "starting Slicewise")
            self._addons = AddOns(plane, plan, prometheus)
            self._addons.start()
        else:
            plane.start_scheduler({})
        self._nodes_ready(api)
        plane.apply([llm_deployment(plan.static_replicas)])
        self._until(lambda: pods.placed(LLM_NAMESPACE) >= plan.static_replicas, "the LLM replicas are placed")
        if self._addons is not None:
            self._addons.autoscale()
        start_at = time.time() + LEAD_SECONDS
        self._start = time.monotonic() + LEAD_SECONDS
        output = plane.directory / "llm.json"
        self._serve(port, start_at, output)
        setup = time.monotonic() - began
        before = read_histogram(plane.scheduler_metrics(), ALGORITHM)
        replay = Replay(plane.connect, plan.arrivals, self._clock, plan.end_seconds)
        replay.start()
        self._stack.callback(replay.stop)
        samples = self._sample(driver, pods)
        after = read_histogram(plane.scheduler_metrics(), ALGORITHM)
        replay.stop()
        plane.processes.stop(["llm-server"], 10.0)
        llm = msgspec.json.decode(output.read_bytes(), type=Output)
        return SideResult(
            side=self._side,
            samples=samples,
            pods=self._records(replay, pods, driver),
            algorithm=after.since(before) if before.bounds else after,
            llm=llm,
            llm_replicas=plan.static_replicas if self._side == "plain" else None,
            setup_seconds=setup,
            slices_republished=driver.republished,
            nominations=self._addons.nominations() if self._addons is not None else {},
            problems=(*replay.problems, *driver.problems),
        )

    def _clock(self) -> float:
        return time.monotonic() - self._start

    def _watch(self, reflector: Reflector[Any]) -> None:
        reflector.start()
        self._stack.callback(reflector.stop)
        if not reflector.synced.wait(_READY_SECONDS):
            raise ServerFailed(
                f"{reflector.path} was not listed within {_READY_SECONDS:.0f} s: {reflector.last_error}"
            )

    def _create_nodes(self) -> None:
        def create(part: Sequence[Any]) -> None:
            with self._plane.connect() as connection:
                for node in part:
                    connection.request("POST", "/api/v1/nodes", node_manifest(node))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(create, [self._plan.nodes[i::4] for i in range(4)]))

    def _nodes_ready(self, api: Api) -> None:
        def ready() -> bool:
            nodes = self._plane.request("GET", "/api/v1/nodes")["items"]
            return all(condition(node, "Ready") == "True" for node in nodes)

        self._until(ready, "all nodes are Ready")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not condition():
            self._plane.processes.check()
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self._side} side: waited {_READY_SECONDS:.0f} s until {what}; it did not happen"
                )
            time.sleep(0.1)

    def _serve(self, port: int, start_at: float, output: Path) -> None:
        self._plane.processes.start(
            "llm-server",
            [
                *(
                    sys.executable,
                    "-m",
                    "deploy.demo.llm_server",
                    "--kubeconfig",
                    str(self._plane.kubeconfig),
                ),
                *("--namespace", LLM_NAMESPACE, "--port", str(port), "--start-at", f"{start_at:.3f}"),
                *("--window", f"{self._plan.window_seconds}", "--output", str(output)),
            ],
        )

    def _sample(self, driver: VirtualDriver, pods: PodWatch) -> tuple[FleetSample, ...]:
        plan = self._plan
        samples: list[FleetSample] = []
        at = 0.0
        while at <= plan.end_seconds:
            time.sleep(max(0.0, at - self._clock()))
            self._plane.processes.check()
            sample = fleet_sample(
                plan.nodes,
                driver.masks(),
                plan.mix,
                GRAMS_PER_KWH,
                at_seconds=self._clock(),
                waiting_pods=pods.waiting(),
            )
            samples.append(sample)
            used = sample.used_mig_units / sample.mig_units
            text = f"{self._side}: MIG {used:4.0%} used, {sample.waiting_pods:3d} pods waiting"
            self._report(min(1.0, 0.08 + 0.9 * at / plan.end_seconds), text)
            at += _SAMPLE_SECONDS
        return tuple(samples)

    def _records(self, replay: Replay, pods: PodWatch, driver: VirtualDriver) -> tuple[PodRecord, ...]:
        nodes = {node.name: node for node in self._plan.nodes}
        bindings = pods.bindings()
        whole = driver.whole_sets()
        records = []
        for arrival in self._plan.arrivals:
            if arrival.name not in replay.created:
                continue
            key = (namespace_of(arrival), arrival.name)
            binding = bindings.get(key)
            share = None
            if arrival.tensor_parallel and binding is not None and key in whole:
                name, bits = whole[key]
                share = nvlink_share(topology_of(nodes[name]), nodes[name].model, bits)
            created = replay.created[arrival.name]
            records.append(
                PodRecord(
                    arrival=arrival,
                    road=road_of(arrival),
                    created_seconds=created,
                    bound_seconds=binding.at_seconds if binding is not None else None,
                    nvlink_share=share,
                )
            )
        return tuple(records)
