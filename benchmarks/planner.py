"""Plans by CP-SAT against greedy plans and a bound that no plan can beat: 500 waiting pods on 1,000 nodes.

Each run draws a cluster of N nodes × 8 GPUs in every regime (``benchmarks.fleet_snapshot``), loaded as the
mix says, and the pods of one mix, both from the seed, and plans them with the product's own snapshot and
solver. ``gap_percent`` is the distance of the objective (placed pods by priority, less money) to its bound,
``price_gap_percent`` that of the money alone among plans that place as much. Writes build/bench/planner.json.

    python -m benchmarks.planner [--nodes 1000] [--pods 500] [--seeds 10] [--mix NAME ...] [--deadline 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet_snapshot import fleet_snapshot
from scheduler.decider import Decider
from scheduler.demand import Demand, GpuRequest
from scheduler.packing.plan_check import violations
from scheduler.packing.plan_solve import solve_plan
from scheduler.planner.admission import Constraints
from scheduler.planner.problem import Asked, Snapshot, snapshot
from scheduler.service import from_snapshot

OUTPUT = Path("build/bench/planner.json")
ANYWHERE = Constraints((), None, (), False)

MIG = (
    ("mig", "1g.10gb", 1, 0.35),
    ("mig", "2g.20gb", 1, 0.25),
    ("mig", "3g.40gb", 1, 0.25),
    ("mig", "7g.80gb", 1, 0.1),
    ("mig", "1g.10gb", 2, 0.05),
)
WHOLE = (("whole", None, 1, 0.45), ("whole", None, 2, 0.25), ("whole", None, 4, 0.2), ("whole", None, 8, 0.1))


@dataclass(frozen=True, slots=True)
class Mix:
    """Pods to draw: (kind, profile, count, share), how busy nodes are, gangs' part of the pods,
    priorities.
    """

    pods: tuple[tuple[str, str | None, int, float], ...]
    busy: tuple[float, float]
    gangs: float = 0.0
    levels: tuple[int, ...] = (0,)
    linked: float = 0.0


MIXES: Mapping[str, Mix] = {
    "mig": Mix(MIG, (0.0, 1.0)),
    "whole": Mix(WHOLE, (0.0, 1.0), linked=0.3),
    "mixed": Mix((*MIG, *WHOLE), (0.0, 1.0), levels=(0, 10)),
    "gangs": Mix((*MIG, *WHOLE), (0.3, 1.0), gangs=0.6),
    "contended": Mix((*MIG, *WHOLE), (0.93, 1.0), levels=(0, 10, 100)),
    "contended-gangs": Mix(WHOLE, (0.6, 1.0), gangs=0.7, levels=(0, 10)),
}


def cluster(nodes: int, seed: int, busy: tuple[float, float]) -> Decider:
    """A made-up cluster, its prices solved."""
    service = from_snapshot(fleet_snapshot(nodes, seed, busy), "benchmark")
    service.prepare()
    return service.decider


def pods_of(mix: Mix, count: int, seed: int) -> tuple[list[Asked], int]:
    """The waiting pods in queue order, and how many gangs they form."""
    rng = random.Random(seed)
    found: list[Asked] = []
    gangs = 0
    while len(found) < count:
        kind, profile, number, _ = rng.choices(mix.pods, [share for *_, share in mix.pods])[0]
        need = "required" if kind == "whole" and number > 1 and rng.random() < mix.linked else None
        models = frozenset({"H100-80GB"}) if rng.random() < 0.15 else None
        demand = Demand(
            (GpuRequest(kind, profile, number),),  # type: ignore[arg-type]
            models,
            need,
            cpu_milli=rng.choice((1000, 4000)),
            memory_mib=rng.choice((4096, 16384)),
        )
        priority = rng.choice(mix.levels)
        size = min(rng.choice((2, 4, 8, 16)), count - len(found)) if rng.random() < mix.gangs / 4 else 1
        gang = gangs if size > 1 else -1
        gangs += size > 1
        found += [Asked(f"pod-{len(found) + n}", demand, ANYWHERE, priority, gang) for n in range(size)]
    return sorted(found, key=lambda pod: -pod.priority), gangs


def problem_of(decider: Decider, mix: Mix, pods: int, seed: int) -> Snapshot:
    """The product's snapshot of such a queue."""
    asked, gangs = pods_of(mix, pods, seed)
    everywhere = np.ones(decider.fleet.size, dtype=np.bool_)
    return snapshot(decider, asked, gangs, lambda _: everywhere)


def measure(mix: Mix, nodes: int, pods: int, seed: int, deadline: float) -> dict[str, Any]:
    """One cluster, one queue, one plan."""
    decider = cluster(nodes, seed, mix.busy)
    started = time.perf_counter()
    made = problem_of(decider, mix, pods, seed)
    read = time.perf_counter() - started
    started = time.perf_counter()
    answer = solve_plan(made.problem, deadline, time.monotonic)
    seconds = time.perf_counter() - started
    broken = violations(made.problem, answer.placing)
    if broken:
        raise SystemExit(f"the plan breaks a rule: {broken[0]}")
    return {
        "seed": seed,
        "snapshot_seconds": read,
        "seconds": seconds,
        "objective": answer.objective,
        "bound": answer.bound,
        "gap_percent": answer.gap_percent,
        "greedy_objective": answer.greedy_objective,
        "placed": answer.placed,
        "placed_bound": answer.placed_bound,
        "greedy_placed": answer.greedy_placed,
        "price": answer.price,
        "greedy_price": answer.greedy_price,
        "price_gap_percent": None if answer.price_bound == float("-inf") else answer.price_gap_percent,
        "node_classes": len(made.problem.nodes),
        "shapes": made.problem.shapes,
        "gangs": len(made.problem.gangs),
        "columns": answer.columns,
        "rounds": answer.rounds,
        "status": answer.status,
    }


def _line(name: str, run: Mapping[str, Any]) -> str:
    price = run["price_gap_percent"]
    return (
        f"{name:16} seed {run['seed']:2}: {run['seconds']:5.2f} s, {run['status']:8} placed {run['placed']} "
        f"of at most {run['placed_bound']} (greedy {run['greedy_placed']}), price {run['price']:.1f} (greedy "
        f"{run['greedy_price']:.1f}), gap {run['gap_percent']:.3f} %, price gap "
        f"{'unproved' if price is None else format(price, '.2f') + ' %'}; {run['node_classes']} node "
        f"classes, {run['columns']} columns, {run['rounds']} rounds"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all mixes and write the report."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.planner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--mix", nargs="+", choices=sorted(MIXES), default=list(MIXES))
    parser.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    mixes: dict[str, Any] = {}
    for name in options.mix:
        runs = []
        for seed in range(1, options.seeds + 1):
            run = measure(MIXES[name], options.nodes, options.pods, seed, options.deadline)
            runs.append(run)
            print(_line(name, run), file=sys.stderr, flush=True)
        proved = [run["price_gap_percent"] for run in runs if run["price_gap_percent"] is not None]
        mixes[name] = {
            "worst_gap_percent": max(run["gap_percent"] for run in runs),
            "mean_gap_percent": statistics.fmean(run["gap_percent"] for run in runs),
            "mean_price_gap_percent": statistics.fmean(proved) if proved else None,
            "placed_proved": sum(run["placed"] == run["placed_bound"] for run in runs),
            "slowest_seconds": max(run["seconds"] for run in runs),
            "never_worse_than_greedy": all(
                run["objective"] >= run["greedy_objective"] - 1e-6 for run in runs
            ),
            "runs": runs,
        }
    report = {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "nodes": options.nodes,
        "pods": options.pods,
        "deadline_seconds": options.deadline,
        "seeds": options.seeds,
        "mixes": mixes,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    for name, mix in mixes.items():
        print(
            f"{name:16} worst gap {mix['worst_gap_percent']:.3f} %, placed proved best "
            f"{mix['placed_proved']} of {options.seeds}, slowest {mix['slowest_seconds']:.2f} s"
        )
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
