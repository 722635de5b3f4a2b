"""What it is worth that prices see CPU and memory: ``python -m benchmarks.host_prices``; writes
build/bench/host_prices.json.

A cluster of the openb trace's shape (``benchmarks.openb_fleet``: MIG on demand, whole GPUs, shared replicas)
meets pods of one list one at a time until they have asked for all its GPUs; the product's decider places each
and its prices are solved anew every 400 pods. Twice on the same arrivals: with the tables as they are, and
with those that see GPUs only. In both runs a pod goes only where its CPU and memory fit. Figures: % of the
GPUs left unallocated, and pods that fitted nowhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.openb_fleet import Filler, empty_cluster
from scheduler.packing.prices import PriceTables

OUTPUT = Path("build/bench/host_prices.json")
RESOLVE_EVERY = 400

Json = dict[str, Any]


def blind(tables: PriceTables) -> PriceTables:
    """The same tables, CPU and memory left out."""
    return replace(tables, hosts=None, gradient_cpu=np.zeros(0))


def run(nodes: int, pods: str, seed: int, *, sees_hosts: bool) -> Json:
    """One run."""
    fleet, _, _, inventories, capacity = empty_cluster(nodes)
    see = (lambda tables: tables) if sees_hosts else blind
    filler = Filler(fleet, inventories, np.random.default_rng(seed), pods, see)
    came, failed = filler.arrive(capacity, RESOLVE_EVERY)
    unallocated = 100.0 * (1.0 - filler.used / capacity)
    return {"seed": seed, "unallocated_percent": round(unallocated, 3), "pods": came, "failed": failed}


def main(argv: Sequence[str] | None = None) -> int:
    """Run both sides of every list and seed; write the figures."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--nodes", type=int, default=1213)
    flags.add_argument("--pods", nargs="+", default=["default", "cpu250"], metavar="LIST")
    flags.add_argument("--seeds", type=int, default=3)
    options = flags.parse_args(argv)
    report: Json = {"nodes": options.nodes, "lists": {}}
    for pods in options.pods:
        sides: Json = {}
        for name, sees_hosts in (("gpus_only", False), ("gpus_cpu_memory", True)):
            runs = []
            for seed in range(1, options.seeds + 1):
                runs.append(run(options.nodes, pods, seed, sees_hosts=sees_hosts))
                print(f"{pods}, seed {seed}, {name}: {runs[-1]}", file=sys.stderr, flush=True)
            mean = round(fmean(found["unallocated_percent"] for found in runs), 3)
            sides[name] = {"unallocated_percent": mean, "runs": runs}
        report["lists"][pods] = sides
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {OUTPUT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
