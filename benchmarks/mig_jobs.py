"""What becomes of the pods of a MIG run on the real control plane, and the figures that follow.

``Jobs`` hears every change of a pod from the API server's watch and notes the first time of each step;
``figures`` sums up a run (``benchmarks.mig_on_cluster`` says what is meant by mean scheduling).
"""

from __future__ import annotations

import argparse
import heapq
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cluster.wire import Pod
from simulator.mig_arrivals import Arrivals
from simulator.mig_grid import mig_model

MODEL = "H100-80GB"
STEPS = ("created", "refused", "nominated", "bound")
ATTEMPT = "scheduler_scheduling_attempt_duration_seconds"


@dataclass
class Jobs:
    """Handler of the pods' reflector: what happened to each pod when, and what is to be deleted when.

    ``seconds``: run time of each job; ``clock``: seconds since the start. ``unhindered``: pods for which room
    was free when they came that no waiting pod could have taken.
    """

    seconds: dict[str, float]
    clock: Any
    created: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    nominated: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    profile: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    unhindered: set[str] = field(default_factory=set)
    endings: list[tuple[float, str]] = field(default_factory=list)
    changed_: threading.Condition = field(default_factory=threading.Condition)

    def replaced(self, items: Sequence[Pod]) -> None:
        for pod in items:
            self.changed("ADDED", pod)

    def changed(self, kind: str, item: Pod) -> None:
        name = item.metadata.name
        if kind == "DELETED" or name not in self.seconds:
            return
        with self.changed_:
            now = self.clock()
            if not item.spec.node_name:
                unscheduled = any(
                    c.type == "PodScheduled" and c.status == "False" for c in item.status.conditions
                )
                if unscheduled:
                    self.refused.setdefault(name, now)
                if item.status.nominated_node_name:
                    self.nominated.setdefault(name, now)
            elif name not in self.bound:
                self.bound[name] = now
                heapq.heappush(self.endings, (now + self.seconds[name], name))
                self.changed_.notify_all()

    def waiting(self) -> list[str]:
        """Pods that have been created and are neither bound nor given up, oldest first."""
        with self.changed_:
            return [name for name in self.created if name not in self.bound and name not in self.given_up]


def figures(
    options: argparse.Namespace, arrivals: Arrivals, jobs: Jobs, finished: float, metrics: str
) -> dict[str, Any]:
    """The run's figures. ``finished``: its length in the machine's seconds; ``metrics``: kube-scheduler's."""
    model = mig_model(MODEL)
    slices = [model.profile(name).compute_slices for name in options.profiles]  # type: ignore[union-attr]
    capacity = options.nodes * options.gpus * model.compute_slices
    served = [job for job in range(len(arrivals.at)) if pod_name(job) in jobs.bound]
    work = sum(slices[arrivals.profile[job]] * arrivals.seconds[job] for job in served)
    waits = sorted(
        (jobs.bound[pod_name(job)] - jobs.created[pod_name(job)]) * options.speed for job in served
    )
    at_once = {
        name: (jobs.bound[name] - jobs.created[name]) * 1000.0
        for name in jobs.unhindered
        if name in jobs.bound
    }
    slowest = sorted(at_once, key=lambda name: at_once[name])[-5:]
    total, count = _attempts(metrics)
    times = sorted(at_once.values())
    found: dict[str, Any] = {
        "mean_scheduling_milliseconds": round(fmean(times), 1) if times else None,
        "median_scheduling_milliseconds": round(median(times), 1) if times else None,
        "p95_scheduling_milliseconds": round(times[int(0.95 * (len(times) - 1))], 1) if times else None,
        "unhindered_pods": len(jobs.unhindered),
        "slowest": [_timeline(jobs, name) for name in slowest],
        "scheduler_attempt_mean_milliseconds": round(1000.0 * total / count, 1) if count else None,
        "accepted": len(served),
        "accepted_percent": round(100.0 * len(served) / len(arrivals.at), 2),
        "accepted_by_profile": _accepted(options.profiles, arrivals, served),
        "mean_wait_seconds": round(fmean(waits), 1),
        "p95_wait_seconds": round(waits[min(len(waits) - 1, int(0.95 * len(waits)))], 1),
        "gpc_utilisation_percent": round(100.0 * work / (capacity * finished * options.speed), 2),
        "makespan_seconds": round(finished * options.speed),
        "wall_seconds": round(finished, 1),
    }
    return found


def _accepted(profiles: list[str], arrivals: Arrivals, served: list[int]) -> dict[str, float]:
    """Percent of each profile's jobs that were bound."""
    came, bound = Counter(arrivals.profile), Counter(arrivals.profile[job] for job in served)
    return {name: round(100.0 * bound[p] / came[p], 1) for p, name in enumerate(profiles) if came[p]}


def _timeline(jobs: Jobs, name: str) -> dict[str, Any]:
    """When each step of a pod was seen, milliseconds after its creation."""
    found = {
        step: round(1000.0 * (getattr(jobs, step)[name] - jobs.created[name]))
        for step in STEPS[1:]
        if name in getattr(jobs, step)
    }
    return {"pod": name, "profile": jobs.profile[name], **found}


def _attempts(text: str) -> tuple[float, float]:
    """(seconds, number) of kube-scheduler's attempts that ended in a binding."""
    total = count = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("result") == "scheduled":
                total += sample.value if sample.name == f"{ATTEMPT}_sum" else 0.0
                count += sample.value if sample.name == f"{ATTEMPT}_count" else 0.0
    return total, count


def pod_name(job: int) -> str:
    """The name of a job's pod."""
    return f"job-{job:05d}"
