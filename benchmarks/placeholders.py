"""What placeholders are worth: Slicewise with and without them where a new node is most of the start-up.

The same traces and seeds; a start-up of ``--node`` seconds until the node is there and ``--cold`` seconds
until the replica serves. Compared are the default policy, the default policy with up to so many placeholders,
and, since spare room can also be bought as replicas, the default policy with a stricter objective. GPU-hours
of placeholders are counted. Three traces were recorded, three are made by a seed: fivefold steps, bursts, two
rates that change at random (``simulator.autoscaling_loads``). Writes build/bench/placeholders.json. Usage:
python -m benchmarks.placeholders [--seeds 3] [--hours 6] [--node 240] [--cold 60] [--most 4]
[--deviations 3,6]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import simulator
from cluster.warm_policy import Placeholders
from simulator.autoscaling_demand import Demand, demand_of
from simulator.autoscaling_faults import Faults
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_loads import bursts, mmpp, steps
from simulator.autoscaling_policies.slicewise import Slicewise, policy_for
from simulator.autoscaling_run import Outcome, Steered, first_replicas, simulate
from simulator.autoscaling_server import DEFAULT_MODEL, ServerModel, read_server
from simulator.autoscaling_study import FIRST_SEED, bounds_of
from simulator.autoscaling_trace import read_trace
from simulator.placeholder_fleet import PlaceholderFleet, SlicewiseWarm

OUTPUT = Path("build/bench/placeholders.json")
TRACES = Path(simulator.__file__).with_name("data") / "traces"
PLACES: tuple[tuple[str, str | None], ...] = (
    ("azure2023_code", None),
    ("azure2023_conv", None),
    ("servegen_aggregate_10min", "m-large"),
)
MADE = (steps, bursts, mmpp)
OBJECTIVE, STRICTER = 0.99, 0.999


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when it was made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placeholders", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=6.0, help="of the traces that are longer")
    parser.add_argument("--node", type=float, default=240.0, help="seconds until a new node is there")
    parser.add_argument("--cold", type=float, default=60.0, help="seconds from there until a replica serves")
    parser.add_argument("--most", default="4", help="most placeholders at once, each a variant")
    parser.add_argument("--deviations", default="3,6", help="above the forecast, each a variant")
    options = parser.parse_args(arguments)
    variants = [
        Placeholders(most=int(number), deviations=float(above), node_seconds=options.node)
        for number in options.most.split(",")
        for above in options.deviations.split(",")
    ]
    server, began = read_server(DEFAULT_MODEL), time.monotonic()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.placeholders --seeds {options.seeds} --hours {options.hours:g} "
        f"--node {options.node:g} --cold {options.cold:g} --most {options.most} "
        f"--deviations {options.deviations}",
        "node_seconds": options.node,
        "cold_start_seconds": options.cold,
        "traces": {},
    }
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + options.seeds))
    traces = [read_trace(TRACES / f"{name}.csv.gz", model, options.hours) for name, model in PLACES]
    traces += [made(FIRST_SEED, options.hours) for made in MADE]
    for trace in traces:
        demand = demand_of(trace, server, seeds)
        found = study(demand, server, len(seeds), options.node, options.cold, variants)
        result["traces"][demand.name] = found
        print(f"\n{demand.name}, {options.node:g} s for the node and {options.cold:g} s for the start:")
        for variant, row in found.items():
            print(
                f"  {variant:32} {row['slo_attainment']:.4f} in time, {row['gpu_hours']:8.1f} GPU-hours "
                f"({row['placeholder_gpu_hours']:.1f} of placeholders), "
                f"{row['recovery_seconds']:.0f} s longest out of the objective"
            )
    result["seconds"] = round(time.monotonic() - began, 1)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def study(
    demand: Demand,
    server: ServerModel,
    seeds: int,
    node: float,
    cold: float,
    variants: Sequence[Placeholders],
) -> dict[str, dict[str, float]]:
    """Every variant on one demand: means over the seeds."""
    rows, bounds = np.arange(seeds), bounds_of(demand, server)
    startup = np.full(seeds, node + cold)
    first = first_replicas(demand, bounds, node + cold)[rows]
    none = Faults.at_peak((), demand)
    found: dict[str, dict[str, float]] = {}
    for objective in (OBJECTIVE, STRICTER):
        policies = [policy_for(bounds, objective, server.ttft_seconds)] * seeds
        fleet = Fleet(demand, server, rows, startup, first.copy())
        steered = Steered(Slicewise(policies, startup), 0, seeds)
        label = "without" if objective == OBJECTIVE else f"without, objective {objective:g}"
        found[label] = _row(simulate(demand, server, fleet, [steered], none), np.zeros(seeds))
    policies = [policy_for(bounds, OBJECTIVE, server.ttft_seconds)] * seeds
    for asked in variants:
        warm = SlicewiseWarm(policies, startup, asked)
        held = PlaceholderFleet(demand, server, rows, cold, node, first.copy(), warm.wanted, warm.started)
        outcome = simulate(demand, server, held, [Steered(warm, 0, seeds)], none)
        row = _row(outcome, held.held_gpu_seconds / 3600.0)
        row["starts_in_held_room"] = float(held.taken_room.mean())
        found[f"up to {asked.most} placeholders, {asked.deviations:g} deviations"] = row
    return found


def _row(outcome: Outcome, placeholder_hours: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return {
        "slo_attainment": float(outcome.attainment.mean()),
        "gpu_hours": float((outcome.gpu_hours + placeholder_hours).mean()),
        "placeholder_gpu_hours": float(placeholder_hours.mean()),
        "recovery_seconds": float(outcome.recovery_seconds.mean()),
        "reversals_per_hour": float(outcome.reversals_per_hour.mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
