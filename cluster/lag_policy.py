"""The part of an autoscaling policy that sizes a streaming consumer by how far it lags behind. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.policy_model import Count, Name, PolicyModel, Positive

GroupName = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Lag(PolicyModel):
    """A consumer group and how far it may lag."""

    source: Literal["kafka-exporter", "kminion"] = Field(
        default="kafka-exporter", description="exporter that tells of the group"
    )
    group: GroupName = Field(description="name of the consumer group")
    topic: Name | None = Field(default=None, description="topic; null: all that the group reads")
    per_replica: Positive = Field(
        default=100.0, description="messages that a replica may lag without more being asked for"
    )
    drain_seconds: Positive = Field(
        default=60.0, description="seconds within which what lags beyond that shall be consumed"
    )
    messages_per_second: Positive | None = Field(
        default=None, description="messages a second that one replica consumes; null: learned"
    )
    partitions: Count = Field(
        default=0,
        description="most replicas that are of use, as one reads a partition; 0: as the exporter tells",
    )
