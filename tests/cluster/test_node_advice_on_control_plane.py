"""Advice about nodes on the real API server: its own serialised pods and nodes through the expander, marks on
the nodes that must be kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.internal.decoder import _DecodeVarint

from autoscaler.compose import Options, Parts, build
from autoscaler.nodes.expander import Tls
from autoscaler.nodes.expander_v1 import api_pb2 as pb
from autoscaler.nodes.expander_v1.api_pb2_grpc import ExpanderStub
from autoscaler.nodes.scale_down_loop import CLUSTER_AUTOSCALER, KARPENTER, NOTE
from cluster import event_reasons
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from tests.polling import SOON_SECONDS, until

pytestmark = pytest.mark.cluster

MAPS = "/api/v1/namespaces/slicewise-system/configmaps"
MERGE = "application/merge-patch+json"
POLICY = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
carbon: {provider: none}
prices: {gpuHour: 4.0, gpuHourByModel: {L40S-48GB: 1.0}}
scaleDown: {mode: MODE, intervalSeconds: 0.5, keepFor: ["whole:2@H100-80GB"]}
"""
PRODUCTS = {"p5": "NVIDIA-H100-80GB-HBM3", "g6e": "NVIDIA-L40S"}


def serialised(cluster: ControlPlane, path: str, sent: dict[str, Any] | None = None) -> bytes:
    """An object as the API server's own protobuf: the raw field of runtime.Unknown, after four bytes.
    ``sent``: what is posted; else it is read.
    """
    headers = {"Accept": "application/vnd.kubernetes.protobuf", "Content-Type": "application/json"}
    method, told = ("GET", None) if sent is None else ("POST", json.dumps(sent))
    with cluster.connect() as connection:
        wire = connection._connection
        wire.request(method, path, told, headers)
        answer = wire.getresponse()
        body = answer.read()
    assert answer.status in (200, 201), body
    assert body[:4] == b"k8s\x00"
    position = 4
    while position < len(body):
        tag, position = _DecodeVarint(body, position)
        length, position = _DecodeVarint(body, position)
        if tag >> 3 == 2:
            return body[position : position + length]
        position += length
    raise AssertionError("no raw object")


def created(cluster: ControlPlane, path: str, document: dict[str, Any]) -> bytes:
    """What the API server would make of an object, serialised; nothing is kept."""
    return serialised(cluster, f"{path}?dryRun=All", document)


@pytest.fixture(scope="module")
def advisor(control_plane: ControlPlane) -> Iterator[Parts]:
    def node(name: str, kind: str) -> dict[str, Any]:
        labels = {
            "nvidia.com/gpu.product": PRODUCTS[kind],
            "node.kubernetes.io/instance-type": f"{kind}.large",
            "topology.kubernetes.io/region": "eu-north-1",
        }
        return node_manifest(name, labels=labels, allocatable={"nvidia.com/gpu": "2"})

    names = create_nodes(control_plane, [node("advice-h", "p5"), node("advice-l", "g6e")])
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slicewise-policy", "namespace": "slicewise-system"},
        "data": {"policy.yaml": POLICY.replace("MODE", "dry-run")},
    }
    control_plane.apply([document])
    parts = build(
        Options(
            prometheus_url="http://127.0.0.1:9",
            kubeconfig=str(control_plane.kubeconfig_for("slicewise-controller")),
            lease="advice",
            identity="a-test",
            expander_address="127.0.0.1:0",
        )
    )
    parts.start()
    until(lambda: all(parts.synced.values()) and parts.election.is_leader, 30.0, "the fleet to be known")
    try:
        yield parts
    finally:
        parts.stop()
        delete_nodes(control_plane, names)
        control_plane.request("DELETE", f"{MAPS}/slicewise-policy")


def test_pods_and_nodes_as_the_api_server_serialises_them_are_understood(
    control_plane: ControlPlane, advisor: Parts, namespace: str
):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waiting", "annotations": {"slicewise.io/gpu-model": "L40S-48GB"}},
        "spec": {
            "schedulerName": "nobody",
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "containers": [
                {
                    "name": "c",
                    "image": "example.org/vllm:1",
                    "resources": {
                        "limits": {"nvidia.com/gpu": "2"},
                        "requests": {"cpu": "3", "memory": "6Gi"},
                    },
                }
            ],
        },
    }
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    pod_bytes = serialised(control_plane, f"/api/v1/namespaces/{namespace}/pods/waiting")
    request = pb.BestOptionsRequest()
    for group, name in (("h100", "advice-h"), ("l40s", "advice-l")):
        option = request.options.add(nodeGroupId=group, nodeCount=1)
        option.podBytes.append(pod_bytes)
        request.nodeBytesMap[group] = serialised(control_plane, f"/api/v1/nodes/{name}")
    assert advisor.nodes.expander is not None
    with grpc.insecure_channel(f"127.0.0.1:{advisor.nodes.expander.port}") as channel:
        response = ExpanderStub(channel).BestOptions(request, timeout=SOON_SECONDS)
    assert [option.nodeGroupId for option in response.options] == ["l40s"]
    assert response.options[0].podBytes[0] == pod_bytes

    def told() -> list[str]:
        events = control_plane.request("GET", "/apis/events.k8s.io/v1/namespaces/slicewise-system/events")
        return [e["note"] for e in events["items"] if e["reason"] == event_reasons.NODE_GROUP_CHOSEN]

    why = "l40s: 1 GPU pods on 1 nodes at 2.00 USD an hour each"
    until(lambda: any(one.startswith(why) for one in told()), 10.0, f"an Event that says {why}")


def test_daemon_sets_are_watched_and_taken_off_a_new_node(
    control_plane: ControlPlane, advisor: Parts, namespace: str
):
    node = node_manifest(
        "new",
        labels={
            "nvidia.com/gpu.product": PRODUCTS["g6e"],
            "node.kubernetes.io/instance-type": "g6e.small",
            "topology.kubernetes.io/region": "eu-north-1",
        },
        allocatable={"nvidia.com/gpu": "1", "cpu": "4", "memory": "16Gi"},
    )
    limits = {"nvidia.com/gpu": "1", "cpu": "4"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "wide"},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "c", "image": "example.org/vllm:1", "resources": {"limits": limits}}],
        },
    }
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {
                    "nodeSelector": {"node.kubernetes.io/instance-type": "g6e.small"},
                    "containers": [
                        {
                            "name": "c",
                            "image": "example.org/agent:1",
                            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                        }
                    ],
                },
            },
        },
    }
    kind = created(control_plane, "/api/v1/nodes", node)
    pod_bytes = created(control_plane, f"/api/v1/namespaces/{namespace}/pods", pod)
    request = pb.BestOptionsRequest()
    request.options.add(nodeGroupId="small", nodeCount=1).podBytes.append(pod_bytes)
    request.nodeBytesMap["small"] = kind
    assert advisor.nodes.expander is not None
    observed = advisor.exposition.node_advice.answers
    with grpc.insecure_channel(f"127.0.0.1:{advisor.nodes.expander.port}") as channel:

        def verdict() -> str:
            before = {word: observed.labels(word)._value.get() for word in ("chosen", "left")}
            ExpanderStub(channel).BestOptions(request, timeout=SOON_SECONDS)
            [word] = [one for one, count in before.items() if observed.labels(one)._value.get() > count]
            return word

        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
        until(lambda: verdict() == "chosen", 10.0, "the node to be enough")
        control_plane.request("POST", path, daemons)
        until(lambda: verdict() == "left", 10.0, "the DaemonSet to be seen")
        control_plane.request("DELETE", f"{path}/agent")
        until(lambda: verdict() == "chosen", 10.0, "the DaemonSet to be gone")


def test_only_the_node_that_must_be_kept_is_marked_and_only_in_mode_on(
    control_plane: ControlPlane, advisor: Parts
):
    def notes(name: str) -> dict[str, str]:
        found: dict[str, str] = control_plane.request("GET", f"/api/v1/nodes/{name}")["metadata"][
            "annotations"
        ]
        return found

    def mode(word: str) -> None:
        body = {"data": {"policy.yaml": POLICY.replace("MODE", f"'{word}'")}}
        control_plane.request("PATCH", f"{MAPS}/slicewise-policy", body, MERGE)

    until(
        lambda: (
            {one.node: one.verdict for one in advisor.nodes.scale_down.latest}
            == {"advice-h": "keep", "advice-l": "may_go"}
        ),
        20.0,
        "advice about both nodes",
    )
    assert NOTE not in notes("advice-h")
    mode("on")
    until(lambda: NOTE in notes("advice-h"), 20.0, "the mark")
    assert notes("advice-h")[CLUSTER_AUTOSCALER] == notes("advice-h")[KARPENTER] == "true"
    assert notes("advice-h")[NOTE] == "no other node has room for 2 whole GPUs"
    assert CLUSTER_AUTOSCALER not in notes("advice-l")
    mode("dry-run")
    until(lambda: NOTE not in notes("advice-h"), 20.0, "the mark to go")
    assert CLUSTER_AUTOSCALER not in notes("advice-h")


def test_a_certificate_that_cannot_be_read_is_a_refusal(control_plane: ControlPlane):
    options = Options(
        prometheus_url="http://127.0.0.1:9",
        kubeconfig=str(control_plane.kubeconfig),
        expander_address="127.0.0.1:0",
        expander_tls=Tls("/nowhere/tls.crt", "/nowhere/tls.key"),
    )
    with pytest.raises(OSError, match="nowhere"):
        build(options)
