"""Variants of Slicewise on openb lists, each by one parameter: the table of docs/packing.md.

Every variant and FGD see the same arrivals of every seed, beside the bound. *Closed* is the share of FGD's
distance to the bound that a variant closes, the mean over lists of each list's mean over seeds. A list may
also be two joined by ``+``: pods drawn from both with equal chance, so that a choice can be tried on lists of
the same families that no figure is reported for. Seeds start at 100 by default; the reported runs
(``benchmarks.packing``) start at 42. Writes build/bench/packing_study.json after every list. Usage: python -m
benchmarks.packing_study [--lists multigpu20,gpuspec10+gpuspec33,…] [--seeds 1] [--first-seed 100]
[--variants now,…] [--table]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.packing import DATA
from scheduler.packing.share_prices import Scenario
from simulator.bound import bound
from simulator.cluster_state import ClusterState
from simulator.openb import NodeShape, Trace, arrivals, demand, in_run_order, read_nodes, read_pods, trace_of
from simulator.packing_command import Progress
from simulator.packing_run import run
from simulator.policies.fgd import Fgd
from simulator.policies.slicewise import Slicewise
from simulator.policies.slicewise_repack import SlicewiseRepack
from simulator.policy import Floats, Policy, RandomTies
from simulator.report import ARRIVED_PERCENT

OUTPUT = Path("build/bench/packing_study.json")
LISTS = "default,multigpu20,cpu250,gpushare40+gpushare100,gpuspec10+gpuspec33"
BASELINE = "fgd"
_DRAWN_WITH = 5
_SLACK_PERCENT = 0.5
_NEVER = 10**9
_EXACT_MILLI = 1e-3

Make = Callable[[ClusterState, Trace], Policy]


def _plain(**parameters: Any) -> Make:
    return lambda state, trace: Slicewise(state, trace.target, demand(trace), **parameters)


def _moving(**parameters: Any) -> Make:
    return lambda state, trace: SlicewiseRepack(state, trace.target, demand(trace), **parameters)


class _TiesAtRandom(Slicewise):
    """Slicewise with equals of a level drawn at random, not taken in a fixed order."""

    name = "slicewise-random-ties"

    def __init__(self, state: ClusterState, trace: Trace) -> None:
        super().__init__(state, trace.target, demand(trace))
        self._draw = RandomTies(0)

    def choose(self, scores: Floats, candidates: np.ndarray[Any, np.dtype[np.int64]]) -> int:
        return self._draw(scores, candidates)


def _scenarios(
    volumes: Sequence[float] = (0.85, 1.0, 1.15), cpu: Sequence[float] = (0.8, 0.6)
) -> tuple[Scenario, ...]:
    """Those of ``share_prices.DEFAULT_SCENARIOS`` with one of its choices changed."""
    return tuple(product(volumes, cpu))


VARIANTS: Mapping[str, tuple[str, Make]] = MappingProxyType(
    {
        "now": ("as it stands", _plain()),
        "rooms-unwatched": (
            "prices not solved earlier when rooms for pods of several GPUs shrink",
            _plain(watch_rooms=False),
        ),
        "one-volume": ("demand of 1 time the free GPUs only", _plain(scenarios=_scenarios(volumes=(1.0,)))),
        "all-cpu": ("all CPU taken as usable", _plain(scenarios=_scenarios(cpu=(1.0,)))),
        "never-resolved": ("prices never solved again", _plain(resolve_every=_NEVER, shrink=0.0)),
        "resolve-100": ("prices solved every 100 arrivals", _plain(resolve_every=100)),
        "no-gradient": ("without FGD's term", _plain(gradient_weight=0.0)),
        "gradient-3": ("FGD's term thrice as heavy", _plain(gradient_weight=3.0)),
        "gradient-only": ("FGD's term alone", _plain(dual_weight=0.0)),
        "exact": ("exact costs instead of levels", _plain(level_milli=_EXACT_MILLI)),
        "fine-levels": ("levels a third as wide", _plain(level_milli=1000.0)),
        "random-ties": ("ties within a level at random", lambda state, trace: _TiesAtRandom(state, trace)),
        "moves": ("moves, as they stand", _moving()),
        "moves-early": ("moves from 20 % usable", _moving(usable_part=0.2)),
        "moves-late": ("moves from 5 % usable", _moving(usable_part=0.05)),
        "moves-single": ("at most one move to make room", _moving(most_for_one=1)),
        "moves-large-gain": ("only moves that gain 200 or more", _moving(least_gain_milli=200.0)),
    }
)


def trace_named(name: str) -> Trace:
    """A list of the folder, or two of them drawn together. Raises TraceRefused."""
    parts = [read_pods(DATA / f"openb_pod_list_{part}.csv.gz") for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]
    random = np.random.default_rng(_DRAWN_WITH)
    count = sum(len(part.pods) for part in parts) // len(parts)
    chosen = random.integers(len(parts), size=count).tolist()
    return trace_of(
        name,
        [
            part.shapes[part.pods[int(random.integers(len(part.pods)))]]
            for part in (parts[at] for at in chosen)
        ],
    )


def measure(
    nodes: tuple[NodeShape, ...],
    trace: Trace,
    variants: Sequence[str],
    seeds: Sequence[int],
    done: Callable[[str, int], None],
) -> dict[str, Any]:
    """One list: the bound, FGD and every variant, per seed, as JSON-ready values."""
    capacity = ClusterState(nodes).capacity_milli
    limit = [
        bound(nodes, trace.shapes, arrivals(trace, capacity, seed)).unallocated_percent for seed in seeds
    ]
    left: dict[str, list[float]] = {}
    result: dict[str, Any] = {"bound": [round(value, 3) for value in limit], "variants": {}}
    for name in (BASELINE, *variants):
        left[name] = []
        moved, began = [], time.process_time()
        for seed in seeds:
            state = ClusterState(nodes)
            policy: Policy = Fgd(state, trace.target) if name == BASELINE else VARIANTS[name][1](state, trace)
            order = arrivals(trace, capacity, seed)
            found = run(state, policy, trace.shapes, order, until_percent=ARRIVED_PERCENT + _SLACK_PERCENT)
            left[name].append(found.unallocated_at(ARRIVED_PERCENT))
            moved.append(found.moved_percent)
            done(name, seed)
        room = float(np.mean(left[BASELINE])) - float(np.mean(limit))
        gained = float(np.mean(left[BASELINE])) - float(np.mean(left[name]))
        result["variants"][name] = {
            "unallocated_percent": [round(value, 3) for value in left[name]],
            "closed_percent": round(100.0 * gained / room, 1) if room > 0.0 else None,
            "moved_percent": round(float(np.mean(moved)), 2),
            "processor_seconds_per_run": round((time.process_time() - began) / len(seeds), 1),
        }
    return result


def table(found: Mapping[str, Any]) -> list[str]:
    """The Markdown table of a study."""
    lists = found["lists"]
    lines = ["| variant | closed, mean | " + " | ".join(lists) + " |", "|---|---|" + "---|" * len(lists)]
    for name, text in found["variants"].items():
        cells = [report["variants"].get(name) for report in lists.values()]
        if any(cell is None or cell["closed_percent"] is None for cell in cells):
            continue
        closed = [cell["closed_percent"] for cell in cells]
        moved = [cell["moved_percent"] for cell in cells]
        what = f"{text} ({min(moved):.1f} to {max(moved):.1f} % moved)" if max(moved) else text
        shown = " | ".join(f"{value:.0f}" for value in closed)
        lines.append(f"| {what} | {sum(closed) / len(closed):.1f} | {shown} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; 0 when every list was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="variants:\n" + "\n".join(f"  {name:18} {text}" for name, (text, _) in VARIANTS.items()),
    )
    parser.add_argument("--lists", default=LISTS)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", action="store_true", help="print the table of the output, run nothing")
    options = parser.parse_args(arguments)
    if options.table:
        print("\n".join(table(json.loads(options.output.read_text(encoding="utf-8")))))
        return 0
    variants = tuple(options.variants.split(","))
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        parser.error(f"--variants: got {', '.join(unknown)}; expected some of {', '.join(VARIANTS)}")
    nodes = in_run_order(read_nodes(DATA / "openb_node_list_gpu_node.csv.gz"))
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.packing_study {given}".strip(),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "seeds": list(seeds),
        "variants": {name: VARIANTS[name][0] for name in variants},
        "lists": {},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.lists.split(","):
        progress = Progress(len(seeds) * (len(variants) + 1), sys.stderr)
        result["lists"][name] = measure(nodes, trace_named(name), variants, seeds, progress.step)
        progress.end()
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        closed = {key: item["closed_percent"] for key, item in result["lists"][name]["variants"].items()}
        print(f"{name}: {closed}", file=sys.stderr, flush=True)
    print("\n".join(table(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
