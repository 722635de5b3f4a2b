"""Questions as Cluster Autoscaler asks them, serialised core/v1 messages among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.nodes.expander_v1 import api_pb2 as pb


def pod_message(
    name: str,
    limits: Mapping[str, str],
    *,
    requests: Mapping[str, str] | None = None,
    template: str = "",
) -> Any:
    """core/v1 Pod; ``template``: of a resource claim."""
    message = pb.Pod(metadata=pb.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"))
    container = message.spec.containers.add(name="server", image="vllm/vllm-openai:v1")
    for resource, amount in limits.items():
        container.resources.limits[resource].string = amount
        container.resources.requests[resource].string = amount
    for resource, amount in (requests or {}).items():
        container.resources.requests[resource].string = amount
    if template:
        message.spec.resourceClaims.add(name="gpu", resourceClaimTemplateName=template)
        container.resources.claims.add(name="gpu")
    return message


def node_message(name: str, allocatable: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Any:
    """core/v1 Node."""
    message = pb.Node(metadata=pb.ObjectMeta(name=name))
    message.metadata.labels.update(labels or {})
    for resource, amount in allocatable.items():
        message.status.capacity[resource].string = amount
        message.status.allocatable[resource].string = amount
    return message


def question(groups: Mapping[str, tuple[int, Any, Sequence[Any]]], *, serialised: bool = True) -> Any:
    """BestOptionsRequest; by group: node count, such a node, the pods. ``serialised``: as from 1.35 on."""
    request = pb.BestOptionsRequest()
    for group, (count, node, pods) in groups.items():
        option = request.options.add(nodeGroupId=group, nodeCount=count, debug=f"{group} +{count}")
        if serialised:
            option.podBytes.extend(pod.SerializeToString() for pod in pods)
            request.nodeBytesMap[group] = node.SerializeToString()
        else:
            option.pod.extend(pods)
            request.nodeMap[group].CopyFrom(node)
    return request
