"""``kubectl slicewise tune``: search the values of an autoscaling policy on recorded history.

The history is Prometheus' or a trace file. What is found is judged on the last part of it, which the search
never sees, and printed as a patch of the policy. Nothing is applied.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cluster.autoscaling_policy import AutoscalingPolicy, load_autoscaling_policy
from kubectl_slicewise.policy_files import AUTOSCALING, NotFound, read_policies
from kubectl_slicewise.prometheus_flags import above_zero, add_access, prometheus
from kubectl_slicewise.recorded import cold_start_seconds, recorded
from metrics.samples import NoData
from simulator.autoscaling_server import DEFAULT_MODEL, ServerModel, ServerRefused, read_server
from simulator.autoscaling_trace import Trace, TraceRefused, read_trace
from simulator.flags import positive
from simulator.packing_command import Progress
from simulator.tuning import Setup, split, tune
from simulator.tuning_history import measured_speed, windows_of
from simulator.tuning_report import as_json, as_text

FIRST_SEED = 42


def add_parser(verbs: Any) -> None:
    """Add ``tune`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "tune",
        help="search better values of an autoscaling policy on recorded history (applies nothing)",
        description="Replay recorded requests through the simulator under many values of an autoscaling "
        "policy, judge the best on days that the search did not see, and print what would change and what "
        "it would save. Nothing is applied.",
    )
    parser.add_argument("file", metavar="FILE", help="the AutoscalingPolicy or its ConfigMap; - for stdin")
    history = parser.add_argument_group("history, one of")
    history.add_argument("--trace", type=Path, metavar="FILE", help="a trace, as simulate autoscaling takes")
    history.add_argument("--prometheus-url", metavar="URL", help="Prometheus query API")
    parser.add_argument("--trace-model", metavar="NAME", help="which model of a trace with several")
    parser.add_argument("--hours", type=above_zero, metavar="H", help="only the first hours of the trace")
    parser.add_argument(
        "-n", "--namespace", default="default", help="the workload's namespace (default: default)"
    )
    parser.add_argument("--pods", metavar="REGEX", help="names of its pods (default: TARGET-.+)")
    parser.add_argument("--days", type=above_zero, default=7.0, metavar="N", help="days to read (default: 7)")
    add_access(parser, timeout_seconds=30.0)
    parser.add_argument(
        "--server-model",
        type=Path,
        default=DEFAULT_MODEL,
        metavar="FILE",
        help="serving model, JSON (default: an 8B-class LLM on one A100; with Prometheus at measured speed)",
    )
    parser.add_argument(
        "--startup",
        type=above_zero,
        metavar="S",
        help="start-up time, seconds (default: as recorded, else the policy's)",
    )
    parser.add_argument(
        "--trials", type=positive, default=24, metavar="N", help="policies to try (default: 24)"
    )
    parser.add_argument(
        "--seeds", type=positive, default=2, metavar="N", help="draws of the arrivals (default: 2)"
    )
    parser.add_argument(
        "--held-out", type=_share, default=0.3, metavar="SHARE", help="last share, to judge by (default: 0.3)"
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 a better policy is recommended or the present one confirmed, 1 the history was refused, 2 usage."""
    if importlib.util.find_spec("optuna") is None:
        return _wrong("the search needs optuna, which is not installed; install slicewise[tune]")
    if (options.trace is None) == (options.prometheus_url is None):
        return _wrong("expected either --trace or --prometheus-url")
    policy = _the_policy(options.file)
    try:
        server = read_server(options.server_model)
        if options.trace is not None:
            trace: Trace = read_trace(options.trace, options.trace_model, options.hours)
            startup = options.startup or policy.cold_start_seconds
        else:
            trace, server, startup = _from_prometheus(options, policy, server)
        setup = Setup(
            split(trace, options.held_out),
            with_objective(server, policy, trace),
            max(1.0, startup),
            tuple(range(FIRST_SEED, FIRST_SEED + options.seeds)),
        )
    except (TraceRefused, ServerRefused) as refused:
        print(f"kubectl slicewise tune: {refused}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as problem:
        return _wrong(str(problem))
    progress = Progress(options.trials, sys.stderr)
    found = tune(
        policy,
        setup,
        options.trials,
        seed=FIRST_SEED,
        told=lambda done, cost: progress.step(f"{done} policies, best cost {cost:.3f}", None),
    )
    progress.end()
    if options.output == "json":
        print(json.dumps(as_json(policy, found, setup), indent=2))
    else:
        print(as_text(policy, found, setup))
    return 0


def _the_policy(file: str) -> AutoscalingPolicy:
    """The one autoscaling policy in ``file``. Raises Unreadable, NotFound, PolicyRefused."""
    found = read_policies(file)
    ours = [policy for policy in found if policy.kind == AUTOSCALING] or found
    if len(ours) > 1:
        raise NotFound(
            f"{file}: got {len(ours)} autoscaling policies, expected one; give a file with that alone"
        )
    return load_autoscaling_policy(ours[0].text, file)


def with_objective(server: ServerModel, policy: AutoscalingPolicy, trace: Trace) -> ServerModel:
    """The serving model with the policy's own bound on the first token; a bound on the whole request leaves
    for the first token what the rest of a mean request takes at a full batch.

    Raises TraceRefused where that leaves nothing, or for a bound on the time between tokens, which waiting
    does not change.
    """
    slo = policy.slo
    if slo is None:
        return server
    if slo.measure == "itl":
        raise TraceRefused(
            "slo.measure: got itl, which no number of replicas in this simulation changes; expected ttft or "
            "e2e"
        )
    if slo.measure == "ttft":
        return msgspec.structs.replace(server, ttft_seconds=slo.latency_seconds)
    taken, given = (np.array([values.mean()]) for values in (trace.input_tokens, trace.output_tokens))
    full = server.full_iteration_seconds(server.slope_seconds(taken, given))
    serving = float((server.work(taken, given, full) * full)[0])
    if serving >= slo.latency_seconds:
        raise TraceRefused(
            f"slo.latencySeconds: got {slo.latency_seconds:g} for the whole request, but a mean one takes "
            f"{serving:.3g} s on a full replica of {server.name}; give the server's own --server-model"
        )
    return msgspec.structs.replace(server, ttft_seconds=slo.latency_seconds - serving + float(full[0]))


def _from_prometheus(
    options: argparse.Namespace, policy: AutoscalingPolicy, server: ServerModel
) -> tuple[Trace, ServerModel, float]:
    pods = options.pods or f"{re.escape(policy.target.name)}-.+"
    with prometheus(options) as source:
        until = time.time()
        past = recorded(
            source,
            policy,
            namespace=options.namespace,
            pods=pods,
            until=until,
            days=options.days,
            matchers=options.prometheus_matchers,
        )
        started = cold_start_seconds(
            source, namespace=options.namespace, pods=pods, until=until, days=options.days
        )
    startup = options.startup
    if startup is None:
        startup = policy.cold_start_seconds if isinstance(started, NoData) else started
        if isinstance(started, NoData):
            print(f"note: {started.reason}; taking coldStartSeconds, {startup:g} s", file=sys.stderr)
    measured = measured_speed(server, past)
    if isinstance(measured, NoData):
        print(f"note: {measured.reason}; taking {server.name} as it is", file=sys.stderr)
        measured = server
    return windows_of(f"{options.namespace}/{policy.target.name}", past), measured, startup


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.05 <= share <= 0.9:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a share from 0.05 to 0.9")
    return share


def _wrong(problem: str) -> int:
    print(f"kubectl slicewise tune: {problem}", file=sys.stderr)
    return 2
