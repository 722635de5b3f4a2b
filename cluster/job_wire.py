"""Partial wire types of batch/v1 Jobs: only the fields that are read are declared.

Decides nothing. Source: k8s.io/api batch/v1. As in ``cluster.wire``: unknown fields are skipped, times stay
RFC 3339 text.
"""

from __future__ import annotations

from typing import Final

from cluster.wire import ObjectMeta, PodSpec, Wire

JOBS_PATH: Final = "/apis/batch/v1/jobs"
KUEUE_QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
BUILT_IN_CONTROLLER: Final = "kubernetes.io/job-controller"


class PodTemplate(Wire, frozen=True):
    """core/v1 PodTemplateSpec."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class JobSpec(Wire, frozen=True):
    """batch/v1 JobSpec; an absent ``parallelism`` is 1."""

    suspend: bool = False
    parallelism: int | None = None
    completions: int | None = None
    managed_by: str = ""
    template: PodTemplate = PodTemplate()


class JobCondition(Wire, frozen=True):
    """batch/v1 JobCondition; ``status`` is True, False or Unknown as text."""

    type: str = ""
    status: str = ""


class JobStatus(Wire, frozen=True):
    """batch/v1 JobStatus; ``start_time`` is when it was last unsuspended, ``ready`` counts its ready pods."""

    start_time: str | None = None
    completion_time: str | None = None
    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    conditions: tuple[JobCondition, ...] = ()


class Job(Wire, frozen=True):
    """batch/v1 Job."""

    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def ended(self) -> bool:
        """Whether it is complete or failed, or about to be."""
        ends = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
        return any(one.type in ends and one.status == "True" for one in self.status.conditions)

    @property
    def pods_at_once(self) -> int:
        """How many of its pods run at a time at most."""
        parallel = 1 if self.spec.parallelism is None else self.spec.parallelism
        left = None if self.spec.completions is None else self.spec.completions - self.status.succeeded
        return max(0, parallel if left is None else min(parallel, left))
