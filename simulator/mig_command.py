"""``simulate mig``: MIG instances arriving, waiting and leaving under several placement policies.

``add_parser`` adds the command to an argparse sub-command set, ``run`` carries it out: the report goes to
stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from simulator.flags import add_run_flags, names_of, positive
from simulator.mig_arrivals import MEDIAN_SECONDS, SIGMA, parse_mix
from simulator.mig_grid import GRIDS, StudyRefused
from simulator.mig_registry import MIG_POLICIES
from simulator.mig_report import as_json, as_text
from simulator.mig_study import FIRST_SEED, setting, study
from simulator.packing_command import Progress

_MOST_LOAD = 100.0


def add_parser(subparsers: Any) -> None:
    """Add ``mig`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "mig",
        help="waiting, utilisation and stranded capacity of MIG placement policies",
        description="Let MIG jobs arrive (Poisson), run (lognormal, median "
        f"{MEDIAN_SECONDS:.0f} s, sigma {SIGMA}) and leave under each policy, the same jobs for all, as in "
        "MIGBench. Load 1.0 brings as many GPC-seconds as the cards have.",
    )
    parser.add_argument(
        "--model", default="H100-80GB", help="GPU model of the catalogue (default: H100-80GB)"
    )
    parser.add_argument("--nodes", type=positive, default=2, metavar="N", help="nodes (default: 2)")
    parser.add_argument("--gpus", type=positive, default=4, metavar="K", help="GPUs a node (default: 4)")
    parser.add_argument("--jobs", type=positive, default=500, metavar="J", help="jobs (default: 500)")
    parser.add_argument(
        "--mix",
        default="1g:35,2g:25,3g:25,7g:5",
        metavar="PROFILE:WEIGHT,…",
        help="profiles, short or full names, with their weights (default: 1g:35,2g:25,3g:25,7g:5)",
    )
    parser.add_argument("--load", type=_load, default=1.4, help="offered load (default: 1.4)")
    parser.add_argument(
        "--grid",
        choices=GRIDS,
        default="memory",
        help="memory: the hardware's memory units; compute: MIGBench's compute slots (default: memory)",
    )
    parser.add_argument(
        "--policy",
        type=names_of(MIG_POLICIES),
        default=("slicewise", "slicewise-webhook", "hami", "first-fit"),
        metavar="NAME,…",
        help=f"policies to compare, of: {', '.join(MIG_POLICIES)} "
        "(default: slicewise,slicewise-webhook,hami,first-fit)",
    )
    add_run_flags(parser, seeds=5)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. 0 done, 2 the study was refused (told on stderr)."""
    try:
        asked = setting(
            model=options.model,
            nodes=options.nodes,
            gpus=options.gpus,
            jobs=options.jobs,
            mix=parse_mix(options.mix),
            load=options.load,
            grid=options.grid,
        )
        seeds = tuple(range(FIRST_SEED, FIRST_SEED + options.seeds))
        runs = len(seeds) * len(options.policy)
        progress = Progress(runs, sys.stderr)
        found = study(
            asked, options.policy, seeds, processes=min(options.processes, runs), done=progress.step
        )
    except StudyRefused as refused:
        print(f"simulate mig: {refused}", file=sys.stderr)
        return 2
    progress.end()
    if options.output == "json":
        print(json.dumps(as_json(found), indent=2))
        return 0
    mix = ", ".join(f"{n} {w:g}" for n, w in zip(asked.profiles, asked.weights, strict=True))
    print(
        f"{asked.nodes} × {asked.gpus} {asked.model}, {asked.jobs} jobs ({mix}), load {asked.load:g}, "
        f"{asked.grid} grid, {len(seeds)} seeds"
    )
    print(as_text(found))
    return 0


def _load(text: str) -> float:
    try:
        load = float(text)
    except ValueError:
        load = 0.0
    if not 0.0 < load <= _MOST_LOAD:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0, at most {_MOST_LOAD:g}")
    return load
