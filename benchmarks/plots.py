"""Plots of what the benchmarks measured: ``python -m benchmarks.plots`` reads build/bench, writes docs/plots.

- ``openb-allocation.svg``: GPUs allocated against GPUs asked for, one panel a list, every policy, with the
  spread over seeds and the bound at 100 % (packing.json).
- ``openb-unallocated.svg``: GPUs left unallocated at 100 % asked for, by list, beside the bound
  (packing.json).
- ``mig-stranded.svg``, ``mig-waiting.svg``: stranded capacity and mean wait by load and policy (mig.json).
- ``planner-gap.svg``: distance of plans to their bound (planner.json).
- ``autoscaling-*.svg``: requests out of the objective against GPU-hours, one panel a start-up time, every
  policy at every target (autoscaling.json).

A file that is not there leaves its plots as they are, and says so. The same numbers give the same bytes: no
date, no version, fixed ids.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from matplotlib.figure import Figure

from benchmarks.plot_style import save
from benchmarks.plots_autoscaling import frontier
from benchmarks.plots_mig import mig, planner_gap
from benchmarks.plots_openb import allocation, unallocated

BENCH = Path("build/bench")
PLOTS = Path("docs/plots")
Json: TypeAlias = Mapping[str, Any]

SOURCES: Final[Mapping[str, Mapping[str, Callable[[Json], Figure | None]]]] = {
    "packing.json": {"openb-allocation.svg": allocation, "openb-unallocated.svg": unallocated},
    "mig.json": {
        "mig-stranded.svg": mig("stranded_percent", "stranded capacity, %", "Stranded MIG capacity"),
        "mig-waiting.svg": mig("mean_wait_seconds", "mean wait, s", "Waiting for a MIG instance"),
    },
    "planner.json": {"planner-gap.svg": planner_gap},
    "autoscaling.json": {
        f"autoscaling-{name}.svg": frontier(trace, title)
        for name, trace, title in (
            ("code", "azure2023_code", "Azure code"),
            ("conv", "azure2023_conv", "Azure conversation"),
            ("m-large", "servegen_aggregate_10min/m-large", "ServeGen m-large"),
            ("deepseek-r1", "servegen_aggregate_10min/deepseek-r1", "ServeGen deepseek-r1"),
        )
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what there is data for; 1 when there is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("--bench", type=Path, default=BENCH, help="folder of the figures (%(default)s)")
    parser.add_argument("--output", type=Path, default=PLOTS, help="folder of the plots (%(default)s)")
    options = parser.parse_args(arguments)
    drawn = 0
    for source, plots in SOURCES.items():
        path = options.bench / source
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            print(f"{path}: not there; its plots stay as they are (make bench writes it)", file=sys.stderr)
            continue
        except (OSError, ValueError) as problem:
            print(f"{path}: {problem}; expected the JSON that make bench writes", file=sys.stderr)
            return 1
        for name, draw in plots.items():
            figure = draw(found)
            if figure is None:
                print(f"{path}: holds nothing for {name}", file=sys.stderr)
                continue
            size = save(figure, options.output / name)
            drawn += 1
            print(f"{options.output / name}: {size / 1000:.0f} kB", flush=True)
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
