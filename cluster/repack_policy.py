"""The part of the cluster policy that moves running pods and re-cuts idle GPUs. Pure.

Both are off the request path, done by the leading controller, and only proposed until ``mode`` is ``on``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cluster.policy_model import AtLeastOne, Count, Flag, Name, NonNegative, PolicyModel, Positive, Share


def _worded(value: object) -> object:
    """A template engine that reads YAML 1.1 turns bare on and off into true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Mode = Annotated[Literal["off", "dry-run", "on"], BeforeValidator(_worded)]


class Repack(PolicyModel):
    """Moving running pods so that waiting ones fit, or where it saves money."""

    mode: Mode = Field(default="dry-run", description="off, only say what would be moved, or move")
    interval_seconds: Positive = Field(default=60.0, description="seconds between two looks at the fleet")
    waiting_seconds: NonNegative = Field(
        default=15.0, description="seconds that a pod has waited before others are moved for it"
    )
    max_evictions_per_hour: Count = Field(default=30, description="evictions in any hour at most")
    max_concurrent: AtLeastOne = Field(default=4, description="moves under way at once")
    horizon_hours: Positive = Field(default=4.0, description="hours within which a move must pay back")
    eviction_cost: NonNegative = Field(
        default=0.25, description="money that an eviction costs besides the GPU time of its cold start"
    )
    min_pod_age_seconds: NonNegative = Field(
        default=600.0, description="seconds that a pod has run before it may be moved"
    )
    savings: Flag = Field(
        default=True, description="whether pods are moved only because they run cheaper elsewhere"
    )
    settle_seconds: Positive = Field(
        default=180.0, description="seconds in which an evicted pod's successor must have a node"
    )
    preempt_claims: Flag = Field(
        default=False,
        description="whether pods of lower priority are evicted, without a new place, for a waiting pod that "
        "asks by resource claim, which kube-scheduler does not preempt for",
    )


class MigConfig(PolicyModel):
    """A named configuration of NVIDIA's MIG manager and what it makes of one GPU."""

    name: Name = Field(description="value of the node label nvidia.com/mig.config")
    model: Name | None = Field(default=None, description="GPU model it is for; null: any with the profiles")
    devices: dict[Name, Annotated[int, Field(strict=True, ge=1, le=64)]] = Field(
        default_factory=dict,
        description="MIG instances by profile on every GPU; empty: MIG off, whole GPUs",
    )


class MigGeometry(PolicyModel):
    """Re-cutting idle nodes of the device plugin through NVIDIA's MIG manager."""

    mode: Mode = Field(default="dry-run", description="off, only say what would be re-cut, or re-cut")
    interval_seconds: Positive = Field(default=60.0, description="seconds between two looks at the fleet")
    configs: tuple[MigConfig, ...] = Field(
        default=(),
        description="configurations to choose from; empty: those that mig-parted ships, by model",
    )
    node_selector: dict[Name, str] = Field(
        default_factory=dict, description="labels of the nodes that may be re-cut; empty: all with MIG labels"
    )
    max_recuts_per_hour: Count = Field(default=6, description="nodes re-cut in any hour at most")
    max_concurrent: AtLeastOne = Field(default=1, description="nodes being re-cut at once")
    idle_seconds: NonNegative = Field(default=300.0, description="seconds that a node has been idle before")
    min_hold_seconds: NonNegative = Field(
        default=1800.0, description="seconds a node keeps a configuration before it is re-cut again"
    )
    min_gain: Share = Field(default=0.2, description="share of a node's value that a re-cut must add, 0 to 1")
    timeout_seconds: Positive = Field(
        default=900.0, description="seconds in which the MIG manager must report success, else roll back"
    )

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        found = []
        seen: set[tuple[str, str | None]] = set()
        for index, config in enumerate(self.configs):
            key = (config.name, config.model)
            if key in seen:
                path: tuple[str | int, ...] = ("migGeometry", "configs", index, "name")
                found.append((path, config.name, "a name used once for a model", "rename or delete one"))
            seen.add(key)
        return found
