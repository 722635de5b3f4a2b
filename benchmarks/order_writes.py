"""What it costs and saves to publish an order of MIG devices anew only when a pod would lose enough by it.

One node of ``--gpus`` GPUs without a queue: instances arrive (Poisson, by the mix), the first device in
published order that fits is taken, an instance without room is refused, lifetimes are exponential. After
every change the driver's rule (``dra.node_order.run_holds``) says which slices are written. Compared: every
better device is reason enough, and the rule as it ships (told which profiles are expected). The same arrivals
for both; ``accepted`` in percent of arrivals, the difference with its 95 % interval over seeds, ``writes`` of
slices for 100 arrivals.

Writes build/bench/order_writes.json. Usage: python -m benchmarks.order_writes [--seeds 20] [--jobs 1000]
[--gpus 8] [--load 0.9] [--model H100-80GB]
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.mig import ORDER_MIXES
from dra.catalog import GpuModel
from dra.device_order import OrderTable, order_table
from dra.node_order import UNEXPECTED_WRITE_WORTH, WRITE_WORTH, Run, best_run, run_holds, run_places
from dra.placement import Placement
from scheduler.packing.mig_values import mask_values
from simulator.mig_arrivals import parse_mix
from simulator.mig_grid import mig_model
from simulator.mig_study import FIRST_SEED, setting
from simulator.paired import difference

OUTPUT = Path("build/bench/order_writes.json")
_UNCOUNTED = 100  # arrivals until the node is as full as it will be


@dataclass(slots=True)
class Node:
    """What is published and what is taken. ``bounded``: by the rule as it ships. ``places``: of the runs."""

    table: OrderTable
    masks: dict[int, int]
    bounded: bool
    places: list[tuple[GpuModel, str, tuple[int, ...]]]
    runs: list[Run]
    writes: int = 0

    def take(self, profile: str) -> tuple[int, Placement] | None:
        """The device that first-fit takes; None without room."""
        for run in self.runs:
            if run[0][1].profile == profile:
                for position, placement in run:
                    if not placement.bits & self.masks[position]:
                        self.masks[position] |= placement.bits
                        return position, placement
        return None

    def renew(self) -> None:
        """Publish what no longer holds."""
        for index, place in enumerate(self.places):
            best = best_run(*place, self.masks, self.table)
            if not run_holds(self.runs[index], best, self.masks, self.table if self.bounded else None):
                self.runs[index] = best
                self.writes += 1


def play(
    model: GpuModel, shares: dict[str, float], table: OrderTable, gpus: int, load: float, jobs: int, seed: int
) -> dict[bool, tuple[float, float]]:
    """(accepted percent, writes for 100 arrivals) without and with the bound, over the same arrivals."""
    names, weights = list(shares), list(shares.values())
    sizes = {profile.name: profile.compute_slices for profile in model.profiles}
    mean = sum(sizes[name] * share for name, share in shares.items())
    rate = load * gpus * model.compute_slices / mean
    draws, now, arrivals = Random(seed), 0.0, []
    for _ in range(_UNCOUNTED + jobs):
        now += draws.expovariate(rate)
        arrivals.append((now, draws.choices(names, weights)[0], draws.expovariate(1.0)))
    found, places = {}, list(run_places(dict.fromkeys(range(gpus), model)))
    for bounded in (False, True):
        masks = dict.fromkeys(range(gpus), 0)
        node = Node(table, masks, bounded, places, [best_run(*place, masks, table) for place in places])
        ends: list[tuple[float, int, int]] = []
        accepted = 0
        for number, (at, profile, lasts) in enumerate(arrivals):
            while ends and ends[0][0] <= at:
                _, position, bits = heapq.heappop(ends)
                node.masks[position] &= ~bits
                node.renew()
            if number == _UNCOUNTED:
                accepted = node.writes = 0
            taken = node.take(profile)
            if taken is not None:
                heapq.heappush(ends, (at + lasts, taken[0], taken[1].bits))
                accepted += 1
                node.renew()
        found[bounded] = 100.0 * accepted / jobs, 100.0 * node.writes / jobs
    return found


def measure(model_name: str, mix: str, gpus: int, load: float, jobs: int, seeds: int) -> dict[str, Any]:
    """One mix."""
    asked = setting(
        model=model_name, nodes=1, gpus=gpus, jobs=jobs, mix=parse_mix(mix), load=load, grid="memory"
    )
    total = sum(asked.weights)
    shares = {name: weight / total for name, weight in zip(asked.profiles, asked.weights, strict=True)}
    model = mig_model(asked.model)
    worth = mask_values(model, {name: 1000.0 * share for name, share in shares.items()})
    table = order_table(worth.tolist(), shares)
    runs = [play(model, shares, table, gpus, load, jobs, FIRST_SEED + number) for number in range(seeds)]
    every, bounded = ([run[kind] for run in runs] for kind in (False, True))
    gained = difference([a - b for (a, _), (b, _) in zip(bounded, every, strict=True)])
    return {
        "mix": mix,
        "accepted_percent": {"always": fmean(a for a, _ in every), "bounded": fmean(a for a, _ in bounded)},
        "accepted_difference": {"mean": gained.mean, "ci95": gained.ends},
        "writes_per_100": {"always": fmean(w for _, w in every), "bounded": fmean(w for _, w in bounded)},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and write the report."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.order_writes")
    flags.add_argument("--seeds", type=int, default=20)
    flags.add_argument("--jobs", type=int, default=1000)
    flags.add_argument("--gpus", type=int, default=8)
    flags.add_argument("--load", type=float, default=0.9)
    flags.add_argument("--model", default="H100-80GB")
    options = flags.parse_args(argv)
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.order_writes --seeds {options.seeds} --jobs {options.jobs} "
        f"--gpus {options.gpus} --load {options.load:g} --model {options.model}",
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": [FIRST_SEED, FIRST_SEED + options.seeds - 1],
        "bound_percent_of_an_empty_gpu": {
            "expected": WRITE_WORTH / 10_000,
            "unexpected": UNEXPECTED_WRITE_WORTH / 10_000,
        },
        "mixes": [],
    }
    for mix in ORDER_MIXES:
        found = measure(options.model, mix, options.gpus, options.load, options.jobs, options.seeds)
        report["mixes"].append(found)
        print(json.dumps(found), file=sys.stderr, flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
