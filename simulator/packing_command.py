"""``simulate packing``: replay a pod list on a node list under several policies, beside the bound; or, with
``--from-cluster``, the pods of a real cluster (``simulator.cluster_command``).

``add_parser`` adds the command to an argparse sub-command set, ``run`` carries it out: the report goes to
stdout, progress to stderr. Lists are CSV in the columns of the openb trace, gzipped or not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from simulator import cluster_command, cluster_replay
from simulator.flags import add_run_flags, names_of
from simulator.openb import TraceRefused, read_nodes, read_pods
from simulator.packing_study import FIRST_SEED, study
from simulator.registry import POLICIES
from simulator.report import as_json, as_rows

DEFAULT_POLICIES = ("slicewise", "fgd")
_BAR = 30
_COLUMNS = (
    "Correct it or give another list. A node list has the columns sn, cpu_milli, memory_mib, gpu, model;\n"
    "a pod list name, cpu_milli, memory_mib, num_gpu, gpu_milli and, if pods are bound to models, gpu_spec."
)


def add_parser(subparsers: Any) -> None:
    """Add ``packing`` to what ``ArgumentParser.add_subparsers`` returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "packing",
        help="GPUs left unallocated by placement policies on a pod list, beside the bound",
        description="Let the pods of a list arrive one by one under each policy, as in the FGD paper (openb "
        "protocol), and print the GPUs left unallocated when as many were asked for as there are. With "
        "--from-cluster: let the GPU pods of your own cluster arrive again on its empty nodes, and print "
        "what Slicewise would have done beside what the cluster has.",
    )
    parser.add_argument("--nodes", type=Path, metavar="CSV", help="node list (.csv, .csv.gz)")
    parser.add_argument("--pods", type=Path, metavar="CSV", help="pod list (.csv, .csv.gz)")
    parser.add_argument(
        "--from-cluster", action="store_true", help="the cluster of the kubeconfig, not lists"
    )
    parser.add_argument(
        "--snapshot",
        "--from-snapshot",
        metavar="FILE",
        help="a file of kubectl slicewise snapshot, not lists",
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig to use with --from-cluster")
    parser.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    parser.add_argument(
        "--policy-namespace",
        metavar="NAMESPACE",
        default="slicewise-system",
        help="namespace of ConfigMap slicewise-policy",
    )
    parser.add_argument(
        "--policy",
        type=names_of(dict.fromkeys((*POLICIES, *cluster_replay.POLICIES))),
        metavar="NAME,…",
        help=f"policies to compare, of: {', '.join(POLICIES)} (default: {','.join(DEFAULT_POLICIES)}); of a "
        f"cluster: {', '.join(cluster_replay.POLICIES)} (default: all)",
    )
    add_run_flags(parser, seeds=3)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. 0 done, 1 the cluster said no, 2 wrong usage or a list that cannot be used (told
    on stderr).
    """
    of_cluster = bool(options.from_cluster or options.snapshot)
    mistake = _mistake(options, of_cluster)
    if mistake:
        print(f"simulate packing: {mistake}", file=sys.stderr)
        return 2
    if of_cluster:
        return cluster_command.run(options, _arrivals)
    options.policy = options.policy or DEFAULT_POLICIES
    try:
        nodes, trace = read_nodes(options.nodes), read_pods(options.pods)
        if not any(node.gpus for node in nodes):
            raise TraceRefused(f"{options.nodes}: no node of the list has a GPU")
    except TraceRefused as refused:
        print(f"simulate packing: {refused}\n{_COLUMNS}", file=sys.stderr)
        return 2
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
        print(format_table(*as_rows(found)))
    return 0


def _mistake(options: argparse.Namespace, of_cluster: bool) -> str:
    """What is wrong with the flags together, or an empty text."""
    if options.from_cluster and options.snapshot:
        return "--from-cluster and --snapshot: got both, expected one of them"
    lists = options.nodes is not None, options.pods is not None
    if of_cluster and any(lists):
        return "--nodes and --pods: got a list beside a cluster, expected one or the other"
    if not of_cluster and not all(lists):
        return (
            "--nodes and --pods: got "
            + ("one of them" if any(lists) else "neither")
            + ", expected both, or --from-cluster, or --snapshot FILE"
        )
    known = cluster_replay.POLICIES if of_cluster else tuple(POLICIES)
    unknown = [name for name in options.policy or () if name not in known]
    if unknown:
        return f"--policy: got {', '.join(unknown)}, expected any of {', '.join(known)}"
    return ""


def _arrivals(total: int) -> Callable[[str], None]:
    """A bar of arrivals; redrawn a hundred times at most."""
    bar, every = Progress(total, sys.stderr), max(1, total // 100)
    seen = 0

    def step(policy: str) -> None:
        nonlocal seen
        seen += 1
        bar.step(policy, None, shown=seen % every == 0)
        if seen == total:
            bar.end()

    return step


class Progress:
    """A bar of finished runs on a terminal, nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream, self._finished = total, stream, 0
        self._shown = stream.isatty()

    def step(self, policy: str, seed: int | None, shown: bool = True) -> None:
        self._finished += 1
        if self._shown and shown:
            filled = _BAR * self._finished // self._total
            told = "" if seed is None else f" seed {seed}"
            bar = "█" * filled + "·" * (_BAR - filled)
            print(
                f"\r{bar} {self._finished}/{self._total} {policy}{told}\033[K",
                end="",
                file=self._stream,
                flush=True,
            )

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=self._stream, flush=True)


def format_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    )
