"""``python -m deploy.demo``: the same arrivals once under the plain kube-scheduler, once with Slicewise.

Builds or finds the control plane's binaries, runs both sides one after the other, prints them side by side
and writes the numbers. Without ``--exit`` the Slicewise side stays up, with the address of its fleet page,
until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.demo.plan import make_plan
from deploy.demo.progress import Progress
from deploy.demo.publishing import Side
from deploy.demo.report import document, table
from deploy.demo.side import SideResult, SideRun
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.processes import ServerFailed
from deploy.local.versions import DEFAULT_KUBERNETES

_INTERRUPTED = 130
_LEAST_WINDOW_SECONDS = 5.0
_MOST_WINDOW_SECONDS = 3600.0


class _Interrupted(Exception):
    """A signal asked to stop; everything is cleaned up on the way out."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo", description="Slicewise beside the plain scheduler"
    )
    parser.add_argument("--exit", action="store_true", help="leave when done, instead of keeping the page up")
    parser.add_argument("--seed", type=int, default=1, help="seed of the arrival times (default: 1)")
    parser.add_argument(
        "--window", type=_window, default=75.0, help="seconds in which pods arrive (default: 75)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/demo.json"), help="where the numbers go")
    parser.add_argument(
        "--only", choices=("plain", "slicewise"), help="run one side and write its raw numbers"
    )
    return parser.parse_args(argv)


def _window(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _LEAST_WINDOW_SECONDS <= seconds <= _MOST_WINDOW_SECONDS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected {_LEAST_WINDOW_SECONDS:.0f} to {_MOST_WINDOW_SECONDS:.0f} seconds"
        )
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0, 1 when a process failed, 2 for a bad flag, 130 after Ctrl-C."""
    options = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return _run(options)
    except _Interrupted:
        print("\nStopped; all processes of the demo have ended.", file=sys.stderr)
        return _INTERRUPTED
    except (ServerFailed, BinaryUnavailable) as problem:
        print(f"\nThe demo could not go on: {problem}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        print(
            f"--output: cannot make the folder {options.output.parent}: {problem.strerror}", file=sys.stderr
        )
        return 2
    ensure([*CONTROL_PLANE, "prometheus"], DEFAULT_KUBERNETES, lambda text: print(text, flush=True))
    plan = make_plan(options.seed, options.window)
    gpus = sum(node.shape.gpus for node in plan.nodes)
    print(
        f"{len(plan.nodes)} nodes, {gpus} GPUs in 3 zones; {len(plan.arrivals)} pods and "
        f"{len(plan.requests)} requests in {plan.window_seconds:.0f} s, the same on both sides.",
        flush=True,
    )
    sides: list[Side] = [options.only] if options.only else ["plain", "slicewise"]
    progress = Progress(sys.stderr, len(sides))
    results: dict[str, SideResult] = {}
    for number, side in enumerate(sides):
        progress.next_part(number)
        with SideRun(side, plan, progress) as run:
            results[side] = run.run()
            if number == len(sides) - 1:
                progress.clear()
                _finish(options, plan, results)
                if not options.exit and run.page_url is not None:
                    _stay(run)
    return 0


def _finish(options: argparse.Namespace, plan: Any, results: dict[str, SideResult]) -> None:
    # One side alone is compared with itself: the same file and table, and no verdict but "level".
    only = next(iter(results.values()))
    found = document(plan, results.get("plain", only), results.get("slicewise", only))
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"\nWritten to {options.output}.", flush=True)


def _stay(run: SideRun) -> None:
    print(
        f"Fleet page: {run.page_url}\nkubectl:    export KUBECONFIG={run.kubeconfig}\nCtrl-C ends it.",
        flush=True,
    )
    threading.Event().wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second Ctrl-C must not break the clean-up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Interrupted


if __name__ == "__main__":
    raise SystemExit(main())
