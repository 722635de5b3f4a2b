"""The Workload API as far as gangs need it: PodGroup of scheduling.k8s.io/v1alpha2 (Kubernetes 1.36).

Read from k8s.io/api v0.36.3 and seen served by kube-apiserver 1.36.3 with the gate GenericWorkload and
``--runtime-config=scheduling.k8s.io/v1alpha2=true``; both are off by default. A pod points at its group by
``spec.schedulingGroup.podGroupName``. 1.35 had another form (v1alpha1, ``spec.workloadRef``) that 1.36
dropped; it is not read. Types only.
"""

from __future__ import annotations

import msgspec

from dra.resource_api import ObjectMeta

POD_GROUPS = "/apis/scheduling.k8s.io/v1alpha2/podgroups"


class GangPolicy(msgspec.Struct, rename="camel", frozen=True):
    """At least ``min_count`` pods are scheduled at once, or none."""

    min_count: int = 0


class SchedulingPolicy(msgspec.Struct, rename="camel", frozen=True):
    """``gang`` is None for a group whose pods are scheduled one by one (policy "basic")."""

    gang: GangPolicy | None = None


class PodGroupSpec(msgspec.Struct, rename="camel", frozen=True):
    """What is asked for the group."""

    scheduling_policy: SchedulingPolicy = SchedulingPolicy()


class PodGroup(msgspec.Struct, rename="camel", frozen=True):
    """scheduling.k8s.io/v1alpha2 PodGroup."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodGroupSpec = PodGroupSpec()
