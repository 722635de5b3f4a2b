"""Slicewise as it ships on loads that none of its constants was chosen on, beside the best of each rival.

Loads: every family of ``simulator.autoscaling_loads`` with seeds of its own, and later parts of the
recorded ServeGen traces (``PARTS``), which the autoscaling benchmark's first hours do not contain. A case is
a load at one start-up time. The rival of a case is the one that attains what Slicewise did, 99 % at most, for
the fewest GPU-hours, over all rivals and all targets of their sweeps, chosen with hindsight
(``benchmarks.autoscaling``).

The mean ratio is geometric. Its 95 % interval is over loads, not over cases, since the start-up times of one
load are no independent samples. A case in which no rival attains as much at any target has no ratio and is
counted apart. Writes build/bench/held_out.json. Usage:
python -m benchmarks.held_out [--seeds 2] [--hours 6] [--startup 30,120,300] [--processes 1]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.autoscaling import OBJECTIVE, TRACES, YARDSTICKS, verdict
from simulator.autoscaling_loads import FAMILIES, part
from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_report import as_json
from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_study import FIRST_SEED, Asked, study, targets_of
from simulator.autoscaling_trace import Trace, WindowTrace, read_trace
from simulator.paired import difference
from simulator.workers import workers

OUTPUT = Path("build/bench/held_out.json")
RECORDED = "servegen_aggregate_10min"
PARTS: tuple[tuple[str, float], ...] = (
    ("m-large", 24.0),
    ("m-large", 168.0),
    ("m-mid", 24.0),
    ("m-mid", 200.0),
    ("m-small", 24.0),
    ("m-small", 264.0),
    ("deepseek-r1", 18.0),
    ("mm-image", 18.0),
)
"""Model and first hour; the last two have 24 hours in all."""


@dataclass(frozen=True, slots=True)
class Load:
    """A seed of a family, or a part of a recording from ``from_hours`` on (``seed`` draws its arrivals)."""

    family: str
    seed: int
    hours: float
    from_hours: float | None = None

    def trace(self) -> Trace:
        """The load itself."""
        if self.from_hours is None:
            return FAMILIES[self.family](self.seed, self.hours)
        recorded = read_trace(TRACES / f"{RECORDED}.csv.gz", self.family)
        if not isinstance(recorded, WindowTrace):
            raise TypeError(f"{RECORDED}: got a row a request, expected a row a window")
        return part(recorded, self.from_hours, self.hours)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every case was made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="loads of each family; one draw of each part")
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--startup", default="30,120,300")
    parser.add_argument("--processes", type=int, default=1, help="loads at a time")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the families")
    options = parser.parse_args(arguments)
    startups = tuple(float(seconds) for seconds in options.startup.split(","))
    began = time.monotonic()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.held_out --seeds {options.seeds} --hours {options.hours:g} "
        f"--startup {options.startup}"
        + (f" --first-seed {options.first_seed}" if options.first_seed != FIRST_SEED else ""),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": [options.first_seed, options.first_seed + options.seeds - 1],
        "cases": [],
    }
    waiting = loads(options.first_seed, options.seeds, options.hours)
    with workers(options.processes) as pool:
        for found in pool.map(cases_of, waiting, [startups] * len(waiting)):
            result["cases"] += found
            for case in found:
                print(line(case), file=sys.stderr, flush=True)
    result["summary"] = summary(result["cases"])
    result["by_family"] = {
        family: summary([case for case in result["cases"] if case["family"] == family])
        for family in dict.fromkeys(load.family for load in waiting)
    }
    result["seconds"] = round(time.monotonic() - began, 1)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, found in ({"all": result["summary"]} | result["by_family"]).items():
        print(told(name, found))
    print(f"{OUTPUT}: {result['seconds']:.0f} s")
    return 0


def loads(first_seed: int, seeds: int, hours: float) -> list[Load]:
    """What is run: ``seeds`` loads of each family, each recorded part once."""
    made = [
        Load(family, seed, hours) for family in FAMILIES for seed in range(first_seed, first_seed + seeds)
    ]
    return [*made, *(Load(model, first_seed, hours, from_hours) for model, from_hours in PARTS)]


def cases_of(load: Load, startups: Sequence[float]) -> list[dict[str, Any]]:
    """A case for each start-up time."""
    swept = targets_of([name for name in AUTOSCALERS if name != "slicewise"])
    asked = Asked(
        trace=load.trace(),
        server=read_server(DEFAULT_MODEL),
        targets=targets_of(["slicewise"], sweep=False) | swept,
        seeds=(load.seed,),
    )
    return [judged(load.family, as_json(found)) for found in study(asked, startups)]


def judged(family: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """One case: what Slicewise attained and took, and which rival took how much for the same."""
    judgement = verdict(found)
    rivals = {
        name: hours
        for name, hours in judgement["rivals_at_our_attainment"].items()
        if name not in YARDSTICKS and hours is not None
    }
    ours = judgement["slicewise"]
    return {
        "family": family,
        "trace": found["trace"],
        "startup_seconds": found["startup_seconds"],
        "slo_attainment": ours["slo_attainment"],
        "gpu_hours": ours["gpu_hours"],
        "reversals_per_hour": ours["reversals_per_hour"],
        "killed_before_serving": ours["killed_before_serving"],
        "best_rival": min(rivals, key=lambda name: rivals[name]) if rivals else None,
        "over_best_rival": judgement["over_best_rival"],
        "over_clairvoyant": judgement["over_clairvoyant"],
        "objective_reached_by_a_rival": judgement["best_rival_at_objective"] is not None,
    }


def summary(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the cases. ``short_where_a_rival_is_not``: below the objective although some rival reaches
    it at some target, at whatever cost.
    """
    logs: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        if case["over_best_rival"] is not None:
            logs[case["trace"]].append(math.log(case["over_best_rival"]))
    mean = difference([sum(of) / len(of) for of in logs.values()]) if logs else None
    attained = [case["slo_attainment"] for case in cases]
    short = [case for case in cases if case["slo_attainment"] < OBJECTIVE]
    clairvoyant = [case["over_clairvoyant"] for case in cases if case["over_clairvoyant"] is not None]
    return {
        "cases": len(cases),
        "loads": len({case["trace"] for case in cases}),
        "over_best_rival": None if mean is None else math.exp(mean.mean),
        "over_best_rival_interval": None
        if mean is None or mean.ends is None
        else [math.exp(end) for end in mean.ends],
        "dearer_than_best_rival": sum((case["over_best_rival"] or 0.0) > 1.0 for case in cases),
        "no_rival_attains_as_much": sum(case["over_best_rival"] is None for case in cases),
        "share_at_objective": 1.0 - len(short) / len(cases),
        "short_where_a_rival_is_not": sum(case["objective_reached_by_a_rival"] for case in short),
        "mean_attainment": sum(attained) / len(attained),
        "least_attainment": min(attained),
        "over_clairvoyant": math.exp(sum(map(math.log, clairvoyant)) / len(clairvoyant))
        if clairvoyant
        else None,
        "most_reversals_per_hour": max(case["reversals_per_hour"] for case in cases),
        "killed_before_serving": sum(case["killed_before_serving"] for case in cases),
    }


def line(case: Mapping[str, Any]) -> str:
    """One case in words."""
    over = case["over_best_rival"]
    beside = (
        "no rival attains it" if over is None else f"{over:.3f} of the best rival's ({case['best_rival']})"
    )
    return (
        f"{case['trace']} {case['startup_seconds']} s: {100.0 * case['slo_attainment']:.2f} % in time, "
        f"{case['gpu_hours']:.4g} GPU-h, {beside}"
    )


def told(name: str, found: Mapping[str, Any]) -> str:
    """One summary in words."""
    over, ends = found["over_best_rival"], found["over_best_rival_interval"]
    ratio = "no rival attains as much"
    if over is not None:
        between = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
        ratio = f"{over:.3f}{between} of the best rival's GPU-hours"
    return (
        f"{name}: {found['cases']} cases, {ratio}; {100.0 * found['share_at_objective']:.0f} % of the cases "
        f"at {100.0 * OBJECTIVE:g} %, {found['short_where_a_rival_is_not']} short where some rival is not, "
        f"mean {100.0 * found['mean_attainment']:.2f} %, least {100.0 * found['least_attainment']:.2f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
