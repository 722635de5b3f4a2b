"""GPUs left unallocated on the openb lists by Slicewise and the published policies, beside the bound.

Every policy sees the same arrivals of every seed (``simulator.packing_study``). For each list: mean and
spread over seeds at 100 % arrived, the bound, the share of FGD's distance to the bound that Slicewise
closes, the published means of the baselines and how far ours are from them, moves per 100 pods, seconds a
run and the curves of allocation and stranded capacity against arrivals. ``speed``: seconds of a price solve
and of one decision on the whole cluster. Writes build/bench/packing.json.

``--update`` measures the named policies and takes the others, and the bound, from the output of an earlier
run of the same lists and seeds: for a change that leaves the baselines as they were. Usage: python -m
benchmarks.packing [--lists default,…] [--seeds 10] [--first-seed 42] [--policies …] [--processes 1]
[--update]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import simulator
from scheduler.packing.share_prices import SharePrices
from simulator.cluster_state import ClusterState
from simulator.openb import (
    NodeShape,
    PodShape,
    Trace,
    arrivals,
    demand,
    in_run_order,
    read_nodes,
    read_pods,
)
from simulator.packing_command import Progress
from simulator.packing_run import run
from simulator.packing_study import FIRST_SEED, study
from simulator.policies.slicewise import Slicewise
from simulator.registry import POLICIES
from simulator.report import ARRIVED_PERCENT, BASELINE, as_json, closed_percent, curve

DATA = Path(simulator.__file__).parent / "data" / "openb"
OUTPUT = Path("build/bench/packing.json")
_TIME_EVERY = 20
LISTS = (
    "default",
    "gpushare40",
    "gpushare100",
    "multigpu20",
    "multigpu50",
    "gpuspec10",
    "gpuspec33",
    "cpu050",
    "cpu250",
)


def published() -> dict[tuple[str, str], float]:
    """(list, policy) → % unallocated at 100 % arrived, the mean of the authors' ten seeds."""
    with (DATA / "fgd_expected_alloc.csv").open(encoding="utf-8") as stream:
        return {
            (row["workload"], row["policy"].lower()): 100.0 - float(row["alloc_gpu_percent_mean"])
            for row in csv.DictReader(stream)
            if row["arrived_gpu_percent"] == str(ARRIVED_PERCENT)
        }


def as_arrays(allocated: Mapping[int, float]) -> dict[str, list[float]]:
    """A curve as parallel arrays; ``stranded_percent``: GPUs asked for that are free all the same."""
    return {
        "arrived_percent": [float(at) for at in allocated],
        "allocated_percent": [round(value, 3) for value in allocated.values()],
        "stranded_percent": [round(max(0.0, min(at, 100) - value), 3) for at, value in allocated.items()],
    }


class _Timed(Slicewise):
    """Slicewise with a stopwatch on its price solves and, every so often, on a decision over all nodes."""

    def __init__(self, state: ClusterState, trace: Trace) -> None:
        self.solves: list[float] = []
        self.decisions: list[float] = []
        super().__init__(state, trace.target, demand(trace))

    def observe(self, state: ClusterState, shape: PodShape) -> None:
        super().observe(state, shape)
        self._counted = getattr(self, "_counted", 0) + 1
        if self._counted % _TIME_EVERY == 0:
            began = time.perf_counter()
            rows = np.flatnonzero(state.fits(shape, np.arange(state.size), state.allows(shape)))
            if rows.size:
                self.scores(state, shape, rows)[0].argmax()
                self.decisions.append(time.perf_counter() - began)

    def _solved(self, state: ClusterState) -> SharePrices:
        began = time.perf_counter()
        prices = super()._solved(state)
        self.solves.append(time.perf_counter() - began)
        return prices


def speed(nodes: Sequence[NodeShape], name: str) -> dict[str, Any]:
    """Milliseconds of price solves and of decisions with nothing remembered, over one run of a list."""
    trace, ordered = read_pods(DATA / f"openb_pod_list_{name}.csv.gz"), in_run_order(nodes)
    state = ClusterState(ordered)
    policy = _Timed(state, trace)
    order = arrivals(trace, state.capacity_milli, FIRST_SEED)
    run(state, policy, trace.shapes, order, until_percent=ARRIVED_PERCENT + 0.5)
    found: dict[str, Any] = {"nodes": state.size, "list": name}
    for what, seconds in (("price_solve", policy.solves), ("decision", policy.decisions)):
        found[what] = {
            "count": len(seconds),
            "p50_milliseconds": round(1000.0 * float(np.percentile(seconds, 50)), 3),
            "p99_milliseconds": round(1000.0 * float(np.percentile(seconds, 99)), 3),
            "max_milliseconds": round(1000.0 * max(seconds), 3),
        }
    return found


def measure(
    nodes: Sequence[NodeShape],
    name: str,
    policies: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One list as JSON-ready values. ``earlier``: what it was before, for policies that are not named."""
    expected = published()
    trace = read_pods(DATA / f"openb_pod_list_{name}.csv.gz")
    progress = Progress(len(seeds) * len(policies), sys.stderr)
    found = study(
        nodes,
        trace,
        policies,
        seeds,
        processes=processes,
        done=progress.step,
        with_bound=earlier is None,
    )
    progress.end()
    report = as_json(found)
    if earlier is not None:
        report["bound"] = earlier["bound"]
    for policy in policies:
        item = report["policies"][policy]
        runs = found.runs[policy]
        item["seconds_per_run"] = round(sum(run.seconds for run in runs) / len(runs), 2)
        item["curve"] = as_arrays(curve(runs))
        closed = closed_percent(found, policy)
        if closed is not None:
            item["closed_percent_of_fgd_to_bound"] = round(closed, 1)
        if (name, policy) in expected:
            item["published_mean"] = round(expected[name, policy], 3)
            item["from_published"] = round(item["unallocated_percent"]["mean"] - expected[name, policy], 3)
    if earlier is not None:
        report["policies"] = {**earlier["policies"], **report["policies"]}
        for policy in report["policies"]:
            closed = closed_as_reported(report, policy)
            if closed is not None:
                report["policies"][policy]["closed_percent_of_fgd_to_bound"] = round(closed, 1)
    return report


def closed_as_reported(report: Mapping[str, Any], policy: str) -> float | None:
    """``closed_percent`` from the means of a report; None for the baseline and where there is none."""
    if policy == BASELINE or BASELINE not in report["policies"]:
        return None
    start, mean = (report["policies"][name]["unallocated_percent"]["mean"] for name in (BASELINE, policy))
    room = start - report["bound"]["unallocated_percent"]
    return float(100.0 * (start - mean) / room) if room > 0.0 else None


def earlier_lists(output: Path, seeds: Sequence[int], lists: Sequence[str]) -> Mapping[str, Any]:
    """The lists of an earlier output. Raises ValueError where it cannot be added to."""
    try:
        found = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"--update: {output}: {problem}; run once without --update") from None
    if found["seeds"] != list(seeds):
        raise ValueError(f"--update: {output}: got seeds {found['seeds']}, expected {list(seeds)}")
    missing = [name for name in lists if name not in found["lists"]]
    if missing:
        raise ValueError(f"--update: {output}: has no list {', '.join(missing)}; run it without --update")
    result: Mapping[str, Any] = found["lists"]
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every list was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    parser.add_argument("--lists", default=",".join(LISTS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--update", action="store_true", help="keep what the output has of other policies")
    options = parser.parse_args(arguments)
    nodes = read_nodes(DATA / "openb_node_list_gpu_node.csv.gz")
    policies = tuple(options.policies.split(","))
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    names = options.lists.split(",")
    try:
        earlier = earlier_lists(options.output, seeds, names) if options.update else {}
    except ValueError as problem:
        parser.error(str(problem))
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.packing {given}".strip(),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": list(seeds),
        "lists": dict(earlier),
    }
    for name in names:
        report = measure(nodes, name, policies, seeds, options.processes, earlier.get(name))
        result["lists"][name] = report
        cells = [f"bound {report['bound']['unallocated_percent']:.2f}"]
        for policy, item in report["policies"].items():
            left = item["unallocated_percent"]
            off = f" ({item['from_published']:+.2f})" if "from_published" in item else ""
            moved = f" moved {item['moved_percent']:.1f}%" if item["moved_percent"] else ""
            cells.append(
                f"{policy} {left['mean']:.2f}±{left['sd']:.2f}{off}{moved} {item['seconds_per_run']:.1f}s"
            )
        print(f"{name}: " + ", ".join(cells), file=sys.stderr, flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for policy in ("slicewise", "slicewise-repack"):
        closed = [
            item["closed_percent_of_fgd_to_bound"]
            for report in result["lists"].values()
            if "closed_percent_of_fgd_to_bound" in (item := report["policies"].get(policy, {}))
        ]
        if closed:
            mean = round(sum(closed) / len(closed), 1)
            result[f"{policy.replace('-', '_')}_closes_percent_mean"] = mean
            print(f"{policy} closes {mean} % of FGD's distance to the bound")
    if "slicewise" in policies:
        result["speed"] = speed(nodes, names[0])
        print(json.dumps(result["speed"]))
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
