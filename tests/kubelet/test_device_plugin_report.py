"""Under a device plugin: which MIG instance is whose goes from the kubelet's socket to the API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.apply import load
from deploy.local.rest import SUCCESS
from node.podresources import SOCKET, KubeletAway, PodResources
from node.podresources_report import DEFAULT_NAMESPACE, KEY, config_map_name, decode
from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import container, delete, pod, running, seen_inside, until
from tests.kubelet.device_plugin import DevicePlugin, describe

RESOURCE = "nvidia.com/mig-1g.10gb"
KIND = "test.slicewise.io/mig"
REPOSITORY = Path(__file__).parents[2]
MANIFEST = REPOSITORY / "deploy" / "manifests" / "node-report.yaml"
LEFT_OUT = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "DaemonSet")


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """A node of one H100 cut into seven; its environment."""
    if compiler() is None:
        pytest.skip(NO_COMPILER)
    folder = tmp_path_factory.mktemp("fake-nvml")
    library = build_fake(folder)
    node = FakeNode.create(folder / "state", "dgx-h100", gpus=1, mig=True)
    return node, {**os.environ, **node.environment(library)}


@pytest.fixture(scope="module")
def instances(fake, real_node):
    """UUIDs of the seven instances by start, with a CDI file that knows them."""
    _, environment = fake
    script = (
        "import json\n"
        "from dra.nvml import open_cards\n"
        "cards = open_cards(); card = cards.cards()[0]; profile = card.profile_named('1g.10gb')\n"
        "made = [cards.create(card.uuid, profile.profile_id, start) for start in range(7)]\n"
        "print(json.dumps({one.start: one.mig_uuid for one in made}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    uuids = {int(start): uuid for start, uuid in json.loads(done.stdout).items()}
    describe(tuple(uuids.values()), KIND, real_node)
    return uuids


def test_the_report_names_the_pods_instance_until_the_pod_is_gone(
    control_plane, namespace, real_node, fake, instances
):
    # All but the admission policy, which reads the node's name from a pod's token, and the pod itself.
    ours = [one for one in load(MANIFEST) if one["kind"] not in LEFT_OUT]
    control_plane.apply(ours)
    account = control_plane.kubeconfig_for("slicewise-node-report", DEFAULT_NAMESPACE)
    argv = [
        *(sys.executable, "-m", "node", "report", "--node-name", real_node.name),
        *("--kubeconfig", str(account), "--kubelet-root", str(real_node.kubelet_folder)),
        *("--period-seconds", "0.1"),
    ]
    path = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/configmaps/{config_map_name(real_node.name)}"

    def held():
        answer = control_plane.request("GET", path, accepted=SUCCESS | {404})
        if answer["kind"] == "Status":
            return None
        [gpu] = decode(answer["data"][KEY]).gpus
        return {one.uuid: one.held for one in gpu.instances}

    real_node.processes.start("report", argv, {**fake[1], "PYTHONPATH": str(REPOSITORY)})
    try:
        with DevicePlugin(real_node.device_plugins, RESOURCE, sorted(instances.values()), KIND):
            asking = container(resources={"limits": {RESOURCE: "1"}})
            control_plane.apply([pod("cut", real_node.name, asking)], namespace)
            inside = seen_inside(running(control_plane, namespace, "cut"))
            given = inside["environment"]["GIVEN"]
            assert inside["devices"] == [{"path": "/dev/nvidia0", "major": 1, "minor": 3, "opens": True}]
            want = dict.fromkeys(instances.values(), ()) | {given: (f"{namespace}/cut",)}
            until("the report names the pod", lambda: held() == want, 15)
            delete(control_plane, namespace, "cut")
            until("the report forgets the pod", lambda: held() == dict.fromkeys(want, ()), 15)
    except AssertionError as failed:
        raise AssertionError(f"{failed}\n{real_node.processes.log_tail('report')}") from None
    finally:
        real_node.processes.stop(["report"], 5.0)


def test_a_socket_without_a_kubelet_says_what_to_look_at(tmp_path):
    client = PodResources(tmp_path / SOCKET)
    with pytest.raises(KubeletAway, match="is the kubelet running"):
        client.held()
    client.close()


def test_the_manifest_is_taken_by_the_api_server(control_plane):
    """Every object, by a dry run of the whole and then for real but for the pods."""
    made = control_plane.apply([one for one in load(MANIFEST) if one["kind"] != "DaemonSet"])
    policy = next(one for one in made if one["kind"] == "ValidatingAdmissionPolicy")
    path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{policy['metadata']['name']}"

    def typed():
        return control_plane.request("GET", path).get("status", {}).get("typeChecking")

    # The API server checks the expressions' types after it has taken the policy.
    checked = until("the policy's expressions are checked", lambda: typed() is not None and [typed()], 20)
    assert not checked[0].get("expressionWarnings")
    for one in made:
        if one["kind"].startswith("ValidatingAdmissionPolicy"):
            plural = {"ValidatingAdmissionPolicy": "validatingadmissionpolicies"}
            kind = plural.get(one["kind"], "validatingadmissionpolicybindings")
            control_plane.request(
                "DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}/{one['metadata']['name']}"
            )
    daemons = next(one for one in load(MANIFEST) if one["kind"] == "DaemonSet")
    where = f"/apis/apps/v1/namespaces/{DEFAULT_NAMESPACE}/daemonsets?dryRun=All"
    control_plane.request("POST", where, daemons)
