"""The planned road against the same scheduler without any extension, on the real control plane.

For each size: N kwok nodes of 8 GPUs and 2,000 waiting one-GPU pods; then the scheduler starts.
``plain`` is kube-scheduler as it ships (default sampling, no extender). ``planned`` is kube-scheduler with
the shipped profile and extender; the controller's planner has nominated the pods before it starts. Figures:
mean of ``scheduler_scheduling_algorithm_duration_seconds``, their ratio, how many pods landed where they
were nominated. Writes build/bench/planned_road.json.  Usage: python -m benchmarks.planned_road [--nodes
1000 5000] [--pods 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scheduler_run import (
    RunFailed,
    create_pods,
    delete_pods,
    extended_config,
    gpu_nodes,
    gpu_pod,
    say,
    scheduled,
    serving,
    wait_for_pods,
)
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes

OUTPUT = Path("build/bench/planned_road.json")
POLICY = Path("deploy/manifests/policy.yaml")


def measure(nodes: int, pods: int) -> dict[str, Any]:
    """Both sides at one size."""
    waiting = [gpu_pod(f"pod-{number:05d}") for number in range(pods)]
    with tempfile.TemporaryDirectory() as logs, ControlPlane(with_scheduler=False) as cluster:
        say(f"{nodes} nodes: creating them")
        create_nodes(cluster, gpu_nodes(nodes), ready_within_seconds=300)
        cluster.apply(POLICY)
        create_pods(cluster, waiting)
        say(f"{nodes} nodes, {pods} waiting pods: plain kube-scheduler")
        plain = scheduled(cluster, {}, pods, 600)
        say(f"  mean {plain.mean_milliseconds:.2f} ms")
        delete_pods(cluster)

        extender = f"http://127.0.0.1:{cluster.claim_port()}"
        controller = f"http://127.0.0.1:{cluster.claim_port()}"
        with (
            serving(
                process("scheduler", cluster, extender),
                f"{extender}/readyz",
                Path(logs) / "scheduler.log",
            ),
            serving(
                process("autoscaler", cluster, controller),
                f"{controller}/readyz",
                Path(logs) / "controller.log",
            ),
        ):
            say(f"{nodes} nodes, {pods} waiting pods: planning")
            started = time.monotonic()
            create_pods(cluster, waiting)
            nominated = wait_for_pods(cluster, ("status", "nominatedNodeName"), pods, 300, "nominated")
            planning = time.monotonic() - started
            planned = scheduled(cluster, extended_config(extender), pods, 600)
            bound = wait_for_pods(cluster, ("spec", "nodeName"), pods, 10, "bound")
            say(f"  mean {planned.mean_milliseconds:.2f} ms")
    return {
        "nodes": nodes,
        "pods": pods,
        "plain_mean_milliseconds": plain.mean_milliseconds,
        "planned_mean_milliseconds": planned.mean_milliseconds,
        "ratio": planned.mean_milliseconds / plain.mean_milliseconds,
        "plain_wall_seconds": plain.wall_seconds,
        "planned_wall_seconds": planned.wall_seconds,
        "created_to_all_nominated_seconds": planning,
        "bound_where_nominated": sum(nominated[name] == node for name, node in bound.items()),
        "nodes_used": {"planned": len(set(bound.values()))},
    }


def process(module: str, cluster: ControlPlane, url: str) -> list[str]:
    """The command line of one of our processes, with the rights of its own account."""
    account = {"scheduler": "slicewise-scheduler", "autoscaler": "slicewise-controller"}[module]
    kubeconfig = str(cluster.kubeconfig_for(account))
    command = [module, "--kubeconfig", kubeconfig, "--listen", url.removeprefix("http://")]
    if module == "autoscaler":
        # Nothing is scaled here, so nobody needs to listen there.
        command += ["--prometheus-url", "http://127.0.0.1:9"]
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.planned_road", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--pods", type=int, default=2000)
    options = parser.parse_args(arguments)
    try:
        runs = [measure(nodes, options.pods) for nodes in options.nodes]
    except RunFailed as failed:
        say(f"planned_road: {failed}")
        return 1
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": {"cores": os.cpu_count(), "processor": platform.machine()}, "runs": runs}
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")
    for run in runs:
        print(
            f"{run['nodes']} nodes: planned {run['planned_mean_milliseconds']:.2f} ms, plain "
            f"{run['plain_mean_milliseconds']:.2f} ms, ratio {run['ratio']:.2f}; "
            f"{run['bound_where_nominated']} of {run['pods']} pods bound where nominated"
        )
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
