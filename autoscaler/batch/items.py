"""From what the cluster holds to what is scheduled: Jobs and gated pods become ``HeldJob``s.

A Job is one item. Gated pods of one owner are one item too: they start together, and the earliest deadline
counts. How long an item runs is declared or learned (``durations``); where it is neither, the policy's guess
stands and half of the window is kept free. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.batch.capacity import CPU_JOB_WATTS, gpus_of, usable
from autoscaler.batch.durations import Durations
from autoscaler.batch.work import HeldJob, Pool
from cluster.batch_policy import Batch
from cluster.job_wire import Job
from cluster.times import unix_seconds
from cluster.wire import ObjectMeta, Pod
from metrics.samples import NoData
from scheduler.demand import Demand
from scheduler.windows.read import RELEASED_AT, window_of
from scheduler.windows.shelf import HeldObject, held_job, held_pod

DemandOf = Callable[[Pod], Demand | None]
_COUNTED = re.compile(r"-(\d+|[a-z0-9]*\d[a-z0-9]*)$")


@dataclass(frozen=True, slots=True)
class Item:
    """What is released together, and as what it is scheduled."""

    job: HeldJob
    objects: tuple[HeldObject, ...]
    family: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """A released Job that has not ended: what it holds, or waits for, until about ``end_seconds``."""

    pools: frozenset[str] | None
    gpus: float
    end_seconds: float
    runs: bool


@dataclass(frozen=True, slots=True)
class Basis:
    """What Jobs are judged by; ``demand_of`` reads a pod's demand."""

    policy: Batch
    durations: Durations
    pools: Sequence[Pool]
    demand_of: DemandOf


def family_of(metadata: ObjectMeta) -> str:
    """What recurs: the owner, the stem of a generated name, or the name without its last number."""
    owner = next((one for one in metadata.owner_references if one.controller), None)
    if owner is not None and owner.kind == "CronJob":
        stem = owner.name
    elif metadata.generate_name:
        stem = metadata.generate_name.rstrip("-")
    else:
        stem = _COUNTED.sub("", metadata.name) or metadata.name
    return f"{metadata.namespace}/{stem}"


def items_of(
    jobs: Sequence[Job],
    pods: Sequence[Pod],
    basis: Basis,
    *,
    waiting_seconds: float = 0.0,
) -> list[Item]:
    """Everything that is held now. ``waiting_seconds``: how long released jobs wait for GPUs at present."""
    policy, durations = basis.policy, basis.durations
    factor = durations.longest_factor(policy.longest_factor)
    queue = durations.waited(waiting_seconds).queue_seconds(policy.queue_seconds) + policy.period_seconds
    found: list[Item] = []

    def add(key: str, objects: tuple[HeldObject, ...], family: str, pod: Pod, count: int) -> None:
        demand = basis.demand_of(pod)
        window = min((one.window for one in objects), key=lambda one: one.deadline_seconds)
        known = durations.expected_seconds(family, window.expected_seconds)
        if isinstance(known, NoData):
            expected = policy.expected_seconds
            half = (window.deadline_seconds - window.created_seconds) / 2.0
            longest = max(expected * factor, half)
        else:
            expected, longest = known, known * factor
        gpus = count * gpus_of(demand)
        job = HeldJob(
            key=key,
            gpus=gpus,
            deadline_seconds=window.deadline_seconds,
            expected_seconds=expected,
            longest_seconds=longest,
            queue_seconds=queue,
            pools=usable(demand, basis.pools),
            base_watts=0.0 if gpus > 0.0 else count * CPU_JOB_WATTS,
        )
        found.append(Item(job, objects, family))

    for job in jobs:
        held = held_job(job)
        if held is not None:
            add(job.metadata.uid, (held,), family_of(job.metadata), as_pod(job), job.pods_at_once)
    for owner, members in _by_owner(pods).items():
        objects = tuple(one for one in map(held_pod, members) if one is not None)
        if objects:
            add(owner, objects, family_of(members[0].metadata), members[0], len(objects))
    return found


def leaving_of(jobs: Sequence[Job], basis: Basis, now: float) -> list[Leaving]:
    """Released Jobs that still hold, or wait for, GPUs."""
    found = []
    for job in jobs:
        if job.spec.suspend or job.ended or job.metadata.deletion_timestamp is not None:
            continue
        demand = basis.demand_of(as_pod(job))
        gpus = job.pods_at_once * gpus_of(demand)
        if gpus <= 0.0:
            continue
        held = unix_seconds(job.status.start_time) or now
        declared = _declared(job)
        known = basis.durations.expected_seconds(family_of(job.metadata), declared)
        expected = basis.policy.expected_seconds if isinstance(known, NoData) else known
        # What overruns is expected to end soon, and may not: a tenth of its length at a time.
        end = max(held + expected, now + 0.1 * expected)
        found.append(Leaving(usable(demand, basis.pools), gpus, end, bool(job.status.ready)))
    return found


def waiting_since(job: Job) -> float | None:
    """Since when a released Job has waited for its first ready pod; None for one that does not wait."""
    released = unix_seconds(job.metadata.annotations.get(RELEASED_AT))
    if released is None or job.spec.suspend or job.ended or job.status.ready or job.status.succeeded:
        return None
    return released


def as_pod(job: Job) -> Pod:
    """A pod of the Job, as its template would make it."""
    template = job.spec.template
    metadata = ObjectMeta(
        name=job.metadata.name,
        namespace=job.metadata.namespace,
        uid=job.metadata.uid,
        labels=template.metadata.labels,
        annotations=template.metadata.annotations,
    )
    return Pod(metadata=metadata, spec=template.spec)


def _declared(job: Job) -> float | None:
    window = window_of(job.metadata)
    return None if window is None else window.expected_seconds


def _by_owner(pods: Sequence[Pod]) -> Mapping[str, list[Pod]]:
    groups: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=lambda one: one.metadata.name):
        owner = next((one.uid for one in pod.metadata.owner_references if one.controller), None)
        groups.setdefault(owner or pod.metadata.uid, []).append(pod)
    return groups
