"""Pods that arrive on a running cluster, end to end: Slicewise beside the same scheduler without any
extension.

For each size: N kwok nodes of 8 GPUs, then 2,000 pods of 1, 2, 4 and 8 GPUs created at ``--rate`` a second
(open loop; a rate of 0 creates them as fast as the API server takes them). ``plain`` is kube-scheduler as it
ships, default sampling. ``webhook`` is the shipped profile with extender, planner and controller, pods
without a gate; ``ranked`` the same with ``extender.oneNode: never``, where kube-scheduler scores a shortlist
and asks for ranks; ``sampled`` the webhook with kube-scheduler's default sampling of nodes; ``planned`` with
pods that wait for their plan behind the gate. All sides see the same pods in the same order (``--seed``).

Measured per pod: from the API server's answer to the creation until a watch shows it bound (this process's
clock, one watch, the same on all sides). Measured per side: pods bound a second, from the first creation to
the last binding; the share of free GPUs that a pod of the mix cannot use where they are (Fragmentation
Gradient Descent's measure, means over the mix); processor time and API requests a pod, from before the first
creation until the last pod runs, so that every side has done the same work by then. Writes
build/bench/arrivals.json.

Usage: python -m benchmarks.arrivals [--nodes 1000 5000] [--pods 2000] [--rate 200] [--sides plain planned]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from benchmarks.planned_road import POLICY, process
from benchmarks.scheduler_run import (
    ALGORITHM,
    NAMESPACE,
    RunFailed,
    delete_pods,
    extended_config,
    gpu_nodes,
    gpu_pod,
    metric_sum,
    say,
    serving,
)
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.demo.observing import PodWatch
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes
from deploy.local.rest import MERGE_PATCH

OUTPUT = Path("build/bench/arrivals.json")
PLAN_GATE = Path("deploy/manifests/plan-gate.yaml")
SIDES = ("plain", "ranked", "sampled", "webhook", "planned")
MIX: Mapping[int, float] = {1: 0.70, 2: 0.15, 4: 0.10, 8: 0.05}
"""GPUs of a pod and how often: small ones by far the most, as in published traces of inference clusters."""
GPUS = 8
CONNECTIONS = 8
DRAIN_SECONDS = 300.0


def gpu_counts(pods: int, seed: int) -> list[int]:
    """How many GPUs each pod asks for, in order of arrival."""
    return random.Random(seed).choices(list(MIX), list(MIX.values()), k=pods)


def stranded_percent(used: Mapping[str, int], nodes: int) -> float:
    """FGD's fragment measure over the mix, % of the free GPUs."""
    free = Counter(GPUS - count for count in used.values())
    free[GPUS] += nodes - len(used)
    total = sum(left * number for left, number in free.items())
    lost = sum(
        share * left * number for size, share in MIX.items() for left, number in free.items() if left < size
    )
    return 100.0 * lost / (sum(MIX.values()) * total) if total else 0.0


class Lives(PodWatch):
    """Bindings, and how many pods run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._running: set[str] = set()

    def running(self) -> int:
        """Pods that have been seen running."""
        return len(self._running)

    def _take(self, pod: Pod) -> None:
        super()._take(pod)
        if pod.status.phase == "Running":
            self._running.add(pod.metadata.name)


class Arrivals:
    """Creates the pods on their beat over several connections and notes when each existed."""

    def __init__(self, cluster: ControlPlane, pods: Sequence[dict[str, Any]], rate: float) -> None:
        self._cluster, self._pods, self._rate = cluster, pods, rate
        self._local = threading.local()
        self.created: dict[str, float] = {}

    def run(self) -> None:
        """Create all; returns when the last was answered."""
        start = time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            waiting = []
            for number, pod in enumerate(self._pods):
                if self._rate > 0:
                    time.sleep(max(0.0, start + number / self._rate - time.monotonic()))
                waiting.append(pool.submit(self._create, pod))
            for future in waiting:
                future.result()

    def _create(self, pod: dict[str, Any]) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._cluster.connect()
        connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod)
        self.created[pod["metadata"]["name"]] = time.monotonic()


def one_side(
    side: str, cluster: ControlPlane, counts: Sequence[int], nodes: int, rate: float, logs: Path
) -> dict[str, Any]:
    """Bring the side up, let the pods arrive, wait for the last, take the side down."""
    pods = [gpu_pod(f"pod-{number:05d}", gpus) for number, gpus in enumerate(counts)]
    with ExitStack() as stack:
        config: Mapping[str, Any] = {}
        ours: dict[str, int] = {}
        if side != "plain":
            config, ours = _start_slicewise(cluster, stack, logs, side)
        label = {"slicewise.io/managed": "true" if side == "planned" else "false"}
        cluster.request(
            "PATCH", f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": label}}, MERGE_PATCH
        )
        cluster.start_scheduler(config)
        stack.callback(cluster.stop_scheduler)
        watch = Lives(time.monotonic)
        api = Api.connect(str(cluster.kubeconfig))
        stack.callback(api.close)
        reflector = Reflector(api, f"/api/v1/namespaces/{NAMESPACE}/pods", Pod, watch)
        reflector.start()
        stack.callback(reflector.stop)
        if not reflector.synced.wait(30):
            raise RunFailed(f"{side}: the watch of pods did not start within 30 s")
        arrivals = Arrivals(cluster, pods, rate)
        before, asked_before = _cpu_seconds(cluster, ours), _requests(cluster)
        arrivals.run()
        _wait_until(lambda: len(watch.bindings()), len(pods), f"{side}: bound")
        _wait_until(watch.running, len(pods), f"{side}: running")
        after, asked = _cpu_seconds(cluster, ours), _requests(cluster)
        text = cluster.scheduler_metrics()
        bindings = {name: binding for (_, name), binding in watch.bindings().items()}
    waits = sorted(max(0.0, bindings[name].at_seconds - at) for name, at in arrivals.created.items())
    used: Counter[str] = Counter()
    for pod, gpus in zip(pods, counts, strict=True):
        used[bindings[pod["metadata"]["name"]].node] += gpus
    first = min(arrivals.created.values())
    last = max(binding.at_seconds for binding in bindings.values())
    count = metric_sum(text, f"{ALGORITHM}_count")
    return {
        "pods_per_second": len(pods) / (last - first),
        "created_to_bound_milliseconds": {
            "mean": 1000 * statistics.fmean(waits),
            "p50": 1000 * waits[len(waits) // 2],
            "p99": 1000 * waits[int(len(waits) * 0.99)],
        },
        "algorithm_mean_milliseconds": 1000 * metric_sum(text, f"{ALGORITHM}_sum") / max(count, 1.0),
        "stranded_percent": stranded_percent(used, nodes),
        "nodes_used": len(used),
        "creation_seconds": max(arrivals.created.values()) - first,
        "cpu_milliseconds_per_pod": {
            name: round(1000 * (after[name] - before[name]) / len(pods), 2) for name in before
        },
        "api_requests_per_pod": {
            what: round(count / len(pods), 3) for what, count in (asked - asked_before).most_common()
        },
    }


def _start_slicewise(
    cluster: ControlPlane, stack: ExitStack, logs: Path, side: str
) -> tuple[Mapping[str, Any], dict[str, int]]:
    """Our two processes; answers the scheduler's configuration and their process ids by name."""
    extender = f"http://127.0.0.1:{cluster.claim_port()}"
    controller = f"http://127.0.0.1:{cluster.claim_port()}"
    ours = {}
    for module, url in (("scheduler", extender), ("autoscaler", controller)):
        log = logs / f"{side}-{module}.log"
        name = {"scheduler": "slicewise-scheduler", "autoscaler": "slicewise-controller"}[module]
        ours[name] = stack.enter_context(serving(process(module, cluster, url), f"{url}/readyz", log))
    config = extended_config(extender)
    if side == "sampled":
        del config["percentageOfNodesToScore"]
    return config, ours


def _cpu_seconds(cluster: ControlPlane, ours: Mapping[str, int]) -> dict[str, float]:
    """CPU time so far of every server, of our processes and of this one (Linux, /proc)."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {"this benchmark": time.process_time()}
    for name, pid in {**cluster.processes.pids, **ours}.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def _requests(cluster: ControlPlane) -> Counter[str]:
    """What the API server has answered so far, by verb, resource and status; watches when they ended."""
    found: Counter[str] = Counter()
    with cluster.connect() as connection:
        text = connection.text("/metrics")
    for labels, value in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        said = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        what = "/".join(part for part in (said["resource"], said["subresource"]) if part)
        code = "" if said["code"].startswith("2") else f" refused with {said['code']}"
        found[f"{said['verb']} {what}{code}"] += int(float(value))
    return found


def _wait_until(count: Callable[[], int], pods: int, what: str) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while (found := count()) < pods:
        if time.monotonic() > deadline:
            raise RunFailed(f"{what}: {found} of {pods} pods {DRAIN_SECONDS:.0f} s after the last came")
        time.sleep(0.1)


def _policy(side: str) -> list[dict[str, Any]]:
    """The shipped policy, as the side wants it."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(POLICY.read_text()))
    for document in documents:
        policy = yaml.safe_load(document["data"]["policy.yaml"])
        policy["extender"] = {"oneNode": "never" if side == "ranked" else "unspread"}
        document["data"]["policy.yaml"] = yaml.safe_dump(policy)
    return documents


def measure(nodes: int, counts: Sequence[int], rate: float, sides: Sequence[str]) -> dict[str, Any]:
    """All sides at one size, one after the other on the same nodes."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as logs, ControlPlane(with_scheduler=False) as cluster:
        say(f"{nodes} nodes: creating them")
        create_nodes(cluster, gpu_nodes(nodes, GPUS), ready_within_seconds=300)
        cluster.apply(PLAN_GATE)
        for side in sides:
            cluster.apply(_policy(side))
            say(f"{nodes} nodes, {len(counts)} pods at {rate or 'any'}/s: {side}")
            found = results[side] = one_side(side, cluster, counts, nodes, rate, Path(logs))
            bound = found["created_to_bound_milliseconds"]
            say(
                f"  {found['pods_per_second']:.0f} pods/s, created to bound p50 {bound['p50']:.1f} ms p99 "
                f"{bound['p99']:.1f} ms mean {bound['mean']:.1f} ms, algorithm "
                f"{found['algorithm_mean_milliseconds']:.2f} ms, stranded {found['stranded_percent']:.1f} %"
            )
            delete_pods(cluster)
    return {"nodes": nodes, "pods": len(counts), "rate": rate, "sides": results}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.arrivals", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--rate", type=float, nargs="+", default=[200.0, 0.0], help="a second; 0: no limit")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args(arguments)
    counts = gpu_counts(options.pods, options.seed)
    try:
        runs = [
            measure(nodes, counts, rate, options.sides) for nodes in options.nodes for rate in options.rate
        ]
    except RunFailed as failed:
        say(f"arrivals: {failed}")
        return 1
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "processor": platform.machine()}
    OUTPUT.write_text(json.dumps({"machine": machine, "seed": options.seed, "runs": runs}, indent=2) + "\n")
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
