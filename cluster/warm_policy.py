"""The part of an autoscaling policy that keeps capacity warm: placeholders and prefetch. Pure.

Everything is off until its section is written.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from cluster.policy_model import AtLeastOne, Count, Name, NonNegative, PolicyModel

Argument = Annotated[str, StringConstraints(max_length=4096)]


class Placeholders(PolicyModel):
    """Pods of low priority that hold room for replicas that may be needed."""

    most: Count = Field(description="most placeholder pods of this workload at once")
    deviations: NonNegative = Field(
        default=3.0,
        description="how far above the forecast to be ready for, in deviations of the load from it",
    )
    node_seconds: NonNegative = Field(
        default=300.0, description="seconds that a new node takes until its GPUs can be used"
    )


class FetchWeights(PolicyModel):
    """A container that brings the weights named by the annotation slicewise.io/weights to a node."""

    image: Name = Field(description="image of the container")
    command: Annotated[tuple[Argument, ...], Field(min_length=1)] = Field(
        description="command; the weights' name is in the environment variable SLICEWISE_WEIGHTS"
    )
    host_path: Annotated[str, StringConstraints(pattern=r"^/.+", max_length=4096)] = Field(
        description="folder on the node that the container writes to, mounted at the same path"
    )


class Prefetch(PolicyModel):
    """Images, and weights, brought to nodes before a replica needs them there."""

    nodes: AtLeastOne = Field(default=2, description="how many of the likeliest nodes are to have the image")
    command: Annotated[tuple[Argument, ...], Field(min_length=1)] = Field(
        default=("true",),
        description="harmless command to run in the image; where the image has no such program the container "
        "fails after the image was pulled, which serves as well",
    )
    weights: FetchWeights | None = None
    timeout_seconds: AtLeastOne = Field(
        default=1800, description="seconds after which a prefetch that has not ended is given up"
    )


class Warm(PolicyModel):
    """What is kept ready beyond the replicas."""

    placeholders: Placeholders | None = None
    prefetch: Prefetch | None = None
    image: Name = Field(
        default="registry.k8s.io/pause:3.10", description="image of placeholders: one that only waits"
    )
