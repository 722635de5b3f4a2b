"""The part of the cluster policy that speaks to node autoscalers. Pure.

Advice is always given; nodes are annotated only while ``mode`` is ``on``.
"""

from __future__ import annotations

from pydantic import Field

from cluster.policy_model import Name, PolicyModel, Positive
from cluster.repack_policy import Mode


class ScaleDown(PolicyModel):
    """Which GPU nodes node autoscalers may take away, and which they are told to keep."""

    mode: Mode = Field(
        default="dry-run",
        description="off, only advise, or annotate nodes that must be kept "
        "(cluster-autoscaler.kubernetes.io/scale-down-disabled, karpenter.sh/do-not-disrupt)",
    )
    interval_seconds: Positive = Field(default=60.0, description="seconds between two looks at the fleet")
    keep_for: tuple[Name, ...] = Field(
        default=(),
        description="demands that some node must always have room for, as in mig:7g.80gb or whole:8; those "
        "that run, wait or are expected count besides",
    )
