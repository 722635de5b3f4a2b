"""Carbon saved by batch jobs with 24-hour windows, and deadlines kept, on 18 grid zones of 2023.

1,000 jobs a case; every zone with every seed is a case, its four weeks drawn from the year
(``simulator.batch_study``). Compared: starting at once, a threshold, green hours, Slicewise with its own
forecast, and a perfect forecast of intensities and durations; ``--policies`` also knows ``slicewise-told``
(true intensities, own margins). With ``--effort 0`` plans are the best of simple orders, for the perfect
forecast as well; more lets OR-Tools improve them, as the product does. Writes build/bench/batch.json. Usage:
python -m benchmarks.batch [--seeds 5] [--zones ZONE,…] [--jobs 1000] [--gpus 24] [--effort 0] [--processes 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from metrics.carbon.file import TableRefused
from simulator.batch_study import (
    DEFAULT_FILE,
    FIRST_SEED,
    POLICIES,
    BatchAsked,
    Case,
    as_json,
    as_rows,
    check,
    read_zones,
    study,
    totals,
)
from simulator.packing_command import format_table

OUTPUT = Path("build/bench/batch.json")
COMPARED = tuple(name for name in POLICIES if name != "slicewise-told")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every case was run, 2 for flags that cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--zones", default="")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--days", type=float, default=28.0)
    parser.add_argument("--gpus", type=float, default=24.0)
    parser.add_argument(
        "--effort", type=float, default=0.0, help="deterministic seconds of CP-SAT a plan; 0: simple orders"
    )
    parser.add_argument("--policies", default=",".join(COMPARED))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    table = read_zones(DEFAULT_FILE)
    asked = BatchAsked(
        file=str(DEFAULT_FILE),
        zones=tuple(options.zones.split(",")) if options.zones else tuple(table.columns),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + options.seeds)),
        policies=tuple(options.policies.split(",")),
        jobs=options.jobs,
        days=options.days,
        gpus=options.gpus,
        effort=options.effort,
    )
    try:
        check(asked, table)
    except TableRefused as refused:
        print(f"benchmarks.batch: {refused}", file=sys.stderr)
        return 2
    count = len(asked.zones) * len(asked.seeds)
    command = (
        f"python -m benchmarks.batch --seeds {options.seeds} --jobs {options.jobs} --days {options.days:g}"
    )
    command += f" --gpus {options.gpus:g} --effort {options.effort:g}"
    if options.zones:
        command += f" --zones {options.zones}"
    known: list[Case] = []

    def write(cases: Sequence[Case]) -> None:
        """After every case: what was found so far outlives an interruption."""
        document = {
            "command": command,
            "machine": {
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "cpu": platform.machine(),
            },
            "finished_cases": len(cases),
            **as_json(asked, cases),
            "seconds": round(time.monotonic() - began, 1),
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def done(case: Case) -> None:
        known.append(case)
        write(known)
        ours = totals([case]).get("slicewise", {})
        saved, share = _percent(ours.get("saving_ratio")), _percent(ours.get("of_perfect"))
        missed = ours.get("missed_deadlines")
        line = f"{case.zone} seed {case.seed}: saved {saved}, {share} of perfect, {missed} missed"
        passed = time.monotonic() - began
        print(f"[{len(known)}/{count}] {line}; {passed:.0f} s", file=sys.stderr, flush=True)

    cases = study(asked, table, processes=options.processes, done=done)
    write(cases)
    print(format_table(*as_rows(cases)))
    print(f"{options.output}: {time.monotonic() - began:.0f} s")
    return 0


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100.0 * ratio:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
