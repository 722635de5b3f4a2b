"""The node's manifests on the real API server: taken as they are; a token writes its own node's slices."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest

from cluster.client import ApiRefused
from deploy.device_classes import all_classes
from deploy.local.apply import load
from deploy.local.rest import SUCCESS
from node.light_api import Access, LightApi
from tests.node.node_on_apiserver import MANIFESTS, NODE, SLICES, SOON, pod
from tests.node.node_on_apiserver import place as place
from tests.polling import until


@pytest.fixture
def token(control_plane, place):
    """A token of the driver's account, bound to a pod on NODE."""
    pods = "/api/v1/namespaces/slicewise-system/pods"
    document = pod("driver", "slicewise-system", {})
    document["spec"] |= {"nodeName": NODE, "serviceAccountName": "slicewise-node"}
    made = control_plane.request("POST", pods, document)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "driver", "uid": made["metadata"]["uid"]}
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound, "expirationSeconds": 600},
    }
    path = "/api/v1/namespaces/slicewise-system/serviceaccounts/slicewise-node/token"
    yield control_plane.request("POST", path, asked)["status"]["token"]
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    control_plane.request("DELETE", f"{pods}/driver", now, accepted=SUCCESS | {404})


@pytest.fixture
def admission(control_plane):
    """The policy in force."""
    control_plane.apply(MANIFESTS / "node-admission.yaml")
    yield
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}/slicewise-node-slices"
        control_plane.request("DELETE", path)


def slice_of(node, driver="gpu.slicewise.io"):
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"probe-{node}-{driver}"},
        "spec": {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": f"slicewise/{node}", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0"}],
        },
    }


def test_the_daemon_set_is_taken_by_the_api_server(control_plane):
    assert control_plane.apply(MANIFESTS / "node.yaml")
    control_plane.request("DELETE", "/apis/apps/v1/namespaces/slicewise-system/daemonsets/slicewise-node")


def test_examples_are_taken_by_the_api_server(control_plane, namespace):
    for path in sorted((MANIFESTS / "examples").glob("*.yaml")):
        assert control_plane.apply(path, namespace)


def test_the_policy_lets_an_account_write_its_own_nodes_slices_only(control_plane, admission, token):
    context = ssl.create_default_context(cafile=str(control_plane.certificate_authority))
    api = LightApi(lambda: Access(control_plane.url, context, token))

    def refusal(node, driver="gpu.slicewise.io"):
        try:
            api.post(SLICES, slice_of(node, driver))
        except ApiRefused as problem:
            return problem.message
        # By the administrator: the policy may have come into force since.
        control_plane.request("DELETE", f"{SLICES}/probe-{node}-{driver}")
        return ""

    # A policy takes a moment to be in force.
    assert "that node only" in until(lambda: refusal("other-node"), SOON, "the policy")
    assert "gpu.slicewise.io only" in refusal(NODE, "gpu.nvidia.com")
    assert refusal(NODE) == ""
    api.post(SLICES, slice_of(NODE, "gpu.slicewise.io"))
    api.delete(f"{SLICES}/probe-{NODE}-gpu.slicewise.io")
    control_plane.request("POST", SLICES, slice_of("other-node"))
    with pytest.raises(ApiRefused, match="that node only"):
        api.delete(f"{SLICES}/probe-other-node-gpu.slicewise.io")
    control_plane.request("DELETE", f"{SLICES}/probe-other-node-gpu.slicewise.io")


def test_the_classes_are_those_of_the_catalogue():
    assert load(MANIFESTS / "device-classes.yaml") == all_classes()


def test_wrong_usage_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-m", "node", "serve", "--node-name", "n", "--sharing", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
