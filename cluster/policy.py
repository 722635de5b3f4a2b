"""The cluster policy: prices, term multipliers, node classes, carbon, demand, extender and planner.

Pure. The YAML stands in the ConfigMap ``slicewise-policy`` under ``policy.yaml``; every key has a default, so
an empty policy of the right kind is a working one. Money is in ``currency`` throughout; a price is per hour
unless its key says otherwise. The autoscaling policy is in ``cluster.autoscaling_policy`` and is
re-exported here. Does not watch anything: ``cluster.policy_source`` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from cluster.autoscaling_policy import AutoscalingPolicy, autoscaling_policy_schema, load_autoscaling_policy
from cluster.batch_policy import Batch
from cluster.interference_policy import Interference
from cluster.node_policy import ScaleDown
from cluster.policy_model import (
    API_VERSION,
    AtLeastOne,
    Count,
    Flag,
    Name,
    NonNegative,
    PolicyModel,
    Positive,
    Share,
    load,
    schema,
)
from cluster.policy_text import PolicyRefused, Problem
from cluster.repack_policy import MigConfig, MigGeometry, Repack

__all__ = [
    "AutoscalingPolicy",
    "Batch",
    "Carbon",
    "CarbonClass",
    "ClusterPolicy",
    "DemandPrior",
    "Extender",
    "Interference",
    "Locality",
    "MigConfig",
    "MigGeometry",
    "NodeClass",
    "Nvlink",
    "Planner",
    "PolicyRefused",
    "Prices",
    "Problem",
    "Repack",
    "ScaleDown",
    "Terms",
    "autoscaling_policy_schema",
    "cluster_policy_schema",
    "load_autoscaling_policy",
    "load_cluster_policy",
]

LabelText = Annotated[str, StringConstraints(max_length=63)]


class Prices(PolicyModel):
    """What things cost."""

    gpu_hour: NonNegative = Field(default=2.5, description="money per hour for one whole GPU")
    gpu_hour_by_model: dict[Name, NonNegative] = Field(
        default_factory=dict, description="money per hour for one whole GPU of the named model"
    )
    carbon_tonne: NonNegative = Field(default=100.0, description="money per tonne of CO2e")
    fragmentation_gradient: NonNegative = Field(
        default=1.0,
        description="multiplier of the expected unusable space a placement adds, in GPUs at prices.gpuHour",
    )
    fragmentation_dual: NonNegative = Field(
        default=6.0, description="multiplier of the capacity value that the packing prices see destroyed"
    )


class Terms(PolicyModel):
    """Multipliers of the terms of a placement's price; 0 switches a term off."""

    fragmentation: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")
    nvlink: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")
    carbon: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")
    money: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")
    locality: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")
    interference: NonNegative = Field(default=1.0, description="multiplier, 0 switches the term off")


class NodeClass(PolicyModel):
    """Nodes that cost the same; a node belongs to the first class whose labels it carries."""

    name: Name = Field(description="name of the node class, unique")
    match: dict[Name, LabelText] = Field(
        default_factory=dict, description="labels that a node must carry; an empty match takes every node"
    )
    gpu_hour: NonNegative | None = Field(
        default=None, description="money per GPU-hour on such a node; null uses prices.gpuHour"
    )
    interruptions_per_hour: NonNegative = Field(
        default=0.0, description="expected interruptions of such a node per hour"
    )
    interruption_cost: NonNegative = Field(default=1.0, description="money lost per interruption and GPU")


class Nvlink(PolicyModel):
    """What a multi-GPU pod without annotations is taken to need."""

    default_need: Literal["none", "preferred", "required"] = Field(
        default="preferred", description="need for NVLink of a multi-GPU pod that says nothing"
    )
    default_weight: Share = Field(
        default=0.5, description="share of a multi-GPU pod's work that waits for the links, 0 to 1"
    )


class CarbonClass(PolicyModel):
    """A class that a pod may ask for by the annotation ``slicewise.io/carbon-class``."""

    max_grams_per_kwh: NonNegative = Field(
        alias="maxGramsPerKwh", description="highest grid intensity that the pod accepts, gCO2e per kWh"
    )


class Carbon(PolicyModel):
    """Where grid intensities come from and which zone a node stands in."""

    provider: Literal["static", "file", "electricity-maps", "watttime", "gb", "none"] = Field(
        default="static", description="source of grid carbon intensity"
    )
    region_label: Name = Field(
        default="topology.kubernetes.io/region", description="node label that names the cloud region"
    )
    regions: dict[Name, Name] = Field(
        default_factory=dict, description="cloud region to grid zone; goes before the built-in table"
    )
    static: dict[Name, NonNegative] = Field(
        default_factory=dict, description="gCO2e per kWh for each grid zone"
    )
    file: Name | None = Field(default=None, description="path of a file of intensities by hour")
    url: Name | None = Field(default=None, description="base URL of the provider; null uses its public one")
    token_file: Name | None = Field(
        default=None, description="path of a file that holds the provider's token"
    )
    kind: Literal["average", "marginal"] = Field(
        default="average", description="kind of intensity; the two are never mixed"
    )
    refresh_seconds: Positive = Field(default=300.0, description="seconds between two readings of a zone")
    classes: dict[Name, CarbonClass] = Field(
        default_factory=dict, description="carbon classes that pods may name"
    )
    file_clock_start: AwareDatetime | None = Field(
        default=None,
        description="instant in the file that counts as the present when the process starts; "
        "null takes the file's times as they are",
    )

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        if self.provider == "file" and self.file is None:
            return [(("carbon", "file"), None, "a path, because carbon.provider is file", "add the path")]
        if self.file_clock_start is not None and self.provider != "file":
            return [
                (
                    ("carbon", "fileClockStart"),
                    self.file_clock_start.isoformat(),
                    f"nothing, because carbon.provider is {self.provider}",
                    "delete the key or use the provider file",
                )
            ]
        return ()


class Locality(PolicyModel):
    """What a cold start costs where image or weights are missing."""

    weights_load_seconds: NonNegative = Field(
        default=60.0, description="seconds to load model weights from afar"
    )
    image_pull_seconds: NonNegative = Field(default=30.0, description="seconds to pull the image")


class DemandPrior(PolicyModel):
    """A prior of the expected mix of demands; what runs and waits is learned on top."""

    classes: dict[Name, NonNegative] = Field(
        default_factory=dict, description="expected share of each demand, any scale, as in mig:1g.10gb: 3"
    )
    half_life_seconds: Positive = Field(
        default=600.0, description="seconds after which an observed demand counts half"
    )


class Extender(PolicyModel):
    """Limits of the scheduler's webhook."""

    reservation_seconds: NonNegative = Field(
        default=5.0, description="seconds for which a predicted placement is held until the watch confirms it"
    )
    max_body_bytes: AtLeastOne = Field(
        default=33_554_432, description="bytes of the largest accepted request"
    )
    shortlist: Count = Field(
        default=32,
        description="how many of the cheapest nodes filter passes on to be scored, besides the cheapest of "
        "every zone; 0: all that fit. Pods with preferences of their own always get all",
    )
    one_node: Literal["never", "unspread", "always"] = Field(
        default="unspread",
        description="for which pods filter passes on the cheapest node alone, so that kube-scheduler neither "
        "scores nor asks for ranks: none; those that it would not spread by itself (without a controller, or "
        "of a Job); all. Pods with preferences of their own always get all. Use never where nodes have "
        "PreferNoSchedule taints that should count, or another extender filters after this one",
    )


class PlanSolver(PolicyModel):
    """When waiting pods are planned together by CP-SAT instead of one by one by price."""

    enabled: Flag = Field(default=True, description="whether a solver process plans bursts and gangs")
    min_pods: AtLeastOne = Field(
        default=64,
        description="how many pods must wait at once; gangs, and pods that prices alone leave waiting, are "
        "solved for at any number",
    )
    deadline_seconds: Annotated[float, Field(strict=True, gt=0, le=60, allow_inf_nan=False)] = Field(
        default=2.0, description="seconds after which the plan by price is used instead"
    )


class Planner(PolicyModel):
    """The road of nominated nodes."""

    enabled: Flag = Field(default=True, description="whether waiting GPU pods are planned and nominated")
    batch_milliseconds: NonNegative = Field(default=5.0, description="milliseconds to gather waiting pods")
    gate_timeout_seconds: NonNegative = Field(
        default=30.0, description="seconds after which a gated pod is released unplanned"
    )
    max_patch_concurrency: Annotated[int, Field(strict=True, ge=1, le=256)] = Field(
        default=8, description="status patches in flight at once"
    )
    order: Literal["urgency", "arrival"] = Field(
        default="urgency", description="which waiting MIG pod goes first at equal priority"
    )
    solver: PlanSolver = PlanSolver()


class ClusterPolicy(PolicyModel):
    """The policy of a cluster."""

    api_version: Literal["slicewise.io/v1alpha1"] = Field(
        default="slicewise.io/v1alpha1", description="version of this format"
    )
    kind: Literal["ClusterPolicy"] = Field(default="ClusterPolicy", description="kind of policy")
    currency: Name = Field(default="USD", description="currency of every price, for display")
    prices: Prices = Prices()
    terms: Terms = Terms()
    nodes: tuple[NodeClass, ...] = Field(default=(), description="node classes, the first that matches wins")
    nvlink: Nvlink = Nvlink()
    carbon: Carbon = Carbon()
    locality: Locality = Locality()
    interference: Interference = Interference()
    demand: DemandPrior = DemandPrior()
    extender: Extender = Extender()
    planner: Planner = Planner()
    repack: Repack = Repack()
    mig_geometry: MigGeometry = MigGeometry()
    scale_down: ScaleDown = ScaleDown()
    batch: Batch = Batch()

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        sections = (self.carbon, self.interference, self.mig_geometry, self.batch)
        found = [problem for section in sections for problem in section.contradictions()]
        times = Counter(node_class.name for node_class in self.nodes)
        for index, node_class in enumerate(self.nodes):
            if times[node_class.name] > 1:
                path = ("nodes", index, "name")
                found.append((path, node_class.name, "a name used once", "rename one of the classes"))
        return found


def load_cluster_policy(text: str, where: str) -> ClusterPolicy:
    """Read the text of a cluster policy; ``where`` names it in messages.

    Raises PolicyRefused with every problem found.
    """
    return load(ClusterPolicy, text, where)


def cluster_policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of the cluster policy."""
    return schema(ClusterPolicy, f"Slicewise ClusterPolicy {API_VERSION}")
