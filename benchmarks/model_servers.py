"""MLServer, BentoML and Ray Serve as real pods: start-up, a step to five times the load, recovery, replicas.

On a control plane and a real node of its own (kubelet, containerd), with Prometheus and slicewise-controller
as processes: the trial of `deploy.model_servers`, one server after the other. Target: the p95 is back within
the objective after at most TARGET_STARTS start-up times (the median of the run's own starts, created to
Ready), no request fails, replicas go back to one. Needs root and a package index where the servers are not
installed yet; says so and writes nothing where the machine has neither.
Writes build/bench/model_servers.json.  Usage: python -m benchmarks.model_servers [--servers NAME,...]
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.judged import judged
from deploy.local.control_plane import ControlPlane
from deploy.local.model_servers import ModelServerUnavailable, ensure, find
from deploy.local.node_support import why_not
from deploy.local.real_node import RealNode
from deploy.model_servers.manifests import MAX_REPLICAS
from deploy.model_servers.rig import Rig
from deploy.model_servers.servers import SERVERS, ModelServer
from deploy.model_servers.trial import Result, Trial
from kubectl_slicewise.servers import as_table
from metrics.prometheus import Prometheus
from metrics.samples import NoData
from metrics.servers.check import check

OUTPUT = Path("build/bench/model_servers.json")
NAMESPACE = "models"
TARGET_STARTS = 2.0


def say(line: str) -> None:
    """Progress, on standard error."""
    print(f"model servers: {line}", file=sys.stderr, flush=True)


def install(servers: Sequence[ModelServer]) -> dict[str, dict[str, float | None]]:
    """Install what is missing; seconds where something was installed (None: it was there), and size."""
    found: dict[str, dict[str, float | None]] = {}
    for server in servers:
        there, began = find(server.package), time.monotonic()
        python = ensure(server.package, say)
        seconds = None if there is not None else time.monotonic() - began
        found[server.name] = {"install_seconds": seconds, "mebibytes": _mebibytes(python.parents[1])}
    return found


def run(servers: Sequence[ModelServer], seed: int, logs: Path) -> list[dict[str, Any]]:
    """All trials, each up and down again before the next."""
    made: list[dict[str, Any]] = []
    with ControlPlane() as cluster, RealNode(cluster, keep_logs=logs) as node:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        cluster.request("POST", "/api/v1/namespaces", namespace)
        with Rig(cluster, node, NAMESPACE, say) as rig, Prometheus(rig.prometheus) as source:
            for server in servers:
                trial = Trial(rig, server, seed=seed)
                try:
                    trial.up()
                    say(in_words(trial.result()))
                    seen = check(source, time.time())
                    trial.down()
                finally:
                    trial.close()
                result = trial.result()
                rig.remove(server)
                down = result.down_after_seconds
                say(f"{server.name}: {'not ' if down is None else ''}back at one replica" + _after(down))
                if not isinstance(seen, NoData):
                    print(as_table(seen), file=sys.stderr)
                recognised = not isinstance(seen, NoData) and any(s.server == server.preset for s in seen)
                made.append({**_finite(asdict(result)), "recognised": recognised})
    return made


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" {seconds:.0f} s after the step"


def in_words(result: Result) -> str:
    """One line of what was seen."""
    back = result.recovered_after_seconds
    recovered = "not back within the objective" if back is None else f"back after {back:.1f} s"
    return (
        f"{result.server}: start {result.start_seconds:.1f} s, {recovered} "
        f"({result.starts_to_recover or 0.0:.2f} starts), {result.most_replicas} replicas at most"
    )


def missed(runs: Sequence[dict[str, Any]]) -> list[str]:
    """What did not reach its target."""
    found: list[str] = []
    for one in runs:
        name, starts = one["server"], one["starts_to_recover"]
        if starts is None or starts > TARGET_STARTS:
            found.append(f"{name}: back after {starts} start-up times, target {TARGET_STARTS:g}")
        if one["failed"]:
            found.append(f"{name}: requests failed: {', '.join(one['failed'])}")
        if one["down_after_seconds"] is None:
            found.append(f"{name}: was not scaled back to one replica")
        if one["most_replicas"] < 2:
            found.append(f"{name}: was never scaled up")
        if not one["recognised"]:
            found.append(f"{name}: was not recognised by what Prometheus scraped")
    return found


def _finite(value: Any) -> Any:
    """JSON knows no infinity: "never" where a request was not answered."""
    if isinstance(value, float):
        return value if math.isfinite(value) else "never"
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _mebibytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status says whether every target was reached."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.model_servers")
    names = [server.name for server in SERVERS]
    flags.add_argument("--servers", default=",".join(names), help="names, comma-separated (%(default)s)")
    flags.add_argument("--seed", type=int, default=1, help="of the arrivals (%(default)s)")
    flags.add_argument("--output", type=Path, default=OUTPUT)
    options = flags.parse_args(argv)
    wanted = options.servers.split(",")
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        flags.error(f"--servers: got {', '.join(unknown)}, expected some of {', '.join(names)}")
    reason = why_not()
    if reason is not None:
        say(f"left out, no real node on this machine: {reason}")
        return 0
    servers = [server for server in SERVERS if server.name in wanted]
    try:
        installed = install(servers)
    except ModelServerUnavailable as problem:
        say(f"left out: {problem}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as logs:
        runs = run(servers, options.seed, Path(logs))
    report = {
        "command": f"python -m benchmarks.model_servers --servers {options.servers} --seed {options.seed}",
        "seed": options.seed,
        "machine": {"processors": os.cpu_count(), "system": platform.platform()},
        "target_starts": TARGET_STARTS,
        "max_replicas": MAX_REPLICAS,
        "environments": installed,
        "seconds": time.monotonic() - began,
        "servers": runs,
    }
    return judged(options.output, report, missed(runs), say)


if __name__ == "__main__":
    raise SystemExit(main())
