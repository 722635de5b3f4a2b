"""How long until the scheduler knows a large cluster, and how long until it knows of one change.

A real kube-apiserver holds N nodes of 8 GPUs (device plugin) and P bound pods. First figure: seconds from the
start of ``slicewise-scheduler`` until its /readyz says yes (watches synced, policy loaded, prices solved),
and its memory then. Second: milliseconds from the API server's answer to a change (a pod created on a node,
as the API server knows it) until the price vector of a GPU demand has it, for single changes at that size.
Writes build/bench/sync.json.  Usage: python -m benchmarks.sync [--nodes 5000] [--pods 50000] [--changes 50]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scheduler_run import NAMESPACE, RunFailed, gpu_nodes, gpu_pod, say, serving
from cluster.client import Api
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import in_parallel
from scheduler.demand import Demand, GpuRequest
from scheduler.live import Live

OUTPUT = Path("build/bench/sync.json")
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
PROBE_SECONDS = 5.0


def fill(cluster: ControlPlane, nodes: int, pods: int) -> None:
    """Create the objects; no kubelet plays them, for only the API server's answers matter here."""
    manifests = gpu_nodes(nodes)
    for manifest in manifests:
        manifest["metadata"]["annotations"] = {}
    in_parallel(
        cluster, manifests, lambda connection, node: connection.request("POST", "/api/v1/nodes", node)
    )
    say(f"{nodes} nodes created; creating {pods} pods")
    bound = []
    for number in range(pods):
        pod = gpu_pod(f"pod-{number:06d}")
        pod["spec"]["nodeName"] = manifests[number % nodes]["metadata"]["name"]
        if number >= 6 * nodes:
            pod["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1"}}
        bound.append(pod)
    in_parallel(cluster, bound, lambda connection, pod: connection.request("POST", PODS, pod))


def first_sync(cluster: ControlPlane, logs: Path) -> dict[str, Any]:
    """Start a slicewise-scheduler and wait until it is ready."""
    url = f"http://127.0.0.1:{cluster.claim_port()}"
    kubeconfig = str(cluster.kubeconfig_for("slicewise-scheduler"))
    command = ["scheduler", "--kubeconfig", kubeconfig, "--listen", url.removeprefix("http://")]
    started = time.monotonic()
    with serving(command, f"{url}/readyz", logs / "scheduler.log", within_seconds=120) as pid:
        seconds = time.monotonic() - started
        status = Path(f"/proc/{pid}/status").read_text()
    fields = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
    return {
        "seconds_to_ready": seconds,
        "resident_mib": int(fields["VmRSS"]) / 1024,
        "peak_resident_mib": int(fields["VmHWM"]) / 1024,
    }


def change_latencies(cluster: ControlPlane, changes: int) -> list[float]:
    """Milliseconds from the API server's answer until the prices know, one change after the other."""
    api = Api.connect(str(cluster.kubeconfig_for("slicewise-scheduler")))
    live = Live(api, policy_namespace="slicewise-system", policy_name="slicewise-policy")
    live.start()
    try:
        deadline = time.monotonic() + 120
        while not all(live.service.ready().values()):
            if time.monotonic() > deadline:
                raise RunFailed("the in-process fleet did not sync within 120 s")
            time.sleep(0.05)
        return [_one_change(cluster, live, number) for number in range(changes)]
    finally:
        live.stop()
        api.close()


def _one_change(cluster: ControlPlane, live: Live, number: int) -> float:
    fleet, decider = live.service.fleet, live.service.decider
    node = fleet.names[number]
    demand = _whole_node_demand(live, node)
    before = float(decider.prices(demand)[number])
    pod = gpu_pod(f"late-{number}")
    pod["spec"]["nodeName"] = node
    cluster.request("POST", PODS, pod)
    started = time.perf_counter()
    while float(decider.prices(demand)[number]) == before:
        if time.perf_counter() - started > PROBE_SECONDS:
            raise RunFailed(f"the change on {node} was not seen within {PROBE_SECONDS:.0f} s")
        time.sleep(0.0005)
    return 1000 * (time.perf_counter() - started)


def _whole_node_demand(live: Live, node: str) -> Demand:
    """A demand whose price must move when one more GPU of the node is taken: all that is free on it."""
    fleet = live.service.fleet
    with fleet.lock:
        row = fleet.rows[node]
        free = int((fleet.columns.occupied[row, : int(fleet.columns.gpu_count[row])] == 0).sum())
    return Demand(requests=(GpuRequest("whole", None, free),))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a step failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.sync", description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=50000)
    parser.add_argument("--changes", type=int, default=50)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as logs, ControlPlane(with_scheduler=False) as cluster:
            fill(cluster, options.nodes, options.pods)
            say("first sync")
            synced = first_sync(cluster, Path(logs))
            say(f"  ready after {synced['seconds_to_ready']:.1f} s; single changes")
            latencies = change_latencies(cluster, options.changes)
    except RunFailed as failed:
        say(f"sync: {failed}")
        return 1
    p50, p99 = (float(value) for value in np.percentile(latencies, [50, 99]))
    report = {
        "machine": {"cores": os.cpu_count()},
        "nodes": options.nodes,
        "pods": options.pods,
        **synced,
        "change_to_price_milliseconds": {"p50": p50, "p99": p99, "changes": len(latencies)},
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{options.nodes} nodes, {options.pods} pods: ready after {synced['seconds_to_ready']:.1f} s with "
        f"{synced['resident_mib']:.0f} MiB; a change reaches the prices in {p50:.1f} ms (p99 {p99:.1f})"
    )
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
