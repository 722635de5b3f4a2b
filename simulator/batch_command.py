"""``simulate batch``: jobs with completion windows on the hourly carbon of grid zones, by policy.

``add_parser`` adds the command to an argparse sub-command set, ``run`` carries it out: the report goes to
stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from metrics.carbon.file import TableRefused
from simulator.batch_study import (
    DEFAULT_FILE,
    FIRST_SEED,
    POLICIES,
    BatchAsked,
    as_json,
    as_rows,
    check,
    read_zones,
    study,
)
from simulator.flags import names_of, positive
from simulator.packing_command import Progress, format_table


def add_parser(subparsers: Any) -> None:
    """Add ``batch`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "batch",
        help="carbon saved and deadlines kept by jobs with completion windows, by policy",
        description="Let batch jobs arrive that only have to be done within a window, and print how much "
        "carbon each policy saves against starting them at once, beside a perfect forecast.",
    )
    parser.add_argument(
        "--carbon",
        type=Path,
        default=DEFAULT_FILE,
        metavar="FILE",
        help="hourly intensities, CSV (time_utc,ZONE,…), gzipped or not (default: 18 zones in 2023)",
    )
    parser.add_argument("--zones", metavar="ZONE,…", help="zones of the file (default: all)")
    parser.add_argument(
        "--policy",
        type=names_of(POLICIES),
        default=POLICIES,
        metavar="NAME,…",
        help=f"policies to compare, of: {', '.join(POLICIES)} (default: all)",
    )
    parser.add_argument("--jobs", type=positive, default=1000, metavar="N", help="jobs (default: 1000)")
    parser.add_argument("--days", type=positive, default=28, metavar="N", help="days (default: 28)")
    parser.add_argument(
        "--window-hours", type=positive, default=24, metavar="N", help="completion window (default: 24)"
    )
    parser.add_argument("--gpus", type=positive, default=24, metavar="N", help="free GPUs (default: 24)")
    parser.add_argument(
        "--effort",
        type=_effort,
        default=0.0,
        metavar="S",
        help="deterministic seconds for CP-SAT in each plan, after relaxation and rounding; 0, the default: "
        "simple orders alone, two or three times as fast and a little dearer",
    )
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="seeds, from 42 on (default: 1)"
    )
    parser.add_argument(
        "--processes", type=positive, default=1, metavar="N", help="cases at a time (default: 1)"
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. 0 done, 2 the file was refused (told on stderr)."""
    try:
        table = read_zones(options.carbon)
        zones = tuple(part.strip() for part in (options.zones or "").split(",") if part.strip())
        asked = BatchAsked(
            file=str(options.carbon),
            zones=zones or tuple(table.columns),
            seeds=tuple(range(FIRST_SEED, FIRST_SEED + options.seeds)),
            policies=options.policy,
            jobs=options.jobs,
            days=float(options.days),
            window_hours=float(options.window_hours),
            gpus=float(options.gpus),
            effort=options.effort,
        )
        check(asked, table)
    except TableRefused as refused:
        print(f"simulate batch: {refused}", file=sys.stderr)
        return 2
    progress = Progress(len(asked.zones) * len(asked.seeds), sys.stderr)
    cases = study(
        asked,
        table,
        processes=options.processes,
        done=lambda case: progress.step(case.zone, case.seed),
    )
    progress.end()
    if options.output == "json":
        print(json.dumps(as_json(asked, cases), indent=2))
        return 0
    print(
        f"{asked.jobs} jobs in {asked.days:g} days with windows of {asked.window_hours:g} h on "
        f"{asked.gpus:g} GPUs, {len(asked.zones)} zones, {len(asked.seeds)} seeds"
    )
    print(format_table(*as_rows(cases)))
    return 0


def _effort(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0.0 <= number <= 60.0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds from 0 to 60")
    return number
