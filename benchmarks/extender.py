"""The extender under load: ``python -m benchmarks.extender``; writes build/bench/extender.json.

1. **Server** (always): ``slicewise-scheduler --from-snapshot`` over 5,000 nodes × 8 GPUs, pinned to one core;
  a client on another core
   asks filter and prioritize with all 5,000 names, one request at a time, for pods of several shapes, each
       pod new. Every prioritize
   reserves room for its pod and so changes the fleet. Times are the server's own (Server-Timing: from the
       first byte read to the
   answer's bytes), and the client's for comparison. Resident memory is read from /proc.
2. **Scheduler** (unless ``--no-cluster``): the real kube-scheduler over 1,000 kwok nodes places the same pods
  with no extender, with one
   that returns what it got, and with ours, in turn, all nodes scored. Figure: mean of
   scheduler_scheduling_algorithm_duration_seconds, ours over echo.

Targets: prioritize and filter p99 ≤ 5 ms, ≤ 300 MiB resident, ours ≤ 1.25 × echo. Exit status 1 when one is
missed.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.extender_on_scheduler import compare
from benchmarks.fleet_snapshot import fleet_snapshot
from benchmarks.judged import judged
from deploy.local.processes import Processes, ServerFailed
from scheduler.snapshot import encode

OUTPUT = Path("build/bench/extender.json")
P99_TARGET_MILLISECONDS = 5.0
RESIDENT_TARGET_MEBIBYTES = 300.0
RATIO_TARGET = 1.25
SERVER = "slicewise-scheduler"
READY_SECONDS = 300.0
READY = re.compile(r"^serving .+:(\d+)\n", re.MULTILINE)

Json = dict[str, Any]

SHAPES: dict[str, Json] = {
    "1 GPU": {"limits": {"nvidia.com/gpu": "1"}},
    "4 GPUs, NVLink preferred": {
        "limits": {"nvidia.com/gpu": "4"},
        "annotations": {"slicewise.io/nvlink": "preferred"},
    },
    "8 GPUs": {"limits": {"nvidia.com/gpu": "8"}},
    "1 GPU of H100": {
        "limits": {"nvidia.com/gpu": "1"},
        "annotations": {"slicewise.io/gpu-model": "H100-80GB"},
    },
    "1g.10gb": {"limits": {"nvidia.com/mig-1g.10gb": "1"}},
    "3g.40gb": {"limits": {"nvidia.com/mig-3g.40gb": "1"}},
    "2 × 1g.10gb": {"limits": {"nvidia.com/mig-1g.10gb": "2"}},
    "no GPU": {"limits": {"cpu": "1"}},
}


def pod(name: str, shape: Json) -> Json:
    """A pod as the API server would send it, with the usual ballast that the extender must skip."""
    metadata = {
        "name": name,
        "namespace": "load",
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-11-21T00:00:00Z",
        "annotations": shape.get("annotations", {}),
        "managedFields": [{"manager": "kubectl", "fieldsV1": {f"f:{i}": {} for i in range(20)}}],
    }
    container = {
        "name": "server",
        "image": "registry.example/model-7:1",
        "env": [{"name": f"V{i}", "value": "x" * 20} for i in range(10)],
        "resources": {"limits": shape["limits"], "requests": shape["limits"]},
    }
    spec = {"schedulerName": "default-scheduler", "containers": [container], "tolerations": []}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def summary(times: Sequence[float]) -> Json:
    """Milliseconds."""
    return {
        "requests": len(times),
        "mean": round(statistics.fmean(times), 3),
        "p50": round(percentile(times, 0.50), 3),
        "p99": round(percentile(times, 0.99), 3),
        "max": round(max(times), 3),
    }


def memory_of(pid: int) -> dict[str, float]:
    """Resident memory now and at its peak, MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {
        key: int(value) / 1024 for key, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", text, re.MULTILINE)
    }
    return {"now": round(found["VmRSS"], 1), "peak": round(found["VmHWM"], 1)}


class Asked:
    """One connection to the server; times of what was asked over it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.server: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}
        self.client: dict[str, list[float]] = {}

    def ask(self, verb: str, body: bytes, keep: str | None) -> Any:
        """Send one request; ``keep`` files its times under a further name."""
        started = time.perf_counter()
        self._connection.request("POST", f"/scheduler/{verb}", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        took = 1e3 * (time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"{verb}: got status {answer.status}, expected 200: {content[:300]!r}")
        if keep is not None:
            read, made, cpu = map(float, re.findall(r"dur=([0-9.]+)", answer.headers["Server-Timing"]))
            for name in (verb, f"{verb} · {keep}"):
                self.server.setdefault(name, []).append(read + made)
                self.processor.setdefault(name, []).append(cpu)
                self.client.setdefault(name, []).append(took)
        return json.loads(content)


@contextmanager
def snapshot_server(snapshot: Path, core: int) -> Iterator[tuple[int, int, float]]:
    """Run the server pinned to ``core``; yields its process id, its port and how long it took to be ready.

    Raises ServerFailed.
    """
    command = [
        sys.executable,
        "-m",
        "scheduler",
        "--from-snapshot",
        str(snapshot),
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "warning",
    ]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    started = time.monotonic()
    # However this process ends, the server ends with it.
    with closing(Processes(snapshot.parent)) as processes:
        pid = processes.start(
            SERVER, [*real_time(), "taskset", "-c", str(core), *command], {**os.environ, **threads}
        )
        while (port := READY.search(processes.log(SERVER).read_text(errors="replace"))) is None:
            processes.check()
            if time.monotonic() - started > READY_SECONDS:
                raise ServerFailed(f"not ready in {READY_SECONDS:.0f} s: {processes.log_tail(SERVER)}")
            time.sleep(0.02)
        try:
            yield pid, int(port[1]), time.monotonic() - started
        finally:
            processes.stop([SERVER], 30.0)


def real_time() -> list[str]:
    """A prefix that lets the server go before other processes, where the machine permits it: their work
    is not its time.
    """
    prefix = ["chrt", "--rr", "10"]
    try:
        permitted = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        permitted = False
    return prefix if permitted else []


def measure_server(nodes: int, requests: int, seed: int) -> Json:
    """Part 1."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.json.gz"
        say(f"making a snapshot of {nodes} nodes × 8 GPUs")
        snapshot = fleet_snapshot(nodes, seed)
        objects = {
            "nodes": len(snapshot.nodes),
            "pods": len(snapshot.pods),
            "resourceSlices": len(snapshot.resource_slices),
            "resourceClaims": len(snapshot.resource_claims),
        }
        path.write_bytes(gzip.compress(encode(snapshot), 1))
        del snapshot
        say(f"{objects}; starting the server on core {cores[-1]}")
        with snapshot_server(path, cores[-1]) as (pid, port, ready_seconds):
            os.sched_setaffinity(0, {cores[0]})
            asked = Asked(port)
            names = [f"gpu-{index:05d}" for index in range(nodes)]
            rounds = -(-requests // len(SHAPES))
            for number in range(-20, rounds):
                for shape_name, shape in SHAPES.items():
                    keep = shape_name if number >= 0 else None
                    args = {
                        "Pod": pod(f"p-{number}-{len(shape_name)}-{shape_name[:1]}", shape),
                        "NodeNames": names,
                    }
                    body = json.dumps(args).encode()
                    asked.ask("filter", body, keep)
                    asked.ask("prioritize", body, keep)
            memory = memory_of(pid)
            os.sched_setaffinity(0, set(cores))
    return {
        "real_time_priority": bool(real_time()),
        "objects": objects,
        "ready_seconds": round(ready_seconds, 2),
        "resident_mebibytes": memory,
        "server_milliseconds": {name: summary(times) for name, times in asked.server.items()},
        "server_processor_milliseconds": {name: summary(times) for name, times in asked.processor.items()},
        "client_milliseconds": {
            name: summary(times) for name, times in asked.client.items() if "·" not in name
        },
    }


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, write the figures, say what was missed."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--nodes", type=int, default=5000)
    flags.add_argument("--requests", type=int, default=800, help="per verb (%(default)s)")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--no-cluster", action="store_true", help="leave out the real kube-scheduler")
    flags.add_argument("--cluster-nodes", type=int, default=1000)
    flags.add_argument("--cluster-pods", type=int, default=1000)
    flags.add_argument("--rounds", type=int, default=2, help="turns of each contender (%(default)s)")
    options = flags.parse_args(argv)
    found: Json = {
        # A busy machine shows in every tail: read the figures beside its load.
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "load_before": os.getloadavg()[0],
        },
        "server": measure_server(options.nodes, options.requests, options.seed),
    }
    missed = []
    timed = found["server"]["server_milliseconds"]
    for verb in ("filter", "prioritize"):
        say(f"{verb}: p50 {timed[verb]['p50']} ms, p99 {timed[verb]['p99']} ms in the server")
        if timed[verb]["p99"] > P99_TARGET_MILLISECONDS:
            missed.append(f"{verb} p99 {timed[verb]['p99']} ms, target {P99_TARGET_MILLISECONDS}")
    resident = found["server"]["resident_mebibytes"]["now"]
    say(f"resident {resident} MiB")
    if resident > RESIDENT_TARGET_MEBIBYTES:
        missed.append(f"resident {resident} MiB, target {RESIDENT_TARGET_MEBIBYTES}")
    if not options.no_cluster:
        found["scheduler"] = compare(options.cluster_nodes, options.cluster_pods, options.rounds, say)
        ratio = found["scheduler"]["ours_over_echo"]
        say(f"real kube-scheduler: ours {ratio} × echo")
        if ratio > RATIO_TARGET:
            missed.append(f"ours over echo {ratio}, target {RATIO_TARGET}")
    return judged(OUTPUT, found, missed, say)


if __name__ == "__main__":
    sys.exit(main())
