"""``simulate packing --from-cluster``: the user's own cluster, as it is and as each policy would have it.

    {"cluster", "takenAt", "seeds", "nodes", "gpus",
     "pods": {"replayed", "waiting", "left_in_place": {REASON: count}},
     "now": OUTCOME, "policies": {NAME: OUTCOME}, "nodes_could_be_emptied",
     "bound": {"free_nodes"}, "in_words": [SENTENCE]}
    OUTCOME: {"placed", "gpus_in_use", "free_gpus", "free_nodes", "stranded_gpus", "largest_pod",
              "money_per_hour"}

Numbers of kube-scheduler's rules are means over seeds, since it breaks ties at random; ``largest_pod`` is
that of the first seed. ``run`` is called by ``simulator.packing_command``, which owns the flags.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api_errors import ApiError, NotConfigured
from cluster.client import Api
from cluster.policy import PolicyRefused
from scheduler.snapshot import Snapshot, SnapshotRefused, read_or_take
from simulator.cluster_replay import (
    POLICIES,
    SLICEWISE,
    Cluster,
    Outcome,
    most_free_nodes,
    present,
    read_cluster,
    replay,
)

DEFAULT_POLICIES = POLICIES


class NothingToReplay(Exception):
    """The cluster has no GPU pod, or no GPU; the message says which."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The cluster as it is, and the outcomes of every policy by seed."""

    cluster: Cluster
    now: Outcome
    outcomes: Mapping[str, Sequence[Outcome]]
    seeds: int
    most_free_nodes: int

    @property
    def emptied(self) -> int | None:
        """How many more nodes Slicewise would have left entirely free; None where it was not replayed."""
        runs = self.outcomes.get(SLICEWISE)
        return None if runs is None else max(0, runs[0].usage.free_nodes - self.now.usage.free_nodes)


def run(options: argparse.Namespace, progress: Callable[[int], Callable[[str], None]]) -> int:
    """Carry the command out; ``progress`` takes the number of arrivals and returns what to call after each.
    0 done, 1 the cluster said no, 2 the file or the kubeconfig cannot be used (told on stderr).
    """
    try:
        snapshot, where = _snapshot(options)
        cluster = read_cluster(snapshot, where)
        found = compare(cluster, options.policy or DEFAULT_POLICIES, options.seeds, progress)
    except (ApiError, SnapshotRefused, PolicyRefused, NothingToReplay) as problem:
        print(f"simulate packing: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, NotConfigured | SnapshotRefused) else 1
    if options.output == "json":
        print(json.dumps(as_json(found), indent=2))
    else:
        header, rows = as_rows(found)
        print(_heading(found))
        print()
        print(_table(header, rows))
        print()
        print("\n".join(in_words(found)))
    return 0


def compare(
    cluster: Cluster,
    policies: Sequence[str],
    seeds: int,
    progress: Callable[[int], Callable[[str], None]] = lambda total: lambda policy: None,
) -> Comparison:
    """Replay the cluster under each policy. Raises NothingToReplay."""
    now = present(cluster)
    if not now.usage.nodes:
        raise NothingToReplay(f"{cluster.where}: no node offers a GPU that Slicewise can read")
    if not cluster.arrivals:
        left = f" ({sum(cluster.kept.values())} cannot be replayed)" if cluster.kept else ""
        raise NothingToReplay(f"{cluster.where}: no GPU pod to replay{left}")
    # Slicewise draws no lots: one run is all its runs.
    turns = {policy: 1 if policy == SLICEWISE else seeds for policy in policies}
    step = progress(sum(turns.values()) * len(cluster.arrivals))
    outcomes = {
        policy: [replay(cluster, policy, seed, lambda policy=policy: step(policy)) for seed in range(count)]  # type: ignore[misc]
        for policy, count in turns.items()
    }
    in_use = max(run.usage.in_use for runs in outcomes.values() for run in runs)
    return Comparison(cluster, now, outcomes, seeds, most_free_nodes(cluster, in_use))


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON-ready values."""
    cluster = found.cluster
    return {
        "cluster": cluster.where,
        "takenAt": cluster.taken_at,
        "seeds": found.seeds,
        "nodes": found.now.usage.nodes,
        "gpus": round(found.now.usage.capacity, 3),
        "pods": {
            "replayed": len(cluster.arrivals),
            "waiting": len(cluster.arrivals) - found.now.placed,
            "left_in_place": dict(cluster.kept),
        },
        "now": _outcome([found.now]),
        "policies": {name: _outcome(runs) for name, runs in found.outcomes.items()},
        "nodes_could_be_emptied": found.emptied,
        "bound": {"free_nodes": found.most_free_nodes},
        "in_words": in_words(found),
    }


def as_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table: the cluster as it is, then the policies."""
    header = (
        "",
        "PODS PLACED",
        "GPUS IN USE",
        "FREE GPUS",
        "FREE NODES",
        "STRANDED GPUS",
        "LARGEST POD",
        f"{found.cluster.policy.currency}/HOUR",
    )
    rows: list[tuple[str, ...]] = []
    for name, runs in {"now": [found.now], **found.outcomes}.items():
        shown = _outcome(runs)
        rows.append(
            (
                name,
                f"{shown['placed']:g} of {len(found.cluster.arrivals)}",
                f"{shown['gpus_in_use']:.1f}",
                f"{shown['free_gpus']:.5g}",
                f"{shown['free_nodes']:.4g}",
                f"{shown['stranded_gpus']:.1f}",
                str(shown["largest_pod"]),
                f"{shown['money_per_hour']:.2f}",
            )
        )
    rows.append(("bound", "-", "-", "-", str(found.most_free_nodes), "-", "-", "-"))
    return header, rows


def in_words(found: Comparison) -> list[str]:
    """What the numbers say, in sentences."""
    said = []
    cluster, now = found.cluster, found.now
    if SLICEWISE in found.outcomes:
        ours = found.outcomes[SLICEWISE][0]
        more, emptied = ours.placed - now.placed, found.emptied or 0
        if more > 0:
            said.append(f"Slicewise would have placed {_count(more, 'pod')} more than run now.")
        elif more < 0:
            said.append(f"Slicewise would have placed {_count(-more, 'pod')} fewer than run now.")
        else:
            said.append("Slicewise would have placed as many pods as run now.")
        said.append(
            f"It would have left {_count(ours.usage.free_nodes, 'node')} without GPU pods; now "
            f"{now.usage.free_nodes} {'is' if now.usage.free_nodes == 1 else 'are'}. "
            f"So {_count(emptied, 'node')} could be emptied; no scheduler could have left more than "
            f"{found.most_free_nodes} free."
        )
        said.append(
            f"The GPUs in use would cost {ours.usage.money_per_hour:.2f} {cluster.policy.currency} per hour "
            f"by the policy's prices; now they cost {now.usage.money_per_hour:.2f}. Slicewise weighs this, "
            "carbon and links against free nodes."
        )
        said.append(
            f"The largest pod that would still fit is {ours.usage.largest_pod}; now it is "
            f"{now.usage.largest_pod}."
        )
        said.append(
            f"Free GPU capacity that none of the cluster's pod shapes could use: {ours.usage.stranded:.1f} "
            f"GPUs instead of {now.usage.stranded:.1f}."
        )
    said += [
        f"{_count(number, 'GPU pod')} stayed where it runs in every row, because {reason}."
        for reason, number in sorted(cluster.kept.items())
    ]
    said.append(
        "Replayed in order of creation on empty nodes; pods that have come and gone before are not known, so "
        "this tells what the choice of nodes is worth, not what happened."
    )
    return said


def _heading(found: Comparison) -> str:
    cluster, usage = found.cluster, found.now.usage
    waiting = len(cluster.arrivals) - found.now.placed
    taken = f", taken {cluster.taken_at}" if cluster.taken_at else ""
    return (
        f"{cluster.where}{taken}: {_count(usage.nodes, 'GPU node')}, {usage.capacity:g} GPUs, "
        f"{_count(len(cluster.arrivals), 'GPU pod')}, {waiting} of them waiting"
    )


def _outcome(runs: Sequence[Outcome]) -> dict[str, Any]:
    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 3)

    return {
        "placed": mean([run.placed for run in runs]),
        "gpus_in_use": mean([run.usage.in_use for run in runs]),
        "free_gpus": mean([run.usage.free_gpus for run in runs]),
        "free_nodes": mean([run.usage.free_nodes for run in runs]),
        "stranded_gpus": mean([run.usage.stranded for run in runs]),
        "largest_pod": runs[0].usage.largest_pod,
        "money_per_hour": mean([run.usage.money_per_hour for run in runs]),
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    )


def _snapshot(options: argparse.Namespace) -> tuple[Snapshot, str]:
    return read_or_take(
        options.snapshot,
        lambda: Api.connect(options.kubeconfig, options.context),
        options.policy_namespace,
        time.time(),
    )
