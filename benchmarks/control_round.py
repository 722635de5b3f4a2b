"""How long one control round takes at 1,000 workloads, and how many questions it asks Prometheus.

The whole controller (``autoscaler.compose``) on a real kube-apiserver and a real Prometheus. The API server
holds the Deployments, their pods on GPU nodes, and a policy each; Prometheus scrapes what the pods' model
servers export every 15 s (vLLM, SGLang, TGI and Triton with all their latency histograms, and GPUs;
``benchmarks.model_server_exporter`` plays them). Every workload has an objective (time to first token), every
fourth also a GPU guard, every fifth a p95 term; no policy names a server, so they are recognised. Rounds run
at their period in the controller's own thread, beside everything else that the process does: watches, prices,
planner, the direct scrape of the pods. Nobody makes pods of what is written, so the replicas asked for stay
on their way.

Writes build/bench/control_round.json: wall time and processor time of the rounds, the part that waits for
Prometheus, and queries a period: those of the round and those asked beside it for the autoscaler. The first
rounds, in which servers are recognised and watches begin, are told apart. That a slow round explains itself,
each also tells its phases (``autoscaler.round_times``), how long its thread was ready to run and had no core,
how much of the machine other programs had, and the garbage collections in it; ``slow_rounds`` holds all that
took longer than a second.

Usage: python -m benchmarks.control_round [--workloads 1000] [--pods 4000] [--rounds 24]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from autoscaler.compose import Options, Parts, build
from benchmarks.model_server_exporter import NAMESPACE, ModelPod, model_pods
from benchmarks.processor_times import read_processor_times
from benchmarks.scheduler_run import gpu_nodes, say
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import in_parallel
from metrics.label_values import ROUND_PHASES
from metrics.samples import NoData, Vector

OUTPUT = Path("build/bench/control_round.json")
SHARDS = 8
SCRAPE_INTERVAL = "15s"
WARM_UP_SECONDS = 80.0  # the rates look back a minute, and the first scrape may be 15 s away
FIRST_ROUNDS = 4
SPARE_NODES = 100
SLOW_SECONDS = 1.0
READY_SECONDS = 180.0
STATUS_PATCH = "application/merge-patch+json"


def policy_of(workload: int) -> dict[str, Any]:
    """The policy of one workload: an objective, the server left to be recognised."""
    values: dict[str, Any] = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "AutoscalingPolicy",
        "target": {"name": name_of(workload)},
        "maxReplicas": 12,
        "slo": {"attainment": 0.99, "latencySeconds": 2.0, "measure": "ttft"},
    }
    if workload % 4 == 0:
        values["gpuUtilisation"] = {"scaleDownBelow": 0.5}
    if workload % 5 == 0:
        values["latency"] = {"p95Seconds": 20.0}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name_of(workload), "labels": {"slicewise.io/policy": "autoscaling"}},
        "data": {"policy.yaml": yaml.safe_dump(values)},
    }


def name_of(workload: int) -> str:
    """The name of a workload."""
    return f"llm-{workload:04d}"


def deployment(workload: int, replicas: int) -> dict[str, Any]:
    """A Deployment that is paused, so that no controller makes pods of it."""
    labels = {"app": name_of(workload)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name_of(workload)},
        "spec": {
            "replicas": replicas,
            "paused": True,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [_container()]}},
        },
    }


def pod_object(pod: ModelPod, port: int) -> dict[str, Any]:
    """A pod on a node, whose page the exporter serves."""
    annotations = {"prometheus.io/port": str(port), "prometheus.io/path": f"/pod/{pod.number}"}
    labels = {"app": name_of(pod.workload)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "labels": labels, "annotations": annotations},
        "spec": {"nodeName": f"gpu-{pod.number // 8:05d}", "containers": [_container()]},
    }


READY = {
    "status": {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-01T12:01:30Z"},
        ],
    }
}


def _container() -> dict[str, Any]:
    return {
        "name": "server",
        "image": "example.org/server:1",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }


def fill(cluster: ControlPlane, pods: Sequence[ModelPod], replicas: Sequence[int], port: int) -> None:
    """Create nodes, workloads, pods and policies; no kubelet plays them."""
    began = time.monotonic()
    cluster.request(
        "POST",
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    )
    nodes = gpu_nodes(len(pods) // 8 + 1 + SPARE_NODES)
    for node in nodes:
        node["metadata"]["annotations"] = {}
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    core = f"/api/v1/namespaces/{NAMESPACE}"
    in_parallel(cluster, nodes, lambda link, node: link.request("POST", "/api/v1/nodes", node))
    in_parallel(
        cluster,
        [deployment(number, count) for number, count in enumerate(replicas)],
        lambda link, document: link.request("POST", deployments, document),
    )

    def make(link: Any, pod: ModelPod) -> None:
        link.request("POST", f"{core}/pods", pod_object(pod, port))
        link.request("PATCH", f"{core}/pods/{pod.name}/status", READY, content_type=STATUS_PATCH)

    in_parallel(cluster, pods, make)
    in_parallel(
        cluster,
        range(len(replicas)),
        lambda link, number: link.request("POST", f"{core}/configmaps", policy_of(number)),
    )
    say(f"{len(replicas)} workloads with {len(pods)} pods made in {time.monotonic() - began:.0f} s")


class Watched:
    """The controller's rounds and its questions, counted from outside."""

    def __init__(self, parts: Parts) -> None:
        self.rounds: list[dict[str, float]] = []
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._begin()
        for source in (parts.prometheus, parts.slowdowns):
            source.query_many = partial(self._asked, source.query_many)  # type: ignore[method-assign]
        turn, write = parts.controller.round, parts.signals.scales.write
        parts.controller.round = lambda: self._round(turn)  # type: ignore[method-assign]

        def written(*arguments: Any) -> Any:
            with self._lock:
                self._writes += 1
            return write(*arguments)

        parts.signals.scales.write = written  # type: ignore[method-assign, assignment]
        self._times = parts.controller.times
        self._collected, self._collecting_since = 0.0, 0.0
        gc.callbacks.append(self._garbage)

    def _garbage(self, step: str, _: Mapping[str, int]) -> None:
        now = time.perf_counter()
        if step == "start":
            self._collecting_since = now
        else:
            self._collected += now - self._collecting_since

    def _begin(self) -> None:
        self._seconds, self._queries, self._samples, self._writes = 0.0, 0, 0, 0
        self._beside, self._beside_seconds, self._others = 0, 0.0, 0

    def _asked(
        self, ask: Callable[..., dict[str, Vector | NoData]], queries: Mapping[str, str], at: float
    ) -> dict[str, Vector | NoData]:
        began = time.perf_counter()
        answers = ask(queries, at)
        seconds, thread = time.perf_counter() - began, threading.current_thread().name
        with self._lock:
            if thread == "autoscaler":
                self._seconds += seconds
                self._queries += len(queries)
                self._samples += sum(len(a.samples) for a in answers.values() if isinstance(a, Vector))
            elif thread.startswith("slow-answers"):
                self._beside += len(queries)
                self._beside_seconds += seconds
            else:
                self._others += len(queries)
            self.failures += [
                f"{name}: {answer.reason}"
                for name, answer in answers.items()
                if isinstance(answer, NoData) and answer.cause != "empty"
            ]
        return answers

    def _round(self, turn: Callable[[], None]) -> None:
        with self._lock:
            beside = {
                "queries_beside": self._beside,
                "beside_seconds": self._beside_seconds,
                "queries_of_others": self._others,
            }
            self._begin()
        before, collected = read_processor_times(), self._collected
        began = time.perf_counter()
        turn()
        wall, garbage = time.perf_counter() - began, self._collected - collected
        found = {
            "wall_seconds": wall,
            **read_processor_times().since(before),
            "garbage_seconds": garbage,
            "prometheus_seconds": self._seconds,
            "writes": self._writes,
            "queries_in_round": self._queries,
            "samples": self._samples,
            **beside,
            **{f"{phase}_phase_seconds": self._times.last.get(phase, 0.0) for phase in ROUND_PHASES},
        }
        found["queries"] = found["queries_in_round"] + found["queries_beside"]
        say("  ".join(f"{name} {value:.3g}" for name, value in found.items()))
        self.rounds.append(found)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build the cluster, run the rounds, and return the figures."""
    pods = model_pods(options.workloads, options.pods)
    replicas = [0] * options.workloads
    for pod in pods:
        replicas[pod.workload] += 1
    with ControlPlane(with_scheduler=False) as cluster:
        port = cluster.claim_port()
        command = [sys.executable, "-m", "benchmarks.model_server_exporter", f"--port={port}"]
        command += [f"--workloads={options.workloads}", f"--pods={options.pods}", f"--shards={SHARDS}"]
        cluster.processes.start("exporter", command)
        scrapes = [
            {
                "job_name": f"models-{shard}",
                "honor_labels": True,
                "metrics_path": f"/shard/{shard}",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for shard in range(SHARDS)
        ]
        url = cluster.start_prometheus(scrapes, SCRAPE_INTERVAL)
        began = time.monotonic()
        fill(cluster, pods, replicas, port)
        time.sleep(max(0.0, WARM_UP_SECONDS - (time.monotonic() - began)))
        return run(options, cluster, url)


def run(options: argparse.Namespace, cluster: ControlPlane, url: str) -> dict[str, Any]:
    """Start the controller, let it run its rounds, and judge them."""
    kubeconfig = str(cluster.kubeconfig_for("slicewise-controller"))
    parts = build(Options(prometheus_url=url, kubeconfig=kubeconfig, identity="benchmark"))
    watched = Watched(parts)
    period = parts.controller.period_seconds()
    parts.start()
    try:
        deadline = time.monotonic() + READY_SECONDS + (FIRST_ROUNDS + options.rounds) * 3.0 * period
        wanted = FIRST_ROUNDS + options.rounds
        while sum(1 for one in watched.rounds if one["queries_in_round"]) < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {len(watched.rounds)} rounds; not ready: {parts.synced}")
            time.sleep(0.5)
        views = parts.controller.views
        found = parts.prometheus.query(f'count({{namespace="{NAMESPACE}"}})', time.time())
        asked = parts.exposition.registry.get_sample_value(
            "slicewise_autoscaler_direct_scrapes_total", {"result": "read"}
        )
    finally:
        parts.stop()
    rounds = [one for one in watched.rounds if one["queries_in_round"]]
    for failure in watched.failures[:3]:
        say(f"a question failed: {failure}")
    decided = [view for view in views if not isinstance(view.signals.in_flight, NoData)]
    tokens = [view for view in views if not isinstance(view.signals.tokens_out, NoData)]
    series = found.find() if isinstance(found, Vector) else 0.0
    return {
        "workloads": options.workloads,
        "pods": options.pods,
        "series": 0 if isinstance(series, NoData) else int(series),
        "period_seconds": period,
        "cores": os.cpu_count(),
        "decided_with_a_load": len(decided),
        "with_tokens": len(tokens),
        "direct_scrapes": int(asked or 0),
        "failed_queries": len(watched.failures),
        "first_rounds": [{k: round(v, 4) for k, v in one.items()} for one in rounds[:FIRST_ROUNDS]],
        "slow_rounds": [
            {"number": number, **{k: round(v, 4) for k, v in one.items()}}
            for number, one in enumerate(rounds)
            if number >= FIRST_ROUNDS and one["wall_seconds"] > SLOW_SECONDS
        ],
        "rounds": len(rounds) - FIRST_ROUNDS,
        **{name: _spread([one[name] for one in rounds[FIRST_ROUNDS:]]) for name in rounds[0]},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    found = {
        "median": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "max": ordered[-1],
    }
    return {name: round(value, 4) for name, value in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the figures."""
    flags = argparse.ArgumentParser(description="Time of a control round at many workloads.")
    flags.add_argument("--workloads", type=int, default=1000)
    flags.add_argument("--pods", type=int, default=4000)
    flags.add_argument("--rounds", type=int, default=24)
    flags.add_argument("--output", type=Path, default=OUTPUT)
    options = flags.parse_args(argv)
    found = measure(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
