"""A process that stands for the pods of the LLM Deployment: it serves the trace and exports vLLM's metrics.

``python -m deploy.demo.llm_server --kubeconfig FILE --namespace NS --port PORT --start-at UNIX --window
SECONDS --output FILE``

kwok's pods run nothing, so this process watches which of them are Ready and simulates one vLLM replica for
each (``llm_model``), fed by the Azure trace (``llm_load``). It exports, for each pod, the names that a real
vLLM and a real dcgm-exporter use, with ``namespace`` and ``pod`` labels (scrape with ``honor_labels``). The
share of busy slots stands for the engine activity of the MIG instance. On SIGTERM it writes what it served,
request by request, and leaves.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.demo.llm_load import read_requests
from deploy.demo.llm_model import Served, ServerSpeed
from deploy.demo.llm_service import LlmService, LoadSample

MODEL_NAME = "demo/llama-3.1-8b-instruct"
PROFILE = "3g.40gb"
DATA = Path(__file__).parent / "data" / "azure_conv_cut.csv"
_TICK_SECONDS = 0.05
_SAMPLE_SECONDS = 0.5
_E2E_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
_TTFT_BUCKETS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
)


class ServedRecord(msgspec.Struct, frozen=True):
    """One finished request, as written to the output file; seconds."""

    arrived: float
    first_token: float
    total: float


class Output(msgspec.Struct, frozen=True):
    """The output file."""

    arrived: int
    unfinished: int
    served: list[ServedRecord]
    load: list[LoadSample]


class ReadyPods:
    """The names of the pods that serve now: Ready and not on their way out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: dict[str, bool] = {}

    def names(self) -> frozenset[str]:
        with self._lock:
            return frozenset(name for name, ready in self._ready.items() if ready)

    def replaced(self, items: Sequence[Pod]) -> None:
        with self._lock:
            self._ready = {pod.metadata.name: _ready(pod) for pod in items}

    def changed(self, kind: str, item: Pod) -> None:
        with self._lock:
            if kind == "DELETED":
                self._ready.pop(item.metadata.name, None)
            else:
                self._ready[item.metadata.name] = _ready(item)


class Exporter:
    """The metrics of all replicas in one registry. Series of a pod go when the pod goes."""

    def __init__(self, namespace: str) -> None:
        self.registry = CollectorRegistry()
        labels = ("namespace", "pod", "model_name")
        self._namespace = namespace
        self._running = Gauge(
            "vllm:num_requests_running", "Requests being served", labels, registry=self.registry
        )
        self._waiting = Gauge("vllm:num_requests_waiting", "Requests queued", labels, registry=self.registry)
        self._done = Counter(
            "vllm:request_success", "Finished requests", (*labels, "finished_reason"), registry=self.registry
        )
        self._e2e = Histogram(
            "vllm:e2e_request_latency_seconds",
            "Whole request",
            labels,
            buckets=_E2E_BUCKETS,
            registry=self.registry,
        )
        self._ttft = Histogram(
            "vllm:time_to_first_token_seconds",
            "First token",
            labels,
            buckets=_TTFT_BUCKETS,
            registry=self.registry,
        )
        gpu_labels = ("namespace", "pod", "GPU_I_ID", "GPU_I_PROFILE")
        self._active = Gauge(
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Engine activity, 0 to 1", gpu_labels, registry=self.registry
        )
        self._known: set[str] = set()

    def update(self, service: LlmService, done: Sequence[Served]) -> None:
        for served in done:
            labels = (self._namespace, served.replica, MODEL_NAME)
            if served.replica in self._known:
                self._done.labels(*labels, "stop").inc()
                self._e2e.labels(*labels).observe(served.total_seconds)
                self._ttft.labels(*labels).observe(served.first_token_seconds)

    def report(self, service: LlmService) -> None:
        states = service.report()
        names = {state.name for state in states}
        for state in states:
            labels = (self._namespace, state.name, MODEL_NAME)
            self._running.labels(*labels).set(state.running)
            self._waiting.labels(*labels).set(state.waiting)
            self._active.labels(self._namespace, state.name, "1", PROFILE).set(state.active_share)
            if state.name not in self._known:
                # A new server exports its histograms at zero; so does this.
                self._done.labels(*labels, "stop")
                self._e2e.labels(*labels)
                self._ttft.labels(*labels)
        for name in self._known - names:
            labels = (self._namespace, name, MODEL_NAME)
            for metric in (self._running, self._waiting, self._e2e, self._ttft):
                metric.remove(*labels)
            self._done.remove(*labels, "stop")
            self._active.remove(self._namespace, name, "1", PROFILE)
        self._known = names


def _ready(pod: Pod) -> bool:
    ready = any(
        condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions
    )
    return ready and pod.metadata.deletion_timestamp is None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo.llm_server", description="Simulated vLLM replicas"
    )
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--selector", default="app=llm")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--start-at", type=float, required=True, help="unix time of the first request")
    parser.add_argument(
        "--window", type=float, required=True, help="seconds into which the trace is squeezed"
    )
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = _arguments(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service = LlmService(read_requests(DATA.read_text(), window_seconds=options.window), ServerSpeed())
    pods = ReadyPods()
    api = Api.connect(options.kubeconfig)
    path = f"/api/v1/namespaces/{options.namespace}/pods"
    reflector = Reflector(api, path, Pod, pods, label_selector=options.selector)
    reflector.start()
    exporter = Exporter(options.namespace)
    server, thread = start_http_server(options.port, addr="127.0.0.1", registry=exporter.registry)
    load: list[LoadSample] = []
    next_sample = 0.0
    while not stop.wait(_TICK_SECONDS):
        now = max(0.0, time.time() - options.start_at)
        service.set_replicas(pods.names())
        exporter.update(service, service.advance(now))
        if now >= next_sample:
            exporter.report(service)
            load.append(service.sample())
            next_sample = now + _SAMPLE_SECONDS
    reflector.stop()
    server.shutdown()
    thread.join(timeout=5)
    records = [
        ServedRecord(served.request.arrived_seconds, served.first_token_seconds, served.total_seconds)
        for served in service.served
    ]
    result = Output(service.arrived, service.in_flight, records, load)
    options.output.write_bytes(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
