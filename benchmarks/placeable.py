"""How long it takes to tell 1,000 workloads at once how many replicas they can have, on 5,000 nodes.

Run from the repository root: ``python -m benchmarks.placeable [--nodes 5000] [--workloads 1000]``.
Every workload has two replicas without a node and wants four more: the worst round there is, since usually
few want to grow at once. Demands repeat over ``--demands`` shapes. Printed: the first round after all demands
are new to the decider, and the rounds after it; processor time of the thread, fleets as in
``benchmarks.decider_profile``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import numpy as np

from autoscaler.free_room import FreeRoom, Kept
from autoscaler.placeable import Ask, ReplicaShape, hand_out
from autoscaler.targets import Target
from benchmarks.decider_profile import dra_fleet, plugin_fleet, tables_for
from cluster.policy import ClusterPolicy
from metrics.carbon.intensity import Intensity
from scheduler.decider import Decider
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.planner.admission import Constraints


def shapes(count: int, mig: bool) -> list[ReplicaShape]:
    """Different demands: GPUs or MIG instances by size, images."""
    kinds = (
        [GpuRequest("mig", name, 1) for name in ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")]
        if mig
        else [GpuRequest("whole", None, gpus) for gpus in (1, 1, 2, 4)]
    )
    anywhere = Constraints((), None, (), False)
    return [
        ReplicaShape(Demand((kinds[index % len(kinds)],), image=f"registry.example/app-{index}:v1"), anywhere)
        for index in range(count)
    ]


def measure(name: str, fleet: Fleet, mig: bool, flags: argparse.Namespace) -> None:
    """Print the times of one fleet."""
    policy = ClusterPolicy()
    tables = tables_for(fleet, policy)
    carbon = {
        zone: Intensity(zone, 100.0, "average", 0.0, 1e12, "test", False) for zone in fleet.zones_in_use()
    }
    decider = Decider(fleet, lambda: policy, lambda: tables, lambda: carbon, time.time)
    decider.world()
    kinds = shapes(flags.demands, mig)
    rng = random.Random(flags.seed)
    asks = [
        Ask(Target("apps/v1", "Deployment", "n", f"w{i}"), rng.choice(kinds), placed=3, waiting=2, wanted=9)
        for i in range(flags.workloads)
    ]
    everywhere = np.ones(fleet.size, dtype=np.bool_)
    times: list[float] = []
    kept: Kept = {}
    for _ in range(flags.rounds + 1):
        began = time.thread_time()
        with fleet.lock:
            answers = hand_out(asks, FreeRoom(decider, lambda _: everywhere, kept)).answers
        times.append(time.thread_time() - began)
    given = sum(answer - 3 for answer in answers.values() if isinstance(answer, int))
    print(
        f"{name}: {flags.nodes} nodes, {flags.workloads} workloads, {flags.demands} demands: "
        f"{given} of {6 * flags.workloads} copies placed; first round {times[0]:.3f} s, "
        f"then {statistics.median(times[1:]):.3f} s (median of {flags.rounds})"
    )


def main() -> None:
    """Measure both kinds of fleet."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    flags.add_argument("--nodes", type=int, default=5000)
    flags.add_argument("--workloads", type=int, default=1000)
    flags.add_argument("--demands", type=int, default=40)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--seed", type=int, default=1)
    chosen = flags.parse_args()
    plugin = plugin_fleet(chosen.nodes, chosen.nodes * 6, random.Random(chosen.seed))
    measure("device plugin", plugin, False, chosen)
    measure("MIG on demand", dra_fleet(chosen.nodes, True), True, chosen)


if __name__ == "__main__":
    main()
