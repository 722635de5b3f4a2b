"""Metric pages of thousands of model servers from one process: what Prometheus and the direct scrape read.

Pod ``i`` of workload ``w`` runs vLLM, SGLang, TGI or Triton by turns of the workload, with all the latency
histograms that such a server exports (their real bucket bounds), its counters growing with the time, and the
load of its workload, which swings over ten minutes. A GPU series of dcgm-exporter belongs to each pod.

    /shard/K      every series of one of ``--shards`` parts of the pods, with namespace and pod labels
    /pod/I        the page of pod I as the pod itself would show it

Usage: python -m benchmarks.model_server_exporter --port PORT --workloads N --pods N [--shards N]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.loopback_pages import Answering, QuietServer

NAMESPACE = "models"
SERVERS = ("vllm", "vllm", "vllm", "sglang", "tgi", "triton")
SWING_SECONDS = 600.0
_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_E2E = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0,
    40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_ITL = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)


@dataclass(frozen=True)
class ModelPod:
    """One pod: its number, its workload and what it serves."""

    number: int
    workload: int
    server: str

    @property
    def name(self) -> str:
        return f"llm-{self.workload:04d}-{self.number:05d}"


def model_pods(workloads: int, pods: int) -> list[ModelPod]:
    """``pods`` pods over ``workloads`` workloads: every workload one to seven, by turns."""
    found: list[ModelPod] = []
    shares = [1 + 3 * (number % 3) for number in range(workloads)]
    scale = pods / sum(shares)
    due = 0.0
    for workload, share in enumerate(shares):
        due += share * scale
        while len(found) < round(due):
            found.append(ModelPod(len(found), workload, SERVERS[workload % len(SERVERS)]))
    return found


def load_of(workload: int, now: float) -> float:
    """Requests in flight of one pod of the workload."""
    base = 4.0 + workload % 13
    return base * (1.0 + 0.3 * math.sin(2.0 * math.pi * (now / SWING_SECONDS + workload / 97.0)))


class Pages:
    """The pages, from templates that are made once."""

    def __init__(self, pods: Sequence[ModelPod], began: float) -> None:
        self.pods = pods
        self._began = began
        self._lines = {server: list(_series(server)) for server in set(SERVERS)}
        self._bare: dict[str, str] = {
            server: "".join(f"{name}{{{labels}}} %s\n" for name, labels, _ in lines)
            for server, lines in self._lines.items()
        }
        self._labelled = [self._template(pod) for pod in pods]

    @property
    def series(self) -> int:
        """Series in all, those of the GPUs included."""
        return sum(len(self._lines[pod.server]) + 1 for pod in self.pods)

    def shard(self, shard: int, shards: int, now: float) -> str:
        """The labelled series of every ``shards``-th pod."""
        return "".join(
            self._labelled[pod.number] % (*self._values(pod, now), 35 + pod.number % 40)
            for pod in self.pods[shard::shards]
        )

    def pod(self, number: int, now: float) -> str:
        """One pod's own page."""
        pod = self.pods[number]
        return self._bare[pod.server] % self._values(pod, now)

    def _template(self, pod: ModelPod) -> str:
        where = f'namespace="{NAMESPACE}",pod="{pod.name}"'
        lines = [f"{name}{{{where},{labels}}} %s\n" for name, labels, _ in self._lines[pod.server]]
        gpu = f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-{pod.number}",{where}}} %s\n'
        return "".join([*lines, gpu])

    def _values(self, pod: ModelPod, now: float) -> tuple[float, ...]:
        load, up = load_of(pod.workload, now), now - self._began
        served = up * (4.0 + pod.workload % 13) / 4.0  # four seconds a request
        return tuple(
            round(load * share) if kind == "load" else round(served * share, 3)
            for _, _, (kind, share) in self._lines[pod.server]
        )


def _series(server: str) -> Iterator[tuple[str, str, tuple[str, float]]]:
    """Name, labels and value (a share of the load, or of the requests served) of each series of a pod."""
    labels = 'model_name="m",engine="0"' if server == "vllm" else 'model="m",version="1"'
    match server:
        case "vllm":
            yield "vllm:num_requests_running", labels, ("load", 0.9)
            yield "vllm:num_requests_waiting", labels, ("load", 0.1)
            yield "vllm:kv_cache_usage_perc", labels, ("load", 0.01)
            yield "vllm:request_success_total", f'{labels},finished_reason="stop"', ("served", 1.0)
            yield from _histogram("vllm:time_to_first_token_seconds", labels, _TTFT, 0.2)
            yield from _histogram("vllm:e2e_request_latency_seconds", labels, _E2E, 4.0)
            yield from _histogram("vllm:inter_token_latency_seconds", labels, _ITL, 0.03, 150.0)
            yield from _histogram("vllm:request_prompt_tokens", labels, _TOKENS, 600.0)
            yield from _histogram("vllm:request_generation_tokens", labels, _TOKENS, 150.0)
        case "sglang":
            yield "sglang:num_running_reqs", labels, ("load", 0.9)
            yield "sglang:num_queue_reqs", labels, ("load", 0.1)
            yield "sglang:num_requests_total", labels, ("served", 1.0)
            yield "sglang:prompt_tokens_total", labels, ("served", 600.0)
            yield "sglang:generation_tokens_total", labels, ("served", 150.0)
            yield from _histogram("sglang:time_to_first_token_seconds", labels, _TTFT, 0.2)
            yield from _histogram("sglang:e2e_request_latency_seconds", labels, _E2E, 4.0)
            yield from _histogram("sglang:inter_token_latency_seconds", labels, _ITL, 0.03, 150.0)
        case "tgi":
            yield "tgi_batch_current_size", labels, ("load", 0.9)
            yield "tgi_queue_size", labels, ("load", 0.1)
            yield "tgi_request_count", labels, ("served", 1.0)
            yield from _histogram("tgi_request_duration", labels, _E2E, 4.0)
            yield from _histogram("tgi_request_mean_time_per_token_duration", labels, _ITL, 0.03)
            yield from _histogram("tgi_request_input_length", labels, _TOKENS, 600.0)
            yield from _histogram("tgi_request_generated_tokens", labels, _TOKENS, 150.0)
        case _:
            yield "nv_inference_request_success", labels, ("served", 1.0)
            yield "nv_inference_request_duration_us", labels, ("served", 4e6)
            yield "nv_inference_pending_request_count", labels, ("load", 0.1)


def _histogram(
    name: str, labels: str, bounds: Sequence[float], mean: float, each: float = 1.0
) -> Iterator[tuple[str, str, tuple[str, float]]]:
    """An exponential distribution around ``mean``, ``each`` observations a request."""
    for bound in bounds:
        share = each * (1.0 - math.exp(-bound / mean))
        yield f"{name}_bucket", f'{labels},le="{bound}"', ("served", share)
    yield f"{name}_bucket", f'{labels},le="+Inf"', ("served", each)
    yield f"{name}_sum", labels, ("served", each * mean)
    yield f"{name}_count", labels, ("served", each)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--workloads", type=int, required=True)
    flags.add_argument("--pods", type=int, required=True)
    flags.add_argument("--shards", type=int, default=8)
    options = flags.parse_args(argv)
    pages = Pages(model_pods(options.workloads, options.pods), time.time() - 3600.0)

    class Handler(Answering):
        def respond(self) -> None:
            kind, _, number = self.path.strip("/").partition("/")
            now = time.time()
            shard = kind == "shard"
            text = pages.shard(int(number), options.shards, now) if shard else pages.pod(int(number), now)
            self.answer(text.encode())

    class Server(QuietServer):
        request_queue_size = 256

    Server(("127.0.0.1", options.port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
