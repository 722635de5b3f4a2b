"""GPUs left unallocated on the openb lists by Slicewise and the published policies, beside the bound.

Every policy sees the same arrivals of every seed (``simulator.packing_study``). For each list: mean and
spread over seeds at 100 % arrived, the bound, the share of FGD's distance to the bound that Slicewise
closes, the published means of the baselines and how far ours are from them, seconds a run and the
allocation curves. Writes build/bench/packing.json. Usage: python -m benchmarks.packing [--lists default,…]
[--seeds 10] [--policies …] [--processes 1]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import simulator
from simulator.openb import NodeShape, read_nodes, read_pods
from simulator.packing_study import FIRST_SEED, study
from simulator.registry import POLICIES
from simulator.report import ARRIVED_PERCENT, as_json, closed_percent, curve

DATA = Path(simulator.__file__).parent / "data" / "openb"
OUTPUT = Path("build/bench/packing.json")
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


def measure(
    nodes: Sequence[NodeShape], name: str, policies: Sequence[str], seeds: Sequence[int], processes: int
) -> dict[str, Any]:
    """One list as JSON-ready values."""
    expected = published()
    trace = read_pods(DATA / f"openb_pod_list_{name}.csv.gz")
    found = study(nodes, trace, policies, seeds, processes=processes)
    report = as_json(found)
    for policy in policies:
        item = report["policies"][policy]
        runs = found.runs[policy]
        item["seconds_per_run"] = round(sum(run.seconds for run in runs) / len(runs), 2)
        item["curve"] = {str(at): round(value, 3) for at, value in curve(runs).items()}
        closed = closed_percent(found, policy)
        if closed is not None:
            item["closed_percent_of_fgd_to_bound"] = round(closed, 1)
        if (name, policy) in expected:
            item["published_mean"] = round(expected[name, policy], 3)
            item["from_published"] = round(item["unallocated_percent"]["mean"] - expected[name, policy], 3)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every list was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    parser.add_argument("--lists", default=",".join(LISTS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    nodes = read_nodes(DATA / "openb_node_list_gpu_node.csv.gz")
    policies = tuple(options.policies.split(","))
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + options.seeds))
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.packing --lists {options.lists} --seeds {options.seeds}",
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": list(seeds),
        "lists": {},
    }
    for name in options.lists.split(","):
        report = measure(nodes, name, policies, seeds, options.processes)
        result["lists"][name] = report
        cells = [f"bound {report['bound']['unallocated_percent']:.2f}"]
        for policy, item in report["policies"].items():
            left = item["unallocated_percent"]
            off = f" ({item['from_published']:+.2f})" if "from_published" in item else ""
            cells.append(f"{policy} {left['mean']:.2f}±{left['sd']:.2f}{off} {item['seconds_per_run']:.1f}s")
        print(f"{name}: " + ", ".join(cells), file=sys.stderr, flush=True)
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    closed = [
        report["policies"]["slicewise"]["closed_percent_of_fgd_to_bound"]
        for report in result["lists"].values()
        if "closed_percent_of_fgd_to_bound" in report["policies"].get("slicewise", {})
    ]
    if closed:
        result["slicewise_closes_percent_mean"] = round(sum(closed) / len(closed), 1)
        OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"slicewise closes {result['slicewise_closes_percent_mean']} % of FGD's distance to the bound")
    return 0


if __name__ == "__main__":
    sys.exit(main())
