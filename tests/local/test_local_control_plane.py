"""The real control plane: what it serves, who may do what, and that two of them do not meet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.local.apply import ManifestRefused
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from deploy.local.processes import ServerFailed
from deploy.local.rest import JSON, MERGE_PATCH, RequestRefused, plain_get
from deploy.local.versions import programs
from tests.polling import until

WAIT_SECONDS = 30.0


def wait_for(look: Callable[[], Any], what: str) -> Any:
    return until(look, WAIT_SECONDS, what, every_seconds=0.03)


def pod_manifest(name: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {f"slicewise.io/{k}": v for k, v in annotations.items()}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"test": "local"},
            "containers": [
                {"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
            ],
        },
    }


def phase(cluster: ControlPlane, namespace: str, name: str) -> str:
    return str(cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")["status"]["phase"])


@pytest.fixture(scope="module")
def node(control_plane):
    manifest = node_manifest("local-node", labels={"test": "local"}, allocatable={"nvidia.com/gpu": "4"})
    create_nodes(control_plane, [manifest])
    yield "local-node"
    delete_nodes(control_plane, ["local-node"])


def test_the_pinned_version_is_served(control_plane):
    version = control_plane.request("GET", "/version")
    assert version["gitVersion"] == f"v{programs('1.36')['kube-apiserver'].version}"
    assert (version["major"], version["minor"]) == ("1", "36")


def test_dynamic_resource_allocation_is_served(control_plane):
    listing = control_plane.request("GET", "/apis/resource.k8s.io/v1")
    kinds = {resource["kind"] for resource in listing["resources"]}
    assert {"ResourceSlice", "ResourceClaim", "ResourceClaimTemplate", "DeviceClass"} <= kinds


def test_a_node_keeps_the_hardware_of_its_manifest_and_becomes_ready(control_plane, node):
    status = control_plane.request("GET", f"/api/v1/nodes/{node}")["status"]
    assert status["allocatable"]["nvidia.com/gpu"] == "4"
    assert {"Ready": "True"}.items() <= {
        item["type"]: item["status"] for item in status["conditions"]
    }.items()


def test_a_pod_is_scheduled_and_becomes_running_and_ready(control_plane, node, namespace):
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod_manifest("quick"))
    wait_for(lambda: phase(control_plane, namespace, "quick") == "Running", "pod running")

    def ready() -> Any:
        pod = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods/quick")
        return pod if condition(pod, "Ready") == "True" else None

    pod = wait_for(ready, "pod ready")
    assert pod["spec"]["nodeName"] == node
    assert pod["status"]["podIP"]


def test_annotations_set_how_long_a_pod_starts_and_runs(control_plane, node, namespace):
    manifest = pod_manifest("slow", **{"demo-startup-seconds": "1.5", "demo-run-seconds": "0.2"})
    began = time.monotonic()
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", manifest)
    wait_for(lambda: phase(control_plane, namespace, "slow") == "Succeeded", "pod done")
    assert time.monotonic() - began >= 1.5


def test_a_deleted_pod_goes_at_once(control_plane, node, namespace):
    path = f"/api/v1/namespaces/{namespace}/pods"
    control_plane.request("POST", path, pod_manifest("doomed"))
    wait_for(lambda: phase(control_plane, namespace, "doomed") == "Running", "pod running")
    control_plane.request("DELETE", f"{path}/doomed")
    wait_for(lambda: not control_plane.request("GET", path)["items"], "pod gone")


def test_a_deployment_gets_its_pods(control_plane, node, namespace):
    spec = pod_manifest("unused")["spec"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "server"}},
            "template": {"metadata": {"labels": {"app": "server"}}, "spec": spec},
        },
    }
    control_plane.apply([deployment], namespace)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/server"
    wait_for(lambda: control_plane.request("GET", path)["status"].get("readyReplicas") == 2, "two replicas")


def allowed(
    cluster: ControlPlane, component: str, verb: str, resource: str, namespace: str = "default"
) -> bool:
    """What the API server says of the component's rights; `resource` is `group/plural/subresource`."""
    group, plural, subresource = [*resource.split("/"), ""][:3]
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    if subresource:
        attributes["subresource"] = subresource
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    with cluster.connect(component) as connection:
        answer = connection.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(
    ("component", "verb", "resource", "expected"),
    [
        ("slicewise-scheduler", "watch", "/pods", True),
        ("slicewise-scheduler", "list", "resource.k8s.io/resourceslices", True),
        ("slicewise-scheduler", "create", "events.k8s.io/events", True),
        ("slicewise-scheduler", "delete", "/nodes", False),
        ("slicewise-scheduler", "patch", "/pods/status", False),
        ("slicewise-scheduler", "list", "/secrets", False),
        ("slicewise-scheduler", "list", "/configmaps", False),
        ("slicewise-controller", "list", "/configmaps", True),
        ("slicewise-controller", "patch", "/pods/status", True),
        ("slicewise-controller", "patch", "/pods", True),
        ("slicewise-controller", "update", "apps/deployments/scale", True),
        ("slicewise-controller", "update", "apps/deployments", False),
        ("slicewise-controller", "create", "coordination.k8s.io/leases", False),
        ("slicewise-controller", "delete", "/pods", False),
        ("slicewise-node", "create", "resource.k8s.io/resourceslices", True),
        ("slicewise-node", "list", "/pods", False),
    ],
)
def test_each_component_has_its_own_rights(control_plane, component, verb, resource, expected):
    # The controller manager puts the aggregated role together after the start.
    look = lambda: allowed(control_plane, component, verb, resource) is expected  # noqa: E731
    wait_for(look, f"{component} may {'' if expected else 'not '}{verb} {resource}")


@pytest.mark.parametrize(
    ("component", "verb", "resource"),
    [
        ("slicewise-scheduler", "watch", "/configmaps"),
        ("slicewise-controller", "update", "coordination.k8s.io/leases"),
    ],
)
def test_policy_and_lease_are_reached_in_the_add_ons_namespace(control_plane, component, verb, resource):
    assert allowed(control_plane, component, verb, resource, "slicewise-system")


def test_the_scheduler_may_not_delete_a_node(control_plane, node):
    with (
        control_plane.connect("slicewise-scheduler") as connection,
        pytest.raises(RequestRefused, match=r"slicewise-scheduler.*cannot delete resource") as refused,
    ):
        connection.request("DELETE", f"/api/v1/nodes/{node}")
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")


def test_a_labelled_role_lets_the_controller_scale_a_further_kind(control_plane):
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "scale-example",
            "labels": {"slicewise.io/aggregate-to-scale-targets": "true"},
        },
        "rules": [
            {
                "apiGroups": ["example.test"],
                "resources": ["models/scale"],
                "verbs": ["get", "update", "patch"],
            }
        ],
    }
    assert not allowed(control_plane, "slicewise-controller", "update", "example.test/models/scale")
    control_plane.apply([role])
    wait_for(
        lambda: allowed(control_plane, "slicewise-controller", "update", "example.test/models/scale"),
        "the role is aggregated",
    )
    control_plane.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles/scale-example")


def test_the_kubeconfig_of_a_component_is_private_and_names_it(control_plane):
    path = control_plane.kubeconfig_for("slicewise-controller")
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["users"][0]["name"].endswith(":slicewise-controller")


def test_applying_twice_changes_nothing_and_once_more_takes_the_new_value(control_plane, namespace):
    def document(value: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "example"},
            "data": {"key": value},
        }

    (first,) = control_plane.apply([document("one")], namespace)
    (again,) = control_plane.apply([document("one")], namespace)
    (changed,) = control_plane.apply([document("two")], namespace)
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    assert changed["data"] == {"key": "two"}


def test_a_manifest_that_the_api_server_refuses_is_named_with_the_reason(control_plane):
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not A Name"}}
    with pytest.raises(ManifestRefused, match=r"ConfigMap Not A Name was refused.*Invalid value"):
        control_plane.apply([document])


def test_a_file_that_holds_no_objects_is_named(control_plane, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("just: words\n")
    with pytest.raises(ManifestRefused, match=r"wrong\.yaml, document 1: expected apiVersion"):
        control_plane.apply(path)


def test_a_restarted_scheduler_uses_its_new_profiles(control_plane, node, namespace):
    path = f"/api/v1/namespaces/{namespace}/pods"
    manifest = pod_manifest("particular")
    manifest["spec"]["schedulerName"] = "particular"
    control_plane.start_scheduler({"profiles": [{"schedulerName": "other"}]}, name="second-scheduler")
    try:
        control_plane.restart_scheduler(
            {"profiles": [{"schedulerName": "particular"}]}, name="second-scheduler"
        )
        control_plane.request("POST", path, manifest)
        wait_for(lambda: phase(control_plane, namespace, "particular") == "Running", "pod running")
        attempt = 'scheduler_schedule_attempts_total{profile="particular",result="scheduled"} 1'
        wait_for(lambda: attempt in control_plane.scheduler_metrics("second-scheduler"), "it is counted")
    finally:
        control_plane.stop_scheduler("second-scheduler")


def test_a_wrong_scheduler_configuration_fails_with_the_schedulers_own_words(control_plane):
    with pytest.raises(
        ServerFailed, match=r"(?s)odd-scheduler ended with status 1.*percentageOfNodesToScore"
    ):
        control_plane.start_scheduler({"percentageOfNodesToScore": 300}, name="odd-scheduler")


def test_prometheus_scrapes_the_scheduler(control_plane):
    url = control_plane.start_prometheus([control_plane.scheduler_scrape_config()])
    try:

        def up() -> bool:
            answer = json.loads(plain_get(f"{url}/api/v1/query?query=up"))
            return [item["value"][1] for item in answer["data"]["result"]] == ["1"]

        wait_for(up, "the scheduler is scraped")
    finally:
        control_plane.processes.stop(["prometheus"], 5.0)


def test_two_clusters_run_side_by_side_and_know_nothing_of_each_other(control_plane, namespace):
    with ControlPlane() as other:
        assert other.url != control_plane.url
        names = [item["metadata"]["name"] for item in other.request("GET", "/api/v1/namespaces")["items"]]
        assert namespace not in names
        pids = list(other.processes.pids.values())
        directory = other.directory
        with pytest.raises(ServerFailed, match="started already"):
            other.start()
    assert not directory.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    patch = {"metadata": {"labels": {"still": "here"}}}
    control_plane.request("PATCH", f"/api/v1/namespaces/{namespace}", patch, MERGE_PATCH)


def test_a_server_that_does_not_come_up_leaves_nothing_behind(tmp_path):
    cluster = ControlPlane(directory=tmp_path, extra_arguments={"kube-apiserver": ["--no-such-flag"]})
    with pytest.raises(
        ServerFailed, match=r"(?s)kube-apiserver ended with status 1.*unknown flag: --no-such-flag"
    ):
        cluster.start()
    with pytest.raises(ServerFailed, match="is not running"):
        _ = cluster.processes


def test_the_connection_comes_back_after_the_server_closed_it(control_plane):
    with control_plane.connect() as connection:
        connection.request("GET", "/version")
        connection.close()
        assert connection.request("GET", "/version", content_type=JSON)["major"] == "1"
