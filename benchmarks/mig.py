"""Waiting, utilisation and stranded capacity of MIG placement policies: MIGBench's protocol, paired seeds.

2 nodes × 4 H100-80GB, 500 jobs, profiles 1g, 2g, 3g, 7g at 35 : 25 : 25 : 5, offered load 0.9, 1.0 and 1.4,
on both grids (``simulator.mig_grid``), the same arrivals for every policy (``simulator.mig_study``). Then the
same in other places: models, mixes and numbers of cards. Last the order in which a driver publishes devices,
without a queue: who is accepted when placements come lowest start first, highest start first and as the
controller says (``slicewise-installed``; ``slicewise-gpu-slices`` with one slice a GPU), the extender the
same, for three mixes on two nodes of 4 GPUs and one of 8. Writes build/bench/mig.json. Usage:
python -m benchmarks.mig [--loads 0.9,1.0,1.4] [--seeds 20] [--policies …] [--elsewhere 10] [--orders 20]
[--processes 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.mig_arrivals import parse_mix
from simulator.mig_grid import GRIDS, Grid
from simulator.mig_registry import MIG_POLICIES, policies_for
from simulator.mig_report import as_json
from simulator.mig_study import FIRST_SEED, setting, study

OUTPUT = Path("build/bench/mig.json")
MIX = "1g:35,2g:25,3g:25,7g:5"
LOADS = (0.9, 1.0, 1.4)

ELSEWHERE: tuple[tuple[str, int, int, str], ...] = (
    ("H100-80GB", 1, 4, MIX),
    ("H100-80GB", 8, 4, MIX),
    ("H100-80GB", 2, 4, "1g:60,2g:20,3g:15,7g:5"),
    ("H100-80GB", 2, 4, "1g:20,2g:20,3g:30,4g:20,7g:10"),
    ("A100-80GB", 2, 4, "1g.10gb:35,1g.20gb:10,2g:25,3g:15,4g:10,7g:5"),
    ("A100-40GB", 4, 4, "2g:40,3g:40,7g:20"),
    ("A30-24GB", 4, 4, "1g:50,2g:35,4g:15"),
)
"""(model, nodes, GPUs a node, mix) of the runs that nothing was tuned on."""
ORDERS = ("slicewise-installed", "slicewise-gpu-slices", "driver-ascending", "driver-descending")
ORDER_MIXES = (MIX, "1g:30,2g:20,3g:15,4g:25,7g:10", "1g:60,2g:20,3g:15,7g:5")
ORDER_SIZES = ((2, 4), (1, 8))  # (nodes, GPUs a node)
ORDER_LOAD = 0.9
ELSEWHERE_POLICIES = ("slicewise", "slicewise-webhook", "hami", "first-fit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every study was made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mig", description=__doc__)
    parser.add_argument("--loads", default=",".join(str(load) for load in LOADS))
    parser.add_argument("--policies", default=",".join(MIG_POLICIES))
    parser.add_argument("--seeds", type=int, default=20, help="0 leaves that part out")
    parser.add_argument("--elsewhere", type=int, default=10, metavar="SEEDS", help="0 leaves that part out")
    parser.add_argument("--orders", type=int, default=20, metavar="SEEDS", help="0 leaves that part out")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    loads = [float(load) for load in options.loads.split(",")]
    began = time.monotonic()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.mig --loads {options.loads} --seeds {options.seeds} "
        f"--elsewhere {options.elsewhere} --orders {options.orders}",
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": [FIRST_SEED, FIRST_SEED + options.seeds - 1],
        "studies": [],
        "elsewhere": [],
        "orders": [],
    }
    policies = tuple(options.policies.split(","))
    for grid in GRIDS if options.seeds else ():
        for load in loads:
            place = ("H100-80GB", 2, 4, MIX)
            fit = policies_for(policies, grid)
            found = _study(place, grid, load, fit, options.seeds, options.processes)
            result["studies"].append(found)
            _write(result, began)
    for place in ELSEWHERE if options.elsewhere else ():
        for grid in GRIDS:
            for load in loads:
                found = _study(place, grid, load, ELSEWHERE_POLICIES, options.elsewhere, options.processes)
                result["elsewhere"].append(found)
                _write(result, began)
    for mix in ORDER_MIXES if options.orders else ():
        for size in ORDER_SIZES:
            place = ("H100-80GB", *size, mix)
            found = _study(
                place, "memory", ORDER_LOAD, ORDERS, options.orders, options.processes, refusing=True
            )
            result["orders"].append({**found, "nodes": size[0]})
            _write(result, began)
    print(f"{OUTPUT}: {time.monotonic() - began:.0f} s")
    return 0


def _study(
    place: tuple[str, int, int, str],
    grid: Grid,
    load: float,
    policies: Sequence[str],
    seeds: int,
    processes: int,
    *,
    refusing: bool = False,
) -> dict[str, Any]:
    model, nodes, gpus, mix = place
    began = time.monotonic()
    asked = setting(model=model, nodes=nodes, gpus=gpus, jobs=500, mix=parse_mix(mix), load=load, grid=grid)
    asked = replace(asked, refusing=refusing)
    report = as_json(study(asked, policies, range(FIRST_SEED, FIRST_SEED + seeds), processes=processes))
    report["seconds"] = round(time.monotonic() - began, 1)
    cells = [f"{model} {nodes}×{gpus} {mix} {grid} {load:g}:"]
    shown = "accepted_percent" if refusing else "mean_wait_seconds"
    for name, item in report["policies"].items():
        cells.append(f"{name} {item[shown]['mean']:.{2 if refusing else 0}f}")
    for name, item in report["paired"].items():
        if name.endswith(("-vs-hami", "-vs-first-fit")):
            ends = item["mean_wait_seconds"]["ci95"]
            cells.append(f"{name} {item['mean_wait_seconds']['mean']:+.0f} {ends}")
    print(" ".join(cells), file=sys.stderr, flush=True)
    return report


def _write(result: dict[str, Any], began: float) -> None:
    result["seconds"] = round(time.monotonic() - began, 1)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
