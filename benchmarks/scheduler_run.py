"""One run of the real kube-scheduler over simulated GPU nodes: what every control-plane benchmark shares.

Nodes are kwok's; the scheduler, the API server and our processes are the real ones. All of it shares the
machine's cores, so figures compare only within one run.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import in_parallel, node_manifest
from deploy.local.processes import Processes, ServerFailed
from deploy.local.rest import SUCCESS

ALGORITHM = "scheduler_scheduling_algorithm_duration_seconds"
NAMESPACE = "default"
POLL_SECONDS = 0.2
STOP_SECONDS = 15.0
SCHEDULER_CONFIG = Path(__file__).parent.parent / "deploy" / "manifests" / "scheduler-config.yaml"


class RunFailed(RuntimeError):
    """A benchmark could not be carried out; the message says at which step and what was seen."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The scheduling algorithm's time over one run."""

    pods: int
    mean_milliseconds: float
    wall_seconds: float


def gpu_nodes(count: int, gpus: int = 8) -> list[dict[str, Any]]:
    """Manifests of ``count`` nodes with H100 GPUs behind the device plugin."""
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/gpu.memory": "81559",
        "topology.kubernetes.io/region": "eu-west-2",
    }
    return [
        node_manifest(f"gpu-{number:05d}", labels=labels, allocatable={"nvidia.com/gpu": str(gpus)})
        for number in range(count)
    ]


def gpu_pod(name: str, gpus: int = 1) -> dict[str, Any]:
    """A pod that asks for whole GPUs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "c", "image": "model:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
            ],
        },
    }


def create_pods(cluster: ControlPlane, pods: Sequence[Mapping[str, Any]]) -> None:
    """Create the pods over several connections."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    in_parallel(cluster, pods, lambda connection, pod: connection.request("POST", path, pod))


def pods_now(cluster: ControlPlane) -> list[dict[str, Any]]:
    """Every pod as the API server has it."""
    items: list[dict[str, Any]] = cluster.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return items


def wait_for_pods(
    cluster: ControlPlane, field: tuple[str, str], count: int, within_seconds: float, what: str
) -> dict[str, str]:
    """Wait until ``count`` pods carry the field (as in spec.nodeName); answers its value by pod name."""
    deadline = time.monotonic() + within_seconds
    while True:
        found = {
            pod["metadata"]["name"]: str(pod[field[0]][field[1]])
            for pod in pods_now(cluster)
            if pod[field[0]].get(field[1])
        }
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise RunFailed(f"{what}: {len(found)} of {count} pods after {within_seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def delete_pods(cluster: ControlPlane) -> None:
    """Delete every pod and wait until none is left."""
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    cluster.request("DELETE", path, now, accepted=SUCCESS)
    while pods_now(cluster):
        time.sleep(POLL_SECONDS)


def metric_sum(text: str, name: str) -> float:
    """Sum of one metric over all its label sets, 0 when it is absent."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def scheduled(cluster: ControlPlane, config: Mapping[str, Any], pods: int, within_seconds: float) -> Latency:
    """Start a scheduler on waiting pods, wait until all are bound, stop it, answer its latency."""
    started = time.monotonic()
    cluster.start_scheduler(config)
    try:
        wait_for_pods(cluster, ("spec", "nodeName"), pods, within_seconds, "bound")
        wall = time.monotonic() - started
        text = cluster.scheduler_metrics()
    finally:
        cluster.stop_scheduler()
    count = metric_sum(text, f"{ALGORITHM}_count")
    if count == 0:
        raise RunFailed(f"the scheduler's metrics have no {ALGORITHM}_count; look at its log")
    return Latency(pods, 1000 * metric_sum(text, f"{ALGORITHM}_sum") / count, wall)


def extended_config(url: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The scheduler configuration that is shipped, its extender at ``url`` and changed by ``changes``."""
    config: dict[str, Any] = yaml.safe_load(SCHEDULER_CONFIG.read_text())
    config["extenders"][0].update({"urlPrefix": f"{url}/scheduler", **(changes or {})})
    return config


@contextmanager
def serving(command: Sequence[str], ready_url: str, log: Path, within_seconds: float = 60.0) -> Iterator[int]:
    """Run ``python -m <command>`` until the block ends; enters when ``ready_url`` answers 200. It writes to
    ``log`` (a name that ends in .log). However this process ends, the server ends with it.
    """
    name = log.stem
    with closing(Processes(log.parent)) as processes:
        pid = processes.start(name, [sys.executable, "-m", *command])
        deadline = time.monotonic() + within_seconds
        while not _answers(ready_url):
            try:
                processes.check()
            except ServerFailed as problem:
                raise RunFailed(str(problem)) from problem
            if time.monotonic() > deadline:
                tail = processes.log_tail(name)
                raise RunFailed(f"{name} was not ready at {ready_url} in {within_seconds:.0f} s; {tail}")
            time.sleep(POLL_SECONDS)
        try:
            yield pid
        finally:
            processes.stop([name], STOP_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as response:
            return int(response.status) == 200
    except (URLError, OSError):
        return False


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)
