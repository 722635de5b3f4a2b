"""Cluster Autoscaler's question as plain values: options with their pods and the node that each would add.

Pods and nodes come serialised (``podBytes``, ``nodeBytesMap``: the only form from Kubernetes 1.35 on) or as
messages (before); the first goes before the second where both are there, as the protocol says. What is
answered are the very option messages that came, so unknown fields survive. An answer larger than a gRPC
client takes by default (4 MiB) is sent without its pods: Cluster Autoscaler reads the group's id alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from autoscaler.nodes.expander_v1 import api_pb2 as pb
from cluster.wire import (
    Container,
    ContainerClaim,
    ContainerResources,
    Node,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    Pod,
    PodResourceClaim,
    PodSpec,
    Taint,
    Toleration,
)

MOST_ANSWER_BYTES: Final = 3 * 2**20


class NotUnderstood(ValueError):
    """The message holds bytes that are no core/v1 object."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One option: the group, how many nodes it adds, for which pods, and such a node (None: not sent)."""

    group: str
    nodes: int
    pods: tuple[Pod, ...]
    node: Node | None


def offers_of(request: Any) -> tuple[Offer, ...]:
    """Read a BestOptionsRequest. Raises NotUnderstood."""
    nodes = {group: _node(message) for group, message in request.nodeMap.items()}
    nodes |= {
        group: _node(_parsed(pb.Node(), data, f"nodeBytesMap[{group}]"))
        for group, data in request.nodeBytesMap.items()
    }
    return tuple(
        Offer(option.nodeGroupId, option.nodeCount, _pods(option), nodes.get(option.nodeGroupId))
        for option in request.options
    )


def answer(request: Any, order: Sequence[int]) -> Any:
    """The BestOptionsResponse with the options at these positions, in this order, as they came."""
    response = pb.BestOptionsResponse(options=[request.options[position] for position in order])
    if response.ByteSize() <= MOST_ANSWER_BYTES:
        return response
    return pb.BestOptionsResponse(
        options=[
            pb.Option(nodeGroupId=one.nodeGroupId, nodeCount=one.nodeCount, debug=one.debug)
            for one in (request.options[position] for position in order)
        ]
    )


def _pods(option: Any) -> tuple[Pod, ...]:
    if option.podBytes:
        where = f"options[{option.nodeGroupId}].podBytes"
        return tuple(_pod(_parsed(pb.Pod(), data, where)) for data in option.podBytes)
    return tuple(_pod(message) for message in option.pod)


def _parsed(message: Any, data: bytes, where: str) -> Any:
    try:
        message.ParseFromString(data)
    except DecodeError as problem:
        raise NotUnderstood(f"{where}: got {len(data)} bytes, expected a core/v1 object: {problem}") from None
    return message


def _meta(message: Any) -> ObjectMeta:
    return ObjectMeta(
        name=message.name,
        namespace=message.namespace,
        uid=message.uid,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
    )


def _amounts(found: Mapping[str, Any]) -> dict[str, str | int]:
    return {name: quantity.string for name, quantity in found.items()}


def _resources(message: Any) -> ContainerResources:
    return ContainerResources(
        requests=_amounts(message.requests),
        limits=_amounts(message.limits),
        claims=tuple(ContainerClaim(name=one.name, request=one.request) for one in message.claims),
    )


def _containers(found: Sequence[Any]) -> tuple[Container, ...]:
    return tuple(
        Container(
            name=one.name,
            image=one.image,
            resources=_resources(one.resources),
            restart_policy=one.restartPolicy,
        )
        for one in found
    )


def _pod(message: Any) -> Pod:
    spec = message.spec
    return Pod(
        metadata=_meta(message.metadata),
        spec=PodSpec(
            priority=spec.priority,
            priority_class_name=spec.priorityClassName,
            containers=_containers(spec.containers),
            init_containers=_containers(spec.initContainers),
            resource_claims=tuple(
                PodResourceClaim(
                    name=one.name,
                    resource_claim_name=one.resourceClaimName or None,
                    resource_claim_template_name=one.resourceClaimTemplateName or None,
                )
                for one in spec.resourceClaims
            ),
            node_selector=dict(spec.nodeSelector),
            tolerations=tuple(
                Toleration(key=one.key, operator=one.operator, value=one.value, effect=one.effect)
                for one in spec.tolerations
            ),
            overhead=_amounts(spec.overhead),
            resources=_resources(spec.resources) if spec.HasField("resources") else None,
        ),
    )


def _node(message: Any) -> Node:
    spec, status = message.spec, message.status
    return Node(
        metadata=_meta(message.metadata),
        spec=NodeSpec(
            unschedulable=spec.unschedulable,
            taints=tuple(Taint(key=one.key, value=one.value, effect=one.effect) for one in spec.taints),
            provider_id=spec.providerID,
        ),
        status=NodeStatus(allocatable=_amounts(status.allocatable), capacity=_amounts(status.capacity)),
    )
