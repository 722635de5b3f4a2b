"""How long one control round takes at 1,000 workloads, and how many questions it asks Prometheus.

A real kube-apiserver holds the Deployments, a real Prometheus the series of their pods (vLLM, SGLang, TGI and
Triton with all their latency histograms, GPUs; ``benchmarks.model_server_exporter`` serves them), scraped
every 15 s. The rounds are the controller's own: scales from its watch, one collection, a decision for each
workload with an objective (time to first token; every fourth also with a GPU guard, every fifth with a p95
term; no server named, so they are recognised), writes to ``/scale``, what was learned to its ConfigMap; and
beside it the direct scrape of the pods at its usual pace. The pods stand in the controller's index as its
watch would have put them there. Everything shares the machine's cores.

Writes build/bench/control_round.json: wall time and processor time of the rounds, their parts, queries a
round. The first round of a leader, which asks everything at once and begins the watches, is told apart.

Usage: python -m benchmarks.control_round [--workloads 1000] [--pods 4000] [--rounds 24] [--period 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoscaler.controller import Controller
from autoscaler.learned_store import LearnedStore
from autoscaler.pod_index import PodIndex
from autoscaler.signals_side import SignalsSide
from autoscaler.targets import ScaleSight, Target
from benchmarks.model_server_exporter import NAMESPACE, ModelPod, model_pods
from benchmarks.scheduler_run import say
from cluster.client import Api
from cluster.policy import AutoscalingPolicy
from cluster.wire import (
    Container,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
)
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import in_parallel
from metrics.exposition import Exposition
from metrics.prometheus import Prometheus
from metrics.samples import NoData, Vector

OUTPUT = Path("build/bench/control_round.json")
SHARDS = 8
SCRAPE_INTERVAL = "15s"
WARM_UP_SECONDS = 95.0  # the rates look back a minute, and the first scrape may be 15 s away
SYSTEM = "slicewise-system"


def policy_of(workload: int) -> AutoscalingPolicy:
    """The policy of one workload: an objective, the server left to be recognised."""
    values: dict[str, Any] = {
        "target": {"name": f"llm-{workload:04d}"},
        "maxReplicas": 40,
        "slo": {"attainment": 0.99, "latencySeconds": 2.0, "measure": "ttft"},
    }
    if workload % 4 == 0:
        values["gpuUtilisation"] = {"scaleDownBelow": 0.5}
    if workload % 5 == 0:
        values["latency"] = {"p95Seconds": 20.0}
    return AutoscalingPolicy.model_validate(values)


def deployment(workload: int, replicas: int) -> dict[str, Any]:
    """A Deployment that is paused, so that no controller makes pods of it."""
    labels = {"app": f"llm-{workload:04d}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"llm-{workload:04d}"},
        "spec": {
            "replicas": replicas,
            "paused": True,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": "example.org/server:1"}]},
            },
        },
    }


def pod_object(pod: ModelPod, port: int) -> Pod:
    """A ready pod whose page the exporter serves."""
    annotations = {"prometheus.io/port": str(port), "prometheus.io/path": f"/pod/{pod.number}"}
    return Pod(
        ObjectMeta(
            name=pod.name,
            namespace=NAMESPACE,
            uid=f"uid-{pod.number}",
            labels={"app": f"llm-{pod.workload:04d}"},
            annotations=annotations,
            creation_timestamp="2026-11-01T12:00:00Z",
        ),
        PodSpec(containers=(Container(name="server"),)),
        PodStatus(
            phase="Running",
            pod_ip="127.0.0.1",
            conditions=(PodCondition("Ready", "True", last_transition_time="2026-11-01T12:01:30Z"),),
        ),
    )


class Timed:
    """Prometheus, with the time and the number of its questions a round."""

    def __init__(self, inner: Prometheus) -> None:
        self._inner = inner
        self.seconds, self.queries, self.samples = 0.0, 0, 0

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        began = time.perf_counter()
        answers = self._inner.query_many(queries, at)
        self.seconds += time.perf_counter() - began
        self.queries += len(queries)
        self.samples += sum(len(a.samples) for a in answers.values() if isinstance(a, Vector))
        for name, answer in answers.items():
            if isinstance(answer, NoData) and answer.cause != "empty":
                raise RuntimeError(f"Prometheus on {name!r}: {answer.reason}")
        return answers


class Scales:
    """The scales, with the time of reads and writes."""

    def __init__(self, side: SignalsSide) -> None:
        self._side = side
        self.write_seconds, self.writes = 0.0, 0

    def read(self, target: Target) -> ScaleSight:
        return self._side.scales.read(target)

    def write(self, sight: ScaleSight, replicas: int) -> object:
        began = time.perf_counter()
        answer = self._side.scales.write(sight, replicas)
        self.write_seconds += time.perf_counter() - began
        self.writes += 1
        return answer


class Silent:
    """Takes Events and keeps none: their writer has a queue and a thread of its own."""

    def record(
        self,
        regarding: ObjectReference,
        reason: str,
        note: str,
        type: str = "Normal",  # noqa: A002 - the recorder's own name
        action: str = "Decide",
    ) -> None:
        return


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
        with subprocess.Popen(command) as exporter:
            try:
                return run(options, cluster, pods, replicas, port)
            finally:
                exporter.kill()


def run(
    options: argparse.Namespace,
    cluster: ControlPlane,
    pods: Sequence[ModelPod],
    replicas: Sequence[int],
    port: int,
) -> dict[str, Any]:
    """Fill the cluster, warm up, and measure the rounds."""
    scrape = [
        {
            "job_name": f"models-{shard}",
            "honor_labels": True,
            "metrics_path": f"/shard/{shard}",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for shard in range(SHARDS)
    ]
    url = cluster.start_prometheus(scrape, SCRAPE_INTERVAL)
    began = time.monotonic()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.request("POST", "/api/v1/namespaces", namespace)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    in_parallel(
        cluster,
        [deployment(number, count) for number, count in enumerate(replicas)],
        lambda connection, document: connection.request("POST", path, document),
    )
    say(f"{options.workloads} Deployments made in {time.monotonic() - began:.0f} s")
    index = PodIndex()
    index.replaced([pod_object(pod, port) for pod in pods])
    policies = {(NAMESPACE, f"policy-{n}"): policy_of(n) for n in range(options.workloads)}
    api = Api.connect(str(cluster.kubeconfig_for("slicewise-controller")))
    exposition = Exposition("controller", "benchmark")
    with Prometheus(url) as prometheus:
        source = Timed(prometheus)
        side = SignalsSide(api, source, index, exposition.autoscaler)
        scales = Scales(side)
        controller = Controller(
            lambda: policies,
            scales,
            side.collector,
            Silent(),
            exposition.autoscaler,
            store=LearnedStore(api, SYSTEM),
        )
        side.start()
        try:
            time.sleep(max(0.0, WARM_UP_SECONDS - (time.monotonic() - began)))
            series = prometheus.query("prometheus_tsdb_head_series", time.time())
            found = prometheus.query(f'count({{namespace="{NAMESPACE}"}})', time.time())
            say(f"series in Prometheus: {found.find() if isinstance(found, Vector) else found} {series}")
            rounds = [one_round(controller, source, scales, options.period) for _ in range(options.rounds)]
            views = controller.views
        finally:
            controller.close()
            side.stop()
            api.close()
    decided = sum(1 for view in views if not isinstance(view.signals.in_flight, NoData))
    learned = sum(1 for view in views if not isinstance(view.signals.tokens_out, NoData))
    say(f"{decided} of {len(views)} workloads decided with a load, {learned} with tokens")
    if decided < options.workloads:
        missing = next(view for view in views if isinstance(view.signals.in_flight, NoData))
        raise RuntimeError(f"{missing.target}: {missing.signals.in_flight}")
    series_count = found.find() if isinstance(found, Vector) else 0.0
    scrapes = exposition.registry.get_sample_value(
        "slicewise_autoscaler_direct_scrapes_total", {"result": "read"}
    )
    return figures(options, rounds, series_count if isinstance(series_count, float) else 0.0, scrapes or 0.0)


def one_round(controller: Controller, source: Timed, scales: Scales, period: float) -> dict[str, float]:
    """Run one round, then wait for the rest of the period."""
    source.seconds, source.queries, source.samples = 0.0, 0, 0
    scales.write_seconds, scales.writes = 0.0, 0
    processor, began = time.thread_time(), time.perf_counter()
    controller.round()
    wall = time.perf_counter() - began
    spent = time.thread_time() - processor
    found = {
        "wall_seconds": wall,
        "processor_seconds": spent,
        "prometheus_seconds": source.seconds,
        "write_seconds": scales.write_seconds,
        "writes": scales.writes,
        "queries": source.queries,
        "samples": source.samples,
    }
    say("  ".join(f"{name} {value:.3g}" for name, value in found.items()))
    time.sleep(max(0.0, period - wall))
    return found


def figures(
    options: argparse.Namespace, rounds: Sequence[Mapping[str, float]], series: float, scrapes: float
) -> dict[str, Any]:
    """What is written down."""
    steady = rounds[1:]

    def of(name: str) -> dict[str, float]:
        values = sorted(one[name] for one in steady)
        ninety_five = values[min(len(values) - 1, int(0.95 * len(values)))]
        found = {"median": statistics.median(values), "p95": ninety_five, "max": values[-1]}
        return {key: round(value, 4) for key, value in found.items()}

    names = (
        "wall_seconds",
        "processor_seconds",
        "prometheus_seconds",
        "write_seconds",
        "writes",
        "queries",
        "samples",
    )
    return {
        "workloads": options.workloads,
        "pods": options.pods,
        "series": int(series),
        "rounds": len(steady),
        "period_seconds": options.period,
        "cores": os.cpu_count(),
        "direct_scrapes": int(scrapes),
        "first_round": {name: round(rounds[0][name], 4) for name in names},
        **{name: of(name) for name in names},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the figures."""
    flags = argparse.ArgumentParser(description="Time of a control round at many workloads.")
    flags.add_argument("--workloads", type=int, default=1000)
    flags.add_argument("--pods", type=int, default=4000)
    flags.add_argument("--rounds", type=int, default=24)
    flags.add_argument("--period", type=float, default=5.0)
    flags.add_argument("--output", type=Path, default=OUTPUT)
    options = flags.parse_args(argv)
    found = measure(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
