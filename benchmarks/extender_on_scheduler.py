"""What the extender costs the real kube-scheduler: the same pods placed without one, with an echo and with
ours, in turn.

One cluster of kwok nodes for all runs; in every round each contender starts on the same waiting pods, all
nodes are scored. Taking turns spreads whatever else the machine does over all three. Pods are deleted between
runs.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scheduler_run import (
    create_pods,
    delete_pods,
    extended_config,
    gpu_nodes,
    gpu_pod,
    scheduled,
    serving,
)
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes

POLICY = Path("deploy/manifests/policy.yaml")
CONTENDERS = ("none", "echo", "ours")


def compare(nodes: int, pods: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Mean algorithm time of each contender, milliseconds, and ours over echo."""
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder, ControlPlane(with_scheduler=False) as cluster:
        say(f"{nodes} kwok nodes on a real control plane")
        create_nodes(cluster, gpu_nodes(nodes), ready_within_seconds=300)
        cluster.apply(POLICY)
        logs = Path(folder)
        echo, ours = (f"127.0.0.1:{cluster.claim_port()}" for _ in range(2))
        account = str(cluster.kubeconfig_for("slicewise-scheduler"))
        started = (
            serving(
                ["benchmarks.echo_extender", "--listen", echo], f"http://{echo}/healthz", logs / "echo.log"
            ),
            serving(
                ["scheduler", "--kubeconfig", account, "--listen", ours],
                f"http://{ours}/readyz",
                logs / "ours.log",
            ),
        )
        with started[0], started[1]:
            configs = {name: extended_config(f"http://{at}") for name, at in (("echo", echo), ("ours", ours))}
            configs["none"] = {**configs["ours"], "extenders": []}
            for number in range(rounds):
                for name in CONTENDERS:
                    create_pods(cluster, [gpu_pod(f"{name}-{number}-{index:05d}") for index in range(pods)])
                    found = scheduled(cluster, configs[name], pods, 900)
                    times[name].append(found.mean_milliseconds)
                    say(f"round {number + 1}, {name}: mean {found.mean_milliseconds:.2f} ms")
                    delete_pods(cluster)
    means = {name: statistics.fmean(found) for name, found in times.items()}
    return {
        "nodes": nodes,
        "pods": pods,
        "mean_milliseconds": {name: round(mean, 3) for name, mean in means.items()},
        "rounds_milliseconds": {name: [round(value, 3) for value in found] for name, found in times.items()},
        "ours_over_echo": round(means["ours"] / means["echo"], 3),
    }
