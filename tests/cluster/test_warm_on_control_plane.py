"""Warm capacity on the real API server, kube-scheduler and controller manager: placeholders give way to real
replicas, whichever way those ask for GPUs; they go with their policy; images are brought to nodes; a replica
on a node that is about to go is replaced before it dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import event_reasons
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from deploy.local.rest import SUCCESS
from dra.catalog import models
from dra.inventory import Gpu, NodeInventory
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.slices import nvidia_slices
from tests.cluster.autoscaled import Scene, autoscaled, eventually, is_ready
from tests.polling import throughout

pytestmark = pytest.mark.cluster

MERGE = "application/merge-patch+json"
PLAIN = {"warm-test": "device-plugin"}
CLAIMS = {"warm-test": "claims"}
H100 = models()["H100-80GB"]
DRA = "/apis/resource.k8s.io/v1"
RBAC = "rbac.authorization.k8s.io/v1"
CLASS = "warm-1g"
MANIFEST = Path(__file__).parents[2] / "deploy" / "manifests" / "warm.yaml"


def slices_of(node: str) -> list[dict[str, Any]]:
    order = geometry(H100).least_harm_order(0, {})
    gpu = Gpu(0, f"GPU-{node}", H100, True, "NVIDIA H100 80GB HBM3")
    made = NodeInventory(node, "nvidia", "gpu.nvidia.com", node, (gpu,), nvswitch(H100, 1), (order,), {}, {})
    return nvidia_slices(made)


@pytest.fixture(scope="module")
def hardware(control_plane: ControlPlane) -> Iterator[None]:
    """Two nodes with two GPUs each under the device plugin, one with a MIG card under a DRA driver."""
    manifest = list(yaml.safe_load_all(MANIFEST.read_text()))
    control_plane.apply(manifest)
    product = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    names = create_nodes(
        control_plane,
        [
            node_manifest("warm-a", labels=PLAIN | product, allocatable={"nvidia.com/gpu": "2"}),
            node_manifest("warm-b", labels=PLAIN | product, allocatable={"nvidia.com/gpu": "2"}),
            node_manifest("warm-c", labels=CLAIMS),
        ],
    )
    expression = (
        "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig' && "
        "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"
    )
    document = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": CLASS},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
    control_plane.request("POST", f"{DRA}/deviceclasses", document)
    published = [
        control_plane.request("POST", f"{DRA}/resourceslices", item)["metadata"]["name"]
        for item in slices_of("warm-c")
    ]
    yield
    for name in published:
        control_plane.request("DELETE", f"{DRA}/resourceslices/{name}", accepted=SUCCESS | {404})
    control_plane.request("DELETE", f"{DRA}/deviceclasses/{CLASS}")
    delete_nodes(control_plane, [*names, "warm-d"])
    # The rights go with the test: others see the controller as it is installed by default.
    groups = {"ClusterRole": RBAC, "ClusterRoleBinding": RBAC, "PriorityClass": "scheduling.k8s.io/v1"}
    for one in manifest:
        kind = one["kind"]
        plural = "priorityclasses" if kind == "PriorityClass" else f"{kind.lower()}s"
        control_plane.request("DELETE", f"/apis/{groups[kind]}/{plural}/{one['metadata']['name']}")


@pytest.fixture
def scene(control_plane: ControlPlane, hardware: None) -> Iterator[Scene]:
    with autoscaled(control_plane, "warm") as scene:
        yield scene


def deployment(app: str, nodes: dict[str, str], resources: dict[str, Any], **spec: Any) -> dict[str, Any]:
    container = {"name": "server", "image": "example.org/vllm:1", "resources": resources}
    template = {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "containers": [container],
            "nodeSelector": nodes,
            "terminationGracePeriodSeconds": 0,
            **spec,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": template},
    }


GPU = {"limits": {"nvidia.com/gpu": "1"}}
FEW = {"placeholders": {"most": 3, "deviations": 20.0, "nodeSeconds": 1}}


def pods(scene: Scene, namespace: str, selector: str) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector.replace('=', '%3D')}"
    found: list[dict[str, Any]] = scene.cluster.request("GET", path)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def placed(scene: Scene, namespace: str, selector: str) -> int:
    return sum(bool(pod["spec"].get("nodeName")) for pod in pods(scene, namespace, selector))


def placeholders(scene: Scene, namespace: str) -> int:
    return placed(scene, namespace, "slicewise.io/warm=placeholder")


def test_placeholders_fill_the_room_and_are_preempted_by_a_replica_and_go_with_the_policy(
    scene: Scene, namespace: str
):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, deployment("llm", PLAIN, GPU))
    scene.servers.load(namespace, "llm", 10.0)
    policy = scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"}, warm=FEW)
    eventually("three placeholders beside the replica", lambda: placeholders(scene, namespace) == 3)
    assert placed(scene, namespace, "app=llm") == 1
    # All four GPUs are taken, and still the workload may grow: the room is its own.
    scene.servers.load(namespace, "llm", 40.0)
    eventually("three replicas with a node", lambda: placed(scene, namespace, "app=llm") == 3)
    eventually("one placeholder left", lambda: placeholders(scene, namespace) == 1)
    scene.cluster.request("DELETE", policy)
    eventually(
        "no placeholder without a policy", lambda: not pods(scene, namespace, "slicewise.io/warm=placeholder")
    )
    assert placed(scene, namespace, "app=llm") == 3


def changes(scene: Scene, word: str) -> float:
    """How often warm capacity has changed something in this way."""
    page = scene.parts.exposition.render()[0].decode()
    wanted = f'warm_changes_total{{change="{word}"}}'
    return next((float(line.split()[-1]) for line in page.splitlines() if wanted in line), 0.0)


def test_placeholders_that_hold_claims_are_handed_over(scene: Scene, namespace: str):
    """In-tree preemption does not help pods with claims: this is the controller's own doing."""
    claim = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": CLASS}}]}}
    scene.create(
        f"{DRA}/namespaces/{namespace}/resourceclaimtemplates",
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "slice"},
            "spec": {"spec": claim},
        },
    )
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    resources = {"claims": [{"name": "gpu"}]}
    claims = [{"name": "gpu", "resourceClaimTemplateName": "slice"}]
    scene.create(path, deployment("mig", CLAIMS, resources, resourceClaims=claims))
    scene.servers.load(namespace, "mig", 60.0)
    many = {"placeholders": {"most": 7, "deviations": 50.0, "nodeSeconds": 1}}
    scene.policy(namespace, "mig-policy", {"kind": "Deployment", "name": "mig"}, warm=many)

    def full() -> bool:  # seven instances fit on the card
        return placed(scene, namespace, "app=mig") + placeholders(scene, namespace) == 7

    eventually("the card to be full", full, 40.0)
    eventually("four replicas", lambda: placed(scene, namespace, "app=mig") == 4, 40.0)
    eventually("three placeholders", lambda: placeholders(scene, namespace) == 3, 40.0)
    before = {word: changes(scene, word) for word in ("placeholder_handed_over", "placeholder_deleted")}
    scene.servers.load(namespace, "mig", 90.0)
    eventually(
        "six replicas in the room of placeholders", lambda: placed(scene, namespace, "app=mig") == 6, 40.0
    )

    # Beside six replicas of eight two placeholders may stand: one of the three may have been let go for that
    # before the scheduler refused anybody.
    def gone() -> dict[str, float]:
        return {word: changes(scene, word) - count for word, count in before.items()}

    eventually("one handed over", lambda: gone()["placeholder_handed_over"] >= 1)
    eventually("both counted", lambda: sum(gone().values()) >= 2)


def test_an_image_is_brought_to_the_nodes_of_the_next_replicas_once(scene: Scene, namespace: str):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, deployment("img", PLAIN, GPU))
    scene.servers.load(namespace, "img", 10.0)
    warm = {"prefetch": {"nodes": 2, "command": ["true"]}}
    scene.policy(namespace, "img-policy", {"kind": "Deployment", "name": "img"}, warm=warm)

    def prefetches() -> list[dict[str, Any]]:
        return pods(scene, namespace, "slicewise.io/warm=prefetch")

    def both() -> list[dict[str, Any]]:
        found = prefetches()
        return found if len(found) == 2 else []

    found = eventually("a prefetch on both nodes", both)
    assert {pod["spec"]["nodeName"] for pod in found} == {"warm-a", "warm-b"}
    assert all(pod["spec"]["containers"][0]["image"] == "example.org/vllm:1" for pod in found)
    throughout(lambda: len(prefetches()) <= 2, 3.0, "no more than two prefetches")


def test_an_interruption_notice_starts_a_replacement_before_the_replica_dies(scene: Scene, namespace: str):
    product = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "warm-test": "spot"}
    create_nodes(
        scene.cluster,
        [node_manifest("warm-d", labels=product, allocatable={"nvidia.com/gpu": "1"})],
    )
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "warm-test", "operator": "In", "values": ["spot", "device-plugin"]}
                        ]
                    }
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "preference": {
                        "matchExpressions": [{"key": "warm-test", "operator": "In", "values": ["spot"]}]
                    },
                }
            ],
        }
    }
    made = deployment("spot", {}, GPU, affinity=affinity)
    scene.create(path, made)
    scene.servers.load(namespace, "spot", 10.0)
    scene.policy(namespace, "spot-policy", {"kind": "Deployment", "name": "spot"})
    eventually("a decision", lambda: scene.view(namespace, "spot"))

    def nodes() -> set[str]:
        return {pod["spec"].get("nodeName", "") for pod in pods(scene, namespace, "app=spot")}

    eventually("the replica on the spot node", lambda: nodes() == {"warm-d"})
    taint = {"key": "aws-node-termination-handler/spot-itn", "value": "1", "effect": "NoSchedule"}
    scene.cluster.request("PATCH", "/api/v1/nodes/warm-d", {"spec": {"taints": [taint]}}, MERGE)
    eventually(
        "a second replica beside the doomed one", lambda: len(nodes()) == 2 and "" not in nodes(), 15.0
    )
    assert "warm-d" in nodes()
    view = scene.view(namespace, "spot")
    assert view is not None
    assert view.signals.current == 1

    def serving() -> int:
        return sum(is_ready(pod) for pod in pods(scene, namespace, "app=spot"))

    def supply() -> int | None:
        seen = scene.view(namespace, "spot")
        return None if seen is None else seen.signals.ready

    eventually("both replicas to serve", lambda: serving() == 2)
    eventually("the replacement to be supply", lambda: supply() == 1)
    throughout(lambda: supply() == 1, 3.0, "the doomed replica counts as none")
    why = "1 -> 2 replicas: 1 replicas stand on nodes that are about to go: warm-d"
    eventually(
        "an Event about it",
        lambda: any(
            event["reason"] == event_reasons.SCALED_UP and event["note"].startswith(why)
            for event in scene.events(namespace, "Deployment", "spot")
        ),
    )
    for pod in pods(scene, namespace, "app=spot"):
        if pod["spec"].get("nodeName") == "warm-d":
            pod_path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
            scene.cluster.request("DELETE", pod_path, {"gracePeriodSeconds": 0})
    delete_nodes(scene.cluster, ["warm-d"])
    eventually("one replica again", lambda: scene.replicas(f"{path}/spot") == 1)
    eventually("and it is the replacement", lambda: len(nodes()) == 1 and "warm-d" not in nodes())
