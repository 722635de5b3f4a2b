"""Decoding of objects as the API server writes them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cluster.envelopes import Status, list_decoder, object_decoder, watch_decoder
from cluster.wire import Lease, Node, Pod, Scale

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "llm-0",
        "namespace": "serving",
        "uid": "0b7d",
        "resourceVersion": "4711",
        "creationTimestamp": "2026-11-01T10:00:00Z",
        "labels": {"app": "llm"},
        "annotations": {"slicewise.io/nvlink": "required"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llm", "uid": "u", "controller": True}
        ],
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
    },
    "spec": {
        "nodeName": "node-1",
        "schedulerName": "default-scheduler",
        "priority": 1000,
        "schedulingGates": [{"name": "slicewise.io/plan"}],
        "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"terms": [1]}}},
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "mig"}],
        "initContainers": [
            {"name": "proxy", "image": "p", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}}
        ],
        "containers": [
            {
                "name": "server",
                "image": "vllm:1",
                "resources": {
                    "limits": {"nvidia.com/gpu": "2", "memory": "16Gi"},
                    "requests": {"nvidia.com/gpu": 2},
                    "claims": [{"name": "gpu"}],
                },
                "volumeMounts": [{"name": "x", "mountPath": "/x"}],
            }
        ],
    },
    "status": {
        "phase": "Pending",
        "nominatedNodeName": "node-2",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
        ],
        "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "llm-0-gpu-x"}, {"name": "none"}],
        "extendedResourceClaimStatus": {
            "resourceClaimName": "llm-0-ext",
            "requestMappings": [
                {"containerName": "server", "resourceName": "nvidia.com/mig-1g.10gb", "requestName": "c0-r0"}
            ],
        },
    },
}


def test_a_pod_with_everything_that_is_read():
    pod = object_decoder(Pod).decode(json.dumps(POD))

    assert pod.metadata.owner_references[0].controller
    assert pod.spec.node_name == "node-1"
    assert pod.spec.scheduling_gates[0].name == "slicewise.io/plan"
    assert pod.spec.resource_claims[0].resource_claim_template_name == "mig"
    assert pod.spec.init_containers[0].restart_policy == "Always"
    assert pod.spec.containers[0].resources.limits["nvidia.com/gpu"] == "2"
    assert pod.spec.containers[0].resources.requests["nvidia.com/gpu"] == 2
    assert pod.spec.containers[0].resources.claims[0].name == "gpu"
    assert pod.spec.affinity is not None
    assert pod.spec.affinity["nodeAffinity"]
    assert pod.status.nominated_node_name == "node-2"
    assert [claim.resource_claim_name for claim in pod.status.resource_claim_statuses] == [
        "llm-0-gpu-x",
        None,
    ]
    assert pod.status.extended_resource_claim_status is not None
    assert pod.status.extended_resource_claim_status.request_mappings[0].request_name == "c0-r0"


@pytest.mark.parametrize("kind", [Node, Pod, Lease, Scale])
def test_an_object_without_anything_decodes_to_defaults(kind: type):
    decoded: Any = object_decoder(kind).decode(b"{}")
    assert decoded == kind()
    assert decoded.metadata.name == ""


def test_a_node_with_taints_images_and_quantities_as_written():
    node = object_decoder(Node).decode(
        json.dumps(
            {
                "metadata": {"name": "n"},
                "spec": {
                    "unschedulable": True,
                    "taints": [{"key": "k", "effect": "NoSchedule"}],
                    "providerID": "p",
                },
                "status": {
                    "allocatable": {"nvidia.com/gpu": "8", "cpu": "95500m"},
                    "images": [{"names": ["a@sha256:1", "a:1"], "sizeBytes": 12_000_000_000}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )
    )
    assert node.spec.unschedulable
    assert node.spec.provider_id == "p"
    assert node.spec.taints[0].effect == "NoSchedule"
    assert node.status.allocatable["cpu"] == "95500m"
    assert node.status.images[0].size_bytes == 12_000_000_000


def test_a_list_page_with_null_items_is_empty_and_carries_its_token():
    page = list_decoder(Node).decode(b'{"metadata":{"resourceVersion":"5","continue":"t"},"items":null}')
    assert page.items is None
    assert (page.metadata.resource_version, page.metadata.continue_token) == ("5", "t")


def test_the_object_of_a_watch_line_is_decoded_by_the_type_of_the_line():
    event = watch_decoder().decode(b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}')
    assert object_decoder(Status).decode(event.object).code == 410


def test_structs_are_immutable():
    with pytest.raises(AttributeError):
        Node().spec = None


def test_a_field_of_another_type_is_refused_with_its_path():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.priority"):
        object_decoder(Pod).decode(b'{"spec":{"priority":"high"}}')
