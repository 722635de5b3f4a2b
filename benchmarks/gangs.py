"""Gangs: all or nothing, in a simulated world and on a real kube-scheduler.

``--simulated`` random sets run in ``benchmarks.gang_model`` with failing patches, dying planners and lagging
watches; ``--real`` sets on one real control plane (kwok nodes, kube-scheduler with the shipped profile,
slicewise-scheduler and slicewise-controller, gates by the shipped MutatingAdmissionPolicy). Counts gangs that
stayed partly bound and sets in which somebody's turn never came. Writes build/bench/gangs.json.

    python -m benchmarks.gangs [--simulated 1000] [--real 50] [--first-seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gang_model import run_set
from benchmarks.gang_trial import run_trials
from benchmarks.planned_road import process
from benchmarks.scheduler_run import extended_config, say, serving
from deploy.local.control_plane import ControlPlane

OUTPUT = Path("build/bench/gangs.json")
MANIFESTS = Path("deploy/manifests")


@contextmanager
def planned_cluster() -> Iterator[ControlPlane]:
    """A control plane with everything of ours, gates included."""
    with tempfile.TemporaryDirectory() as logs, ControlPlane(with_scheduler=False) as cluster:
        cluster.apply(MANIFESTS / "policy.yaml")
        cluster.apply(MANIFESTS / "plan-gate.yaml")
        extender = f"http://127.0.0.1:{cluster.claim_port()}"
        controller = f"http://127.0.0.1:{cluster.claim_port()}"
        scheduler_log, controller_log = Path(logs) / "scheduler.log", Path(logs) / "controller.log"
        with (
            serving(process("scheduler", cluster, extender), f"{extender}/readyz", scheduler_log),
            serving(process("autoscaler", cluster, controller), f"{controller}/readyz", controller_log),
        ):
            cluster.start_scheduler(extended_config(extender))
            try:
                yield cluster
            finally:
                print(controller_log.read_text()[-3000:], file=sys.stderr)


def simulated(count: int, first: int) -> dict[str, Any]:
    """Sets in the little world."""
    started, broken = time.monotonic(), []
    for seed in range(first, first + count):
        if not run_set(seed).sound:
            broken.append(seed)
        if (seed - first + 1) % 100 == 0:
            say(f"simulated: {seed - first + 1} of {count} sets, broken: {broken or 'none'}")
    return {"sets": count, "broken_seeds": broken, "seconds": time.monotonic() - started}


def real(count: int, first: int) -> dict[str, Any]:
    """Sets on the real scheduler."""
    started = time.monotonic()
    with planned_cluster() as cluster:
        say("real: control plane, scheduler and controller are up")
        trials = run_trials(cluster, range(first, first + count), say=lambda line: say(f"real: {line}"))
    return {
        "sets": count,
        "gangs": sum(len({gang for gang, *_ in trial.case.pods if gang}) for trial in trials),
        "pods": sum(len(trial.case.pods) for trial in trials),
        "partly_bound": {trial.number: sorted(trial.partial) for trial in trials if trial.partial},
        "starved": {trial.number: trial.starved for trial in trials if trial.starved},
        "longest_partial_seconds": max((trial.longest_partial_seconds for trial in trials), default=0.0),
        "mean_seconds_a_set": statistics.fmean(trial.seconds for trial in trials) if trials else 0.0,
        "seconds": time.monotonic() - started,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both and write the report; exit status 1 when a set broke."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gangs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulated", type=int, default=1000, metavar="SETS")
    parser.add_argument("--real", type=int, default=50, metavar="SETS")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "processor": platform.machine()}}
    if options.simulated:
        report["simulated"] = simulated(options.simulated, options.first_seed)
    if options.real:
        report["real"] = real(options.real, options.first_seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    found = report.get("real", {})
    broken = [*report.get("simulated", {}).get("broken_seeds", ()), *found.get("partly_bound", {})]
    broken += list(found.get("starved", {}))
    print(json.dumps(report, indent=2))
    print(f"written: {options.output}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
