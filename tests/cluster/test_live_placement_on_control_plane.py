"""Placement-aware scaling on the real API server, scheduler, controllers and Prometheus: a workload settles
at what the fleet holds and goes on when a node comes, yields to a second writer, lets its idlest pod go first
and wakes from zero by a queue outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler import reasons
from autoscaler.placeable import NodeRequest
from autoscaler.targets import Target, TargetRefused, Targets
from cluster import event_reasons
from cluster.client import Api
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from kubectl_slicewise.__main__ import main
from tests.cluster.autoscaled import PER_REPLICA, Scene, eventually, is_ready
from tests.cluster.autoscaled import nodes as nodes
from tests.cluster.autoscaled import scene as scene
from tests.polling import throughout

pytestmark = pytest.mark.cluster

MERGE = "application/merge-patch+json"
SELECTED = {"placement-test": "gpus"}


def gpu_node(name: str) -> dict[str, Any]:
    labels = SELECTED | {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    return node_manifest(name, labels=labels, allocatable={"nvidia.com/gpu": "2"})


@pytest.fixture
def gpus(control_plane: ControlPlane) -> Iterator[None]:
    """Two nodes with two GPUs each; what a test adds is named gpus-2."""
    names = create_nodes(control_plane, [gpu_node("gpus-0"), gpu_node("gpus-1")])
    yield
    delete_nodes(control_plane, [*names, "gpus-2"])


def deployment(app: str, *, replicas: int = 1, gpu: bool = False) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "server", "image": "example.org/vllm:1"}
    spec: dict[str, Any] = {"containers": [container]}
    if gpu:
        container["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
        spec["nodeSelector"] = SELECTED
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def create(scene: Scene, namespace: str, document: dict[str, Any]) -> str:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, document)
    return f"{path}/{document['metadata']['name']}"


def metric(scene: Scene, namespace: str, name: str, workload: str) -> float | None:
    labels = {"namespace": namespace, "kind": "Deployment", "name": workload}
    return scene.parts.exposition.registry.get_sample_value(name, labels)


def requests(scene: Scene) -> tuple[NodeRequest, ...]:
    return scene.parts.controller.node_requests


def first_reason(scene: Scene, namespace: str, name: str) -> str:
    view = scene.view(namespace, name)
    return "" if view is None else view.decision.reasons[0].code


def notes(scene: Scene, namespace: str, name: str, reason: str) -> list[str]:
    return [e["note"] for e in scene.events(namespace, "Deployment", name) if e["reason"] == reason]


def test_a_workload_settles_at_what_the_fleet_holds_and_goes_on_when_a_node_comes(
    scene: Scene, namespace: str, gpus: None, capsys: pytest.CaptureFixture[str]
):
    path = create(scene, namespace, deployment("llm", gpu=True))
    scene.servers.load(namespace, "llm", 6 * PER_REPLICA)
    scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"})
    eventually("4 replicas", lambda: scene.replicas(path) == 4)
    eventually(
        "the limit to be the reason",
        lambda: first_reason(scene, namespace, "llm") == reasons.NOT_PLACEABLE,
    )
    throughout(lambda: scene.replicas(path) == 4, 3.0, "4 replicas while there is no room for more")
    eventually(
        "a request for the rest",
        lambda: (
            [(one.target.name, one.replicas, one.demand.whole_gpus) for one in requests(scene)]
            == [("llm", 2, 1)]
        ),
    )

    def counted() -> tuple[float | None, ...]:
        names = ("placeable", "unplaceable")
        return tuple(metric(scene, namespace, f"slicewise_autoscaler_{n}_replicas", "llm") for n in names)

    eventually("the metrics to say so", lambda: counted() == (4, 2))
    eventually(
        "an Event about the limit",
        lambda: any(
            "6 replicas are wanted, 4 can be placed" in note
            for note in notes(scene, namespace, "llm", event_reasons.SCALING_LIMITED)
        ),
    )

    def shown() -> dict[str, Any]:
        capsys.readouterr()
        kubeconfig = str(scene.cluster.kubeconfig)
        assert main(["workloads", "--kubeconfig", kubeconfig, "-n", namespace, "-o", "json"]) == 0
        rows = json.loads(capsys.readouterr().out)["workloads"]
        return rows[0] if rows else {}

    wanted = {"current": 4, "desired": 4, "placeable": 4, "unplaceable": 2, "reason": "NotPlaceable"}
    eventually("kubectl to show it", lambda: wanted.items() <= shown().items())

    create_nodes(scene.cluster, [gpu_node("gpus-2")])
    eventually("6 replicas on the new node", lambda: scene.replicas(path) == 6)
    eventually("nothing to ask nodes for", lambda: not requests(scene))


def test_two_workloads_do_not_ask_for_the_same_room(scene: Scene, namespace: str, gpus: None):
    paths = [create(scene, namespace, deployment(app, gpu=True)) for app in ("a", "b")]
    for app in ("a", "b"):
        scene.servers.load(namespace, app, 4 * PER_REPLICA)
        scene.policy(namespace, f"{app}-policy", {"kind": "Deployment", "name": app})
    eventually("all 4 GPUs asked for", lambda: sum(scene.replicas(path) for path in paths) == 4)
    throughout(
        lambda: sum(scene.replicas(path) for path in paths) <= 4, 3.0, "no more replicas than there are GPUs"
    )


def test_another_autoscaler_on_the_target_stops_us_until_it_is_gone(scene: Scene, namespace: str):
    path = create(scene, namespace, deployment("llm"))
    scene.servers.load(namespace, "llm", 2 * PER_REPLICA)
    scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"})
    eventually("2 replicas", lambda: scene.replicas(path) == 2)
    hpas = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    scene.create(
        hpas,
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "rival"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"},
                "minReplicas": 1,
                "maxReplicas": 9,
            },
        },
    )
    eventually("it to be seen", lambda: first_reason(scene, namespace, "llm") == reasons.OTHER_WRITER)
    scene.servers.load(namespace, "llm", 5 * PER_REPLICA)
    throughout(lambda: scene.replicas(path) == 2, 3.0, "2 replicas while somebody else sets them")
    eventually(
        "an Event that names it",
        lambda: any(
            "HorizontalPodAutoscaler rival sets the replicas" in note
            for note in notes(scene, namespace, "llm", event_reasons.SCALING_HELD)
        ),
    )
    scene.cluster.request("DELETE", f"{hpas}/rival")
    eventually("5 replicas once it is gone", lambda: scene.replicas(path) == 5)


def test_one_change_by_hand_is_taken_over_and_a_second_one_stops_us(scene: Scene, namespace: str):
    path = create(scene, namespace, deployment("llm"))
    scene.servers.load(namespace, "llm", 2 * PER_REPLICA)
    window = {"stabilisationSeconds": 300}
    scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"}, scaleDown=window)
    eventually("2 replicas", lambda: scene.replicas(path) == 2)

    def by_hand(replicas: int) -> None:
        scale = {"spec": {"replicas": replicas}}
        scene.cluster.request(
            "PATCH", f"{path}/scale?fieldManager=somebodys-script", scale, content_type=MERGE
        )

    by_hand(4)
    said = "somebodys-script set the replicas from 2 to 4"
    eventually(
        "the change to be reported",
        lambda: any(
            said in note for note in notes(scene, namespace, "llm", event_reasons.REPLICAS_TAKEN_OVER)
        ),
    )
    assert first_reason(scene, namespace, "llm") != reasons.OTHER_WRITER
    eventually(
        "it to be counted",
        lambda: metric(scene, namespace, "slicewise_autoscaler_foreign_changes_total", "llm") == 1,
    )
    scene.servers.load(namespace, "llm", 6 * PER_REPLICA)
    eventually("6 replicas: autoscaling goes on", lambda: scene.replicas(path) == 6)
    by_hand(3)
    eventually("it to stop", lambda: first_reason(scene, namespace, "llm") == reasons.OTHER_WRITER)
    throughout(lambda: scene.replicas(path) == 3, 3.0, "3 replicas, as somebody wants it")


def test_the_idlest_pods_are_those_that_the_controller_manager_deletes(scene: Scene, namespace: str):
    path = create(scene, namespace, deployment("llm", replicas=6))
    pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dllm"

    def ready() -> list[str]:
        found = scene.cluster.request("GET", pods)["items"]
        return sorted(pod["metadata"]["name"] for pod in found if is_ready(pod))

    eventually("6 pods", lambda: len(ready()) == 6)
    everyone = ready()
    loads = dict.fromkeys(everyone, 12.0) | {everyone[1]: 1.0, everyone[4]: 2.0}

    def page(cluster: ControlPlane) -> str:
        lines = []
        for pod in ready():
            labels = f'namespace="{namespace}",pod="{pod}",model_name="m",engine="0"'
            lines.append(f"vllm:num_requests_running{{{labels}}} {loads.get(pod, 0.0)}")
            lines.append(f"vllm:num_requests_waiting{{{labels}}} 0")
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="stop"}} 100')
        return "\n".join(lines) + "\n"

    scene.servers.page = page  # type: ignore[method-assign]
    scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"})
    eventually("4 replicas", lambda: scene.replicas(path) == 4)
    busy = [pod for pod in everyone if loads[pod] == 12.0]
    eventually("the two idlest to be gone", lambda: ready() == busy)


def test_a_queue_outside_the_pods_wakes_a_workload_from_zero(scene: Scene, namespace: str):
    path = create(scene, namespace, deployment("llm", replicas=0))
    queue = {"length": 0.0}

    def page(cluster: ControlPlane) -> str:
        labels = f'namespace="{namespace}",inference_pool="llm",priority="0"'
        return f"inference_extension_flow_control_queue_size{{{labels}}} {queue['length']}\n"

    scene.servers.page = page  # type: ignore[method-assign]
    target = {"kind": "Deployment", "name": "llm"}
    source = {"source": "inference-gateway"}
    scene.policy(namespace, "llm-policy", target, minReplicas=0, server="vllm", outside=source)
    eventually("the quiet queue to be seen", lambda: first_reason(scene, namespace, "llm") == reasons.STEADY)
    throughout(lambda: scene.replicas(path) == 0, 2.0, "no replica while nothing waits")
    queue["length"] = 2.0 * PER_REPLICA
    eventually("2 replicas for those that wait", lambda: scene.replicas(path) == 2)
    eventually(
        "an Event about it",
        lambda: any(
            "requests wait outside the pods" in note
            for note in notes(scene, namespace, "llm", event_reasons.SCALED_UP)
        ),
    )


def test_a_write_is_refused_when_the_count_has_changed_since_it_was_read(
    control_plane: ControlPlane, namespace: str
):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    control_plane.request("POST", path, deployment("llm", replicas=0))
    api = Api.connect(str(control_plane.kubeconfig))
    try:
        targets = Targets(api)
        sight = targets.read(Target("apps/v1", "Deployment", namespace, "llm"))
        labelled = {"metadata": {"labels": {"changed": "meanwhile"}}}
        control_plane.request("PATCH", f"{path}/llm", labelled, content_type=MERGE)
        # Another version of the object, but nobody touched the count.
        assert targets.write(sight, 1).spec.replicas == 1
        with pytest.raises(TargetRefused, match="somebody set 1 replicas meanwhile, not 0") as refused:
            targets.write(sight, 2)
        assert refused.value.cause == "conflict"
        assert targets.read(sight.target).replicas == 1
    finally:
        api.close()
