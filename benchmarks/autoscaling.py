"""GPU-hours against requests in time for every autoscaler: Azure code and conv, two models of ServeGen.

Start-ups of 30, 120 and 300 s, every policy at every target of its sweep (``simulator.autoscaling_study``).
Slicewise with its one default policy is then put beside the best target that hindsight finds for each rival:
``verdict``. ``--faults`` adds twelve hours with each fault and with all at once, every policy as it ships.
Writes build/bench/autoscaling.json. Usage:
python -m benchmarks.autoscaling [--seeds 5] [--hours 24] [--startup 30,120,300] [--faults] [--processes 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import simulator
from simulator.autoscaling_faults import FAULTS
from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_report import as_json
from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_study import FIRST_SEED, Asked, Study, studies, targets_of
from simulator.autoscaling_trace import read_trace

OUTPUT = Path("build/bench/autoscaling.json")
TRACES = Path(simulator.__file__).with_name("data") / "traces"
PLACES: tuple[tuple[str, str | None], ...] = (
    ("azure2023_code", None),
    ("azure2023_conv", None),
    ("servegen_aggregate_10min", "m-large"),
    ("servegen_aggregate_10min", "deepseek-r1"),
)
YARDSTICKS = ("static", "clairvoyant")
OBJECTIVE = 0.99
FAULT_HOURS = 12.0
FAULT_STARTUP_SECONDS = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every study was made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscaling", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hours", type=float, default=24.0, help="of the traces that are longer")
    parser.add_argument("--startup", default="30,120,300")
    parser.add_argument("--policies", default=",".join(AUTOSCALERS))
    parser.add_argument("--faults", action="store_true", help="also twelve hours with each fault")
    parser.add_argument("--processes", type=int, default=1, help="studies at a time")
    options = parser.parse_args(arguments)
    startups = tuple(float(seconds) for seconds in options.startup.split(","))
    policies = tuple(options.policies.split(","))
    began = time.monotonic()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.autoscaling --seeds {options.seeds} --hours {options.hours:g} "
        f"--startup {options.startup}" + (" --faults" if options.faults else ""),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": [FIRST_SEED, FIRST_SEED + options.seeds - 1],
        "server_model": json.loads(DEFAULT_MODEL.read_text(encoding="utf-8")),
        "studies": [],
        "verdict": [],
        "faults": [],
    }
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + options.seeds))
    places = [_asked(name, model, options.hours, policies, seeds) for name, model in PLACES]
    batches = [(asked, startup) for asked in places for startup in startups]
    fault_sets = ((), *((fault,) for fault in FAULTS), FAULTS) if options.faults else ()
    under_faults = [(_asked_with(faults, policies, seeds), FAULT_STARTUP_SECONDS) for faults in fault_sets]
    found = studies([*batches, *under_faults], processes=options.processes)
    for one in islice(found, len(batches)):
        result["studies"].append(as_json(one))
        result["verdict"].append(verdict(result["studies"][-1]))
        print(_line(result["verdict"][-1]), file=sys.stderr, flush=True)
        _write(result, began)
    for one in found:
        result["faults"].append(_as_shipped(one))
        _write(result, began)
    if options.faults:
        result["faults_verdict"] = faults_verdict(result["faults"])
        _write(result, began)
    print(f"{OUTPUT}: {time.monotonic() - began:.0f} s")
    return 0


def _asked(
    name: str, model: str | None, hours: float, policies: Sequence[str], seeds: tuple[int, ...]
) -> Asked:
    return Asked(
        trace=read_trace(TRACES / f"{name}.csv.gz", model, hours),
        server=read_server(DEFAULT_MODEL),
        targets=targets_of(policies),
        seeds=seeds,
    )


def _asked_with(faults: tuple[str, ...], policies: Sequence[str], seeds: tuple[int, ...]) -> Asked:
    return Asked(
        trace=read_trace(TRACES / "servegen_aggregate_10min.csv.gz", "deepseek-r1", FAULT_HOURS),
        server=read_server(DEFAULT_MODEL),
        targets=targets_of(policies, sweep=False),
        seeds=seeds,
        faults=faults,
    )


def _as_shipped(found: Study) -> dict[str, Any]:
    document = as_json(found)
    shipped = {name: policy["default"] for name, policy in document["policies"].items()}
    line = ", ".join(f"{name} {one['slo_attainment']:.4f}" for name, one in shipped.items())
    print(f"{', '.join(found.faults) or 'no fault'}: {line}", file=sys.stderr, flush=True)
    return {
        **{key: document[key] for key in ("trace", "startup_seconds", "hours", "faults")},
        "policies": shipped,
    }


def faults_verdict(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Slicewise under each set of faults beside the best rival, as it ships, without any.

    ``runs`` begins with the run without faults. ``rival``: the rival with the highest attainment at whatever
    cost, ``rival_no_dearer``: among those that take no more GPU-hours than Slicewise; None for nobody.
    """
    calm = runs[0]["policies"]
    if "slicewise" not in calm:
        return []
    rivals = {name: one for name, one in calm.items() if name != "slicewise" and name not in YARDSTICKS}
    no_dearer = {
        name: one for name, one in rivals.items() if one["gpu_hours"] <= calm["slicewise"]["gpu_hours"]
    }
    return [
        {
            "faults": run["faults"],
            "slicewise": run["policies"]["slicewise"],
            "rival": _best(rivals),
            "rival_no_dearer": _best(no_dearer),
        }
        for run in runs
    ]


def _best(shipped: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    if not shipped:
        return None
    name = max(shipped, key=lambda one: float(shipped[one]["slo_attainment"]))
    return {"policy": name, **{key: shipped[name][key] for key in ("slo_attainment", "gpu_hours")}}


def verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """Slicewise as it ships beside each rival at its hindsight-best target for the same attainment.

    Each rival is asked for the objective, or for what Slicewise attained if that is less.
    """
    ours = found["policies"].get("slicewise", {}).get("default", {})
    attained = ours.get("slo_attainment", 0.0)
    rivals: dict[str, float | None] = {}
    at_ours: dict[str, float | None] = {}
    for name, policy in found["policies"].items():
        if name == "slicewise":
            continue
        cost = policy["at_slo"][f"{OBJECTIVE:g}"]
        rivals[name] = None if cost is None else cost["gpu_hours"]
        at_ours[name] = _cost(policy["frontier"], min(attained, OBJECTIVE))
    reachable = [cost for name, cost in rivals.items() if name not in YARDSTICKS and cost is not None]
    same = [cost for name, cost in at_ours.items() if name not in YARDSTICKS and cost is not None]
    clairvoyant = at_ours.get("clairvoyant")
    spent = ours.get("gpu_hours")
    return {
        "trace": found["trace"],
        "startup_seconds": found["startup_seconds"],
        "slicewise": {**ours, "at_objective": found["policies"].get("slicewise", {}).get("at_slo")},
        "rivals_at_objective": rivals,
        "rivals_at_our_attainment": at_ours,
        "best_rival_at_objective": min(reachable, default=None),
        "best_rival_at_our_attainment": min(same, default=None),
        "over_clairvoyant": spent / clairvoyant if spent and clairvoyant else None,
        "over_best_rival": spent / min(same) if spent and same else None,
    }


def _cost(frontier: Sequence[Mapping[str, Any]], attainment: float) -> float | None:
    """GPU-hours at ``attainment`` along a frontier, as ``autoscaling_report.cost_at``."""
    costs = [point["gpu_hours"] for point in frontier if point["slo_attainment"] >= attainment]
    for left, right in pairwise(frontier):
        low, high = left["slo_attainment"], right["slo_attainment"]
        if (low >= attainment) != (high >= attainment):
            share = (attainment - low) / (high - low)
            costs.append(left["gpu_hours"] + share * (right["gpu_hours"] - left["gpu_hours"]))
    return min(costs, default=None)


def _line(found: Mapping[str, Any]) -> str:
    ours = found["slicewise"]
    cells = [f"{found['trace']} {found['startup_seconds']} s:"]
    if "gpu_hours" in ours:
        cells.append(
            f"slicewise {ours['slo_attainment']:.4f} {ours['gpu_hours']:.1f} GPU-h "
            f"{ours['reversals_per_hour']:.1f} rev/h;"
        )
    for name, cost in found["rivals_at_objective"].items():
        cells.append(f"{name} {'-' if cost is None else format(cost, '.1f')}")
    for key in ("over_best_rival", "over_clairvoyant"):
        if found[key] is not None:
            cells.append(f"{key} {found[key]:.3f}")
    return " ".join(cells)


def _write(result: dict[str, Any], began: float) -> None:
    result["seconds"] = round(time.monotonic() - began, 1)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
