"""``simulate packing``: replay a pod list on a node list under several policies, beside the bound.

``add_parser`` adds the command to an argparse sub-command set, ``run`` carries it out: the report goes to
stdout, progress to stderr. Lists are CSV in the columns of the openb trace, gzipped or not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from simulator.openb import TraceRefused, read_nodes, read_pods
from simulator.packing_study import FIRST_SEED, study
from simulator.registry import POLICIES
from simulator.report import as_json, as_rows

_BAR = 30


def add_parser(subparsers: Any) -> None:
    """Add ``packing`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "packing",
        help="GPUs left unallocated by placement policies on a pod list, beside the bound",
        description="Let the pods of a list arrive one by one under each policy, as in the FGD paper (openb "
        "protocol), and print the GPUs left unallocated when as many have been asked for as there are.",
    )
    parser.add_argument("--nodes", type=Path, required=True, metavar="CSV", help="node list (.csv, .csv.gz)")
    parser.add_argument("--pods", type=Path, required=True, metavar="CSV", help="pod list (.csv, .csv.gz)")
    parser.add_argument(
        "--policy",
        type=_policies,
        default=("slicewise", "fgd"),
        metavar="NAME,…",
        help=f"policies to compare, of: {', '.join(POLICIES)} (default: slicewise,fgd)",
    )
    parser.add_argument(
        "--seeds", type=_positive, default=3, metavar="N", help="seeds, from 42 on (default: 3)"
    )
    parser.add_argument(
        "--processes",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="runs at a time (default: one a core)",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. 0 done, 1 a list was refused (told on stderr)."""
    try:
        nodes, trace = read_nodes(options.nodes), read_pods(options.pods)
        if not any(node.gpus for node in nodes):
            raise TraceRefused(f"{options.nodes}: no node of the list has a GPU")
    except TraceRefused as refused:
        print(f"simulate packing: {refused}", file=sys.stderr)
        return 1
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + options.seeds))
    progress = Progress(len(seeds) * len(options.policy), sys.stderr)
    found = study(
        nodes,
        trace,
        options.policy,
        seeds,
        processes=min(options.processes, len(seeds) * len(options.policy)),
        done=progress.step,
    )
    progress.end()
    if options.output == "json":
        print(json.dumps(as_json(found), indent=2))
    else:
        print(f"{found.trace}: {len(seeds)} seeds, GPUs left unallocated when 100 % have been asked for")
        print(_table(*as_rows(found)))
    return 0


class Progress:
    """A bar of finished runs on a terminal, nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream, self._finished = total, stream, 0
        self._shown = stream.isatty()

    def step(self, policy: str, seed: int) -> None:
        self._finished += 1
        if self._shown:
            filled = _BAR * self._finished // self._total
            bar = "█" * filled + "·" * (_BAR - filled)
            print(
                f"\r{bar} {self._finished}/{self._total} {policy} seed {seed}\033[K",
                end="",
                file=self._stream,
                flush=True,
            )

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=self._stream, flush=True)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    )


def _policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"got {', '.join(unknown) or 'no name'}, expected any of {', '.join(POLICIES)}"
        )
    return names


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of 1 or more")
    return number
