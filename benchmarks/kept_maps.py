"""What the controller keeps in ConfigMaps, at 1,000 and at 10,000 workloads: how large, how many, how long.

Run from the repository root: ``python -m benchmarks.kept_maps [--workloads 1000 10000]``. On a real API
server (one ConfigMap holds at most 1 MiB there), each as its own writer keeps it: what was learned about
workloads that were learned from for a day, their page with a sentence of usual length, the last runs of as
many families of batch jobs, and a forecast in which each workload has a class of demand of its own. Printed:
ConfigMaps, bytes a workload, and wall seconds with the thread's processor time in brackets: of the write that
makes them all, of one after everything has changed (of what was learned: what has its turn in that minute),
of reading.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoscaler import learned_store, workload_page
from autoscaler.batch import memory as batch_memory
from autoscaler.batch.durations import KEPT_RUNS, Durations
from autoscaler.learned_store import LearnedStore
from autoscaler.targets import Target
from autoscaler.workload_page import Row, WorkloadPage, page_of
from cluster.client import Api
from cluster.kept_map import KeptMap
from cluster.numbered_maps import look
from deploy.local.control_plane import ControlPlane
from scheduler.packing.forecast import FORECAST_CONFIG_MAP, Forecast, read_forecasts, write_forecasts
from tests.autoscaler.full_memory import full_state

ROUNDS = 5
NAMESPACE = "slicewise-system"
SENTENCE = (
    "110 requests in flight, 92.98 to be ready for (74.22 and 18.76 spare for 0.99 in time) at 16 a replica "
    "need 6; 4 are there (4 ready, 0 starting)"
)

Do = Callable[[], object]


@dataclass(frozen=True)
class Kept:
    """``prepared`` gives, for the number of the turn, the write that is timed; ``read`` reads all back."""

    name: str
    prepared: Callable[[int], Do]
    read: Do


def all_kept(api: Api, targets: Sequence[Target], clock: Callable[[], float]) -> list[Kept]:
    """All that grows with the workloads."""
    store, rows = LearnedStore(api, NAMESPACE, clock=clock), list[Row]()
    page = WorkloadPage(api, NAMESPACE, lambda: tuple(rows), active=lambda: True, clock=clock)
    batch = batch_memory.BatchMemory(api, NAMESPACE, clock=clock)
    forecast = KeptMap(api, NAMESPACE, FORECAST_CONFIG_MAP, "forecast")
    store.begin(targets)
    batch.read()

    def learned(turn: int) -> Do:
        states = {one: full_state(seed, 12.0 + turn / 7.0) for seed, one in enumerate(targets)}
        return lambda: store.keep(targets, lambda one: states[one].remembered())

    def shown(turn: int) -> Do:
        rows[:] = [
            Row(one.namespace, one.api_version, one.kind, one.name, 6, 6 + turn, 5, 7, sentence=SENTENCE)
            for one in targets
        ]
        return page.step

    def jobs(turn: int) -> Do:
        runs = {f"{one.namespace}/{one.name}": (3601.5 + turn,) * KEPT_RUNS for one in targets}
        return lambda: batch.keep(batch_memory.Learned(jobs=Durations(runs)))

    def foreseen(turn: int) -> Do:
        classes = {f"whole:1/{number}m/65536Mi": Forecast(3.5 + turn, 1.25) for number in range(len(targets))}
        return lambda: forecast.replace(write_forecasts(classes)[0], {})

    return [
        Kept(
            learned_store.CONFIG_MAP,
            learned,
            lambda: LearnedStore(api, NAMESPACE, clock=clock).begin(targets),
        ),
        Kept(
            workload_page.CONFIG_MAP, shown, lambda: page_of(look(api, NAMESPACE, workload_page.CONFIG_MAP))
        ),
        Kept(batch_memory.CONFIG_MAP, jobs, batch_memory.BatchMemory(api, NAMESPACE).read),
        Kept(FORECAST_CONFIG_MAP, foreseen, lambda: read_forecasts(forecast.read() or {})),
    ]


def timed(do: Do) -> tuple[float, float]:
    """Wall and processor seconds."""
    began, used = time.perf_counter(), time.thread_time()
    do()
    return time.perf_counter() - began, time.thread_time() - used


def measure(api: Api, workloads: int) -> None:
    """Print a line for each of them."""
    now = [0.0]
    targets = [
        Target("apps/v1", "Deployment", f"team-{n % 50:02}", f"model-{n:05}") for n in range(workloads)
    ]
    print(f"\n{workloads} workloads")
    print(
        "ConfigMap                     number  bytes each  bytes a workload  "
        "first write, s  write, s       read, s"
    )
    for kept in all_kept(api, targets, lambda: now[0]):
        times = []
        for turn in range(1 + ROUNDS):
            now[0] += 3600.0
            times.append(timed(kept.prepared(turn)))
        data = look(api, NAMESPACE, kept.name).data
        sizes = [sum(len(text.encode()) for text in one.values()) for one in data.values()]
        reads = [timed(kept.read) for _ in range(ROUNDS)]
        print(
            f"{kept.name:30} {len(sizes):5} {max(sizes):11,} {sum(sizes) / workloads:17.0f}  "
            f"{_seconds(times[:1])}  {_seconds(times[1:])}  {_seconds(reads)}"
        )


def _seconds(times: Sequence[tuple[float, float]]) -> str:
    wall, processor = (statistics.median(values) for values in zip(*times, strict=True))
    return f"{wall:.3f} ({processor:.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    flags = argparse.ArgumentParser(description="What the controller keeps in ConfigMaps at many workloads.")
    flags.add_argument("--workloads", type=int, nargs="+", default=[1000, 10_000])
    for workloads in flags.parse_args(argv).workloads:
        with ControlPlane(with_scheduler=False) as cluster:
            api = Api.connect(str(cluster.kubeconfig_for("slicewise-controller")))
            try:
                measure(api, workloads)
            finally:
                api.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
