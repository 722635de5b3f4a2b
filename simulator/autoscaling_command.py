"""``simulate autoscaling``: a trace of requests under Slicewise, its rivals and two yardsticks.

``add_parser`` adds the command to an argparse sub-command set, ``run`` carries it out: the report goes to
stdout, progress to stderr. One start-up time gives one JSON document, several give a list of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from simulator.autoscaling_faults import FAULTS
from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_report import OBJECTIVE, as_json, as_rows
from simulator.autoscaling_server import DEFAULT_MODEL, ServerRefused, read_server
from simulator.autoscaling_study import FIRST_SEED, Asked, study, targets_of
from simulator.autoscaling_trace import TraceRefused, read_trace
from simulator.flags import names_of, positive
from simulator.packing_command import Progress, format_table

_LONGEST_STARTUP_SECONDS = 3600.0


def add_parser(subparsers: Any) -> None:
    """Add ``autoscaling`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "autoscaling",
        help="GPU-hours against the share of requests in time, by autoscaler, on a trace of requests",
        description="Let the requests of a trace arrive at a simulated model server that each policy scales, "
        "and print what each costs in GPU-hours for how many requests in time. Each policy is run at every "
        "target of its own sweep (the best of them is known only afterwards) and as it ships.",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV, gzipped or not: t_s,input_tokens,output_tokens (a row a request), or "
        "model,t_s,rate_rps,rate_weighted_cv,mean_input_tokens,mean_output_tokens (a row a window)",
    )
    parser.add_argument("--trace-model", metavar="NAME", help="which model of a trace with several")
    parser.add_argument(
        "--server-model",
        type=Path,
        default=DEFAULT_MODEL,
        metavar="FILE",
        help="serving model, JSON (default: an 8B-class LLM on one A100)",
    )
    parser.add_argument(
        "--policy",
        type=names_of(AUTOSCALERS),
        default=tuple(AUTOSCALERS),
        metavar="NAME,…",
        help=f"policies to compare, of: {', '.join(AUTOSCALERS)} (default: all)",
    )
    parser.add_argument(
        "--startup",
        type=_startups,
        default=(30.0, 120.0, 300.0),
        metavar="S,…",
        help="seconds from a new replica to its first answer (default: 30,120,300)",
    )
    parser.add_argument(
        "--seeds", type=positive, default=5, metavar="N", help="seeds, from 42 on (default: 5)"
    )
    parser.add_argument("--hours", type=_hours, metavar="H", help="only the first hours of the trace")
    parser.add_argument(
        "--fault",
        type=names_of(FAULTS),
        default=(),
        metavar="NAME,…",
        help=f"what goes wrong, at the peak or all through, of: {', '.join(FAULTS)}",
    )
    parser.add_argument(
        "--metric-delay",
        type=_delay,
        default=0.0,
        metavar="S",
        help="age of the newest metric that a policy can see, beyond its scrape interval (default: 0)",
    )
    parser.add_argument(
        "--no-sweep", action="store_true", help="every policy as it ships only; no frontier of targets"
    )
    parser.add_argument(
        "--processes", type=positive, default=1, metavar="N", help="start-up times at a time (default: 1)"
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. 0 done, 2 the trace or the serving model was refused (told on stderr)."""
    try:
        asked = Asked(
            trace=read_trace(options.trace, options.trace_model, options.hours),
            server=read_server(options.server_model),
            targets=targets_of(options.policy, sweep=not options.no_sweep),
            seeds=tuple(range(FIRST_SEED, FIRST_SEED + options.seeds)),
            faults=options.fault,
            metric_delay_seconds=options.metric_delay,
        )
    except (TraceRefused, ServerRefused) as refused:
        print(f"simulate autoscaling: {refused}", file=sys.stderr)
        return 2
    progress = Progress(len(options.startup), sys.stderr)
    found = study(
        asked,
        options.startup,
        processes=min(options.processes, len(options.startup)),
        done=lambda startup: progress.step(f"start-up {startup:g} s", None),
    )
    progress.end()
    if options.output == "json":
        documents = [as_json(one) for one in found]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2))
        return 0
    for one in found:
        faults = f", {', '.join(one.faults)}" if one.faults else ""
        print(
            f"{one.trace}: {one.hours:.1f} h, start-up {one.startup_seconds:g} s, {len(one.seeds)} seeds"
            f"{faults}; first token within {asked.server.ttft_seconds:g} s for {100.0 * OBJECTIVE:g} % "
            "of the requests"
        )
        print(format_table(*as_rows(one)))
        print()
    return 0


def _startups(text: str) -> tuple[float, ...]:
    found = tuple(
        dict.fromkeys(
            _between(part, 1.0, _LONGEST_STARTUP_SECONDS) for part in text.split(",") if part.strip()
        )
    )
    if not found:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds, separated by commas")
    return found


def _hours(text: str) -> float:
    return _between(text, 0.05, 24.0 * 366.0)


def _delay(text: str) -> float:
    return _between(text, 0.0, 600.0)


def _between(text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from {least:g} to {most:g}")
    return number
