"""How long one decision and one price update take: ``python -m benchmarks.decision``; writes
build/bench/decision.json.

On clusters of the openb trace's shape (``benchmarks.openb_fleet``: 1,213 nodes, and 5,000), half full and
95 % full:

1. **Decision**: ``slicewise-scheduler --from-snapshot`` pinned to one core is asked filter with all node
   names, then prioritize with the names that filter left if they are several, as kube-scheduler does, for new
   pods of the trace: of ReplicaSets (``decision``: always both) and of Jobs (``one_node``: filter alone).
   Figures: the server's own time of a decision (Server-Timing), the processor time of its thread in it, and
   the processor time of the whole server per decision, what it does after the answer included. Every shape of
   pod has been asked about once before, save in the figure "first sight".
2. **Price update**: reading the fleet and solving all prices anew from the last ones, on one core, after each
   of a series of changes (some pods end, others of the trace come), in seconds of processor time (what other
   processes take of the core is not ours; ``max_elapsed`` has it). ``cold`` is the first, from nothing.

Targets at 1,213 nodes: decision p99 ≤ 1 ms, price update at most 1 s. Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.extender import Asked, percentile, snapshot_server, summary
from benchmarks.judged import judged
from benchmarks.openb_fleet import Filled, filled_cluster, pod
from cluster.policy import ClusterPolicy
from cluster.wire import Pod
from scheduler.conditions import read_conditions
from scheduler.packing.mix import mix_of
from scheduler.packing.prices import PriceTables, solve_prices
from scheduler.snapshot import encode

OUTPUT = Path("build/bench/decision.json")
OPENB_NODES = 1213
DECISION_MILLISECONDS = 1.0
UPDATE_SECONDS = 1.0
_LIMIT_SECONDS = 60.0

Json = dict[str, Any]


def decisions(filled: Filled, requests: int, seed: int) -> Json:
    """Part 1."""
    draw = random.Random(seed)
    names = [name for name in filled.fleet.names if name]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.json.gz"
        path.write_bytes(gzip.compress(encode(filled.snapshot), 1))
        with snapshot_server(path, cores[-1]) as (pid, port, ready_seconds):
            os.sched_setaffinity(0, {cores[0]})
            asked = Asked(port)
            first = [
                _decide(asked, f"first-{i}", spec, names, "ReplicaSet")
                for i, spec in enumerate(filled.shapes)
            ]
            found: Json = {}
            for key, owner in (("decision", "ReplicaSet"), ("one_node", "Job")):
                for number in range(40):
                    _decide(asked, f"{key}-warm-{number}", draw.choice(filled.shapes), names, owner)
                before = _processor_seconds(pid)
                times = [
                    _decide(asked, f"{key}-{number}", draw.choice(filled.shapes), names, owner)
                    for number in range(requests)
                ]
                spent = _processor_seconds(pid) - before
                found[f"{key}_milliseconds"] = summary([took for took, _ in times])
                found[f"{key}_processor_milliseconds"] = summary([spent for _, spent in times])
                found[f"{key}_server_processor_milliseconds"] = round(1e3 * spent / requests, 3)
            os.sched_setaffinity(0, set(cores))
    return {
        "ready_seconds": round(ready_seconds, 2),
        "shapes": len(filled.shapes),
        **found,
        "first_sight_milliseconds": summary([took for took, _ in first]),
    }


def _processor_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far (Linux, /proc)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _decide(asked: Asked, name: str, spec: Json, names: list[str], owner: str) -> tuple[float, float]:
    """Milliseconds in the server for one new pod's decision: elapsed, and of its processor. ``owner``: the
    kind of its controller.
    """
    asking = pod(name, spec)
    asking["metadata"]["ownerReferences"] = [{"kind": owner, "name": "o", "uid": "o", "controller": True}]
    args = {"Pod": asking, "NodeNames": names}
    answer = asked.ask("filter", json.dumps(args).encode(), name)
    passed = answer.get("NodeNames") or []
    verbs = ["filter"]
    if len(passed) > 1:
        asked.ask("prioritize", json.dumps({**args, "NodeNames": passed}).encode(), name)
        verbs.append("prioritize")
    keys = [f"{verb} · {name}" for verb in verbs]
    return sum(asked.server[key][0] for key in keys), sum(asked.processor[key][0] for key in keys)


def updates(filled: Filled, rounds: int, seed: int) -> Json:
    """Part 2."""
    draw = random.Random(seed)
    policy, tables = ClusterPolicy(), None
    seconds, elapsed, unfinished = [], [], 0
    found: PriceTables | None = None
    for _ in range(rounds + 1):
        started, spent = time.perf_counter(), time.process_time()
        conditions = read_conditions(filled.fleet, policy)
        mix = mix_of(
            conditions.observed,
            conditions.prior,
            conditions.summary.models.values(),
            without_gpu=conditions.without_gpu,
        )
        found = solve_prices(
            conditions.summary,
            mix,
            conditions.price_of,
            tables,
            _LIMIT_SECONDS,
            conditions.waiting,
            conditions.arrivals,
        )
        seconds.append(time.process_time() - spent)
        elapsed.append(time.perf_counter() - started)
        unfinished += not found.converged
        tables = found
        _change(filled, draw)
    assert found is not None
    warm = seconds[1:]
    return {
        "rounds": rounds,
        "cold_seconds": round(seconds[0], 3),
        "p50_seconds": round(percentile(warm, 0.5), 3),
        "max_seconds": round(max(warm), 3),
        "max_elapsed_seconds": round(max(elapsed), 3),
        "stopped_early": unfinished,
        "classes": len(found.demand),
        "free_gpus": round(conditions.summary.free_gpus(), 1),
    }


def _change(filled: Filled, draw: random.Random) -> None:
    """A few dozen pods end, and as many have come."""
    for bound, claim in draw.sample(filled.bound, min(40, len(filled.bound))):
        if bound.metadata.uid in filled.fleet.facts.pods:
            filled.fleet.delete_pod(bound.metadata.uid)
            if claim is not None:
                filled.fleet.delete_claim(claim.metadata.namespace, claim.metadata.name)
        else:
            if claim is not None:
                filled.fleet.apply_claim(claim)
            filled.fleet.apply_pod(bound)
    for number in range(20):
        waiting = pod(f"waiting-{number}", draw.choice(filled.shapes))
        filled.fleet.apply_pod(msgspec.convert(waiting, Pod))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number from 0 to 1")
    return share


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both parts on every cluster, write the figures, say what was missed."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--nodes", type=_count, nargs="+", default=[OPENB_NODES, 5000])
    flags.add_argument("--shares", type=_share, nargs="+", default=[0.5, 0.95], help="of the GPUs in use")
    flags.add_argument("--requests", type=_count, default=800, help="decisions of a kind (%(default)s)")
    flags.add_argument("--rounds", type=_count, default=30, help="price updates (%(default)s)")
    flags.add_argument("--seed", type=int, default=1)
    options = flags.parse_args(argv)
    report: Json = {
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]},
        "seed": options.seed,
        "clusters": [],
    }
    missed = []
    for nodes in options.nodes:
        for share in options.shares:
            say(f"{nodes} nodes, {share:.0%} of the GPUs in use: filling")
            filled = filled_cluster(nodes, share, options.seed)
            found: Json = {"nodes": nodes, "used_share": round(filled.used, 4)}
            found |= decisions(filled, options.requests, options.seed)
            for key, what in (("decision", "both verbs"), ("one_node", "filter alone")):
                took, spent = found[f"{key}_milliseconds"], found[f"{key}_processor_milliseconds"]
                whole = found[f"{key}_server_processor_milliseconds"]
                say(
                    f"  {what}: p50 {took['p50']} ms, p99 {took['p99']} ms; processor time p50 "
                    f"{spent['p50']} ms, p99 {spent['p99']} ms; of the whole server {whole} ms a decision"
                )
            found["price_update"] = update = updates(filled, options.rounds, options.seed)
            say(
                f"  price update: cold {update['cold_seconds']} s, p50 {update['p50_seconds']} s, "
                f"max {update['max_seconds']} s"
            )
            report["clusters"].append(found)
            where = f"{nodes} nodes, {share:.0%} in use"
            for key in ("decision", "one_node"):
                p99 = found[f"{key}_milliseconds"]["p99"]
                if nodes == OPENB_NODES and p99 > DECISION_MILLISECONDS:
                    missed.append(f"{where}: {key} p99 {p99} ms, target {DECISION_MILLISECONDS}")
            slowest = max(update["max_seconds"], update["cold_seconds"])
            if nodes == OPENB_NODES and slowest > UPDATE_SECONDS:
                missed.append(f"{where}: price update {slowest} s, target {UPDATE_SECONDS}")
    return judged(OUTPUT, report, missed, say)


if __name__ == "__main__":
    sys.exit(main())
