"""The node-report DaemonSet as pods of a real kubelet: its own manifest, account, token and admission policy.

What the manifest takes for granted and this machine has not is put into the pod template by ``as_here``: an
image (the machine's Python instead), NVIDIA's container runtime (the library is mounted, and it is the fake
one), the admission plugin that mounts a token, and Services. All else is the manifest's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster.client import Api
from deploy.local import images, machine_python
from deploy.local.apply import load
from deploy.local.rest import MERGE_PATCH, SUCCESS
from node.podresources_report import DEFAULT_NAMESPACE, KEY, config_map_name, decode
from scheduler.feed import Feed
from scheduler.fleet import Fleet
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import container, delete, pod, pods, running, until
from tests.kubelet.device_plugin import DevicePlugin, describe
from tests.kubelet.relay import relayed

REPOSITORY = Path(__file__).parents[2]
MANIFEST = REPOSITORY / "deploy" / "manifests" / "node-report.yaml"
RESOURCE = "nvidia.com/gpu"
KIND = "test.slicewise.io/gpu"
IMAGE = "docker.io/library/slicewise:latest"  # what the kubelet makes of the manifest's name
COMMANDS = "/slicewise/bin"
API_NAME = "kubernetes.default.svc"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
DAEMON_SETS = f"/apis/apps/v1/namespaces/{DEFAULT_NAMESPACE}/daemonsets"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RUNTIME_CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
GPUS = 2


@pytest.fixture(scope="module")
def fake(library, tmp_path_factory):
    """Two H100, whole."""
    return FakeNode.create(tmp_path_factory.mktemp("fake-nvml") / "state", "dgx-h100", gpus=GPUS)


@pytest.fixture(scope="module")
def gpus(fake, real_node):
    """Their UUIDs by index, with a CDI file that knows them."""
    values = fake.values()
    uuids = [values[f"gpu.{index}.uuid"] for index in range(GPUS)]
    describe(uuids, KIND, real_node)
    return uuids


def as_here(template, real_node, fake, library, port):
    """The pod template with what this machine lacks."""
    spec = template["spec"]
    volumes, mounts = machine_python.mounts(Path(sys.executable), [REPOSITORY])
    for name, folder in (("library", library.parent), ("cards", fake.path.parent)):
        volumes.append({"name": name, "hostPath": {"path": str(folder)}})
        mounts.append({"name": name, "mountPath": str(folder)})
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    volumes.append({"name": "account", "projected": {"sources": [token, authority]}})
    mounts.append({"name": "account", "mountPath": TOKEN_FOLDER, "readOnly": True})
    environment = {
        **fake.environment(library),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "KUBERNETES_SERVICE_HOST": API_NAME,
        "KUBERNETES_SERVICE_PORT": str(port),
    }
    [report] = spec["containers"]
    report["imagePullPolicy"] = "Never"
    report["env"] += [{"name": name, "value": value} for name, value in environment.items()]
    report["volumeMounts"] += mounts
    spec["volumes"] += volumes
    spec["hostAliases"] = [{"ip": str(real_node.addresses.machine), "hostnames": [API_NAME]}]


@pytest.fixture
def daemon_set(control_plane, real_node, fake, library, gpus):
    """The manifest, all of it, and the runtime class that the GPU operator would have made."""
    command = f'#!/bin/sh\nexec {sys.executable} -m node "$@"\n'.encode()
    path = (COMMANDS, *images.COMMAND_FOLDERS)
    real_node.import_image(machine_python.image(IMAGE, {f"{COMMANDS}/slicewise-node": command}, path))
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
    control_plane.request("POST", RUNTIME_CLASSES, {**runtime, "metadata": {"name": "nvidia"}})
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    control_plane.request(
        "PATCH", f"/api/v1/nodes/{real_node.name}", {"metadata": {"labels": labels}}, MERGE_PATCH
    )
    documents = load(MANIFEST)
    with relayed(str(real_node.addresses.machine), urlsplit(control_plane.url).port) as port:
        for one in documents:
            if one["kind"] == "DaemonSet":
                as_here(one["spec"]["template"], real_node, fake, library, port)
        control_plane.apply(documents)
        yield
        control_plane.request("DELETE", f"{DAEMON_SETS}/slicewise-node-report")
        until("the report's pod is gone", lambda: not pods(control_plane, DEFAULT_NAMESPACE))
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        control_plane.request("DELETE", f"{ADMISSION}/{kind}/slicewise-node-report")
    control_plane.request("DELETE", f"{RUNTIME_CLASSES}/nvidia")


@pytest.fixture
def fleet(control_plane, daemon_set):
    """What the extender knows of the cluster, by its own account's rights."""
    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-scheduler")))
    fleet = Fleet()
    feed = Feed(api, fleet)
    feed.start()
    until("the watches have synced", lambda: feed.synced)
    yield fleet
    feed.stop()
    api.close()


def test_its_report_arrives_and_the_extender_knows_which_gpu_is_free(
    control_plane, namespace, real_node, gpus, daemon_set, fleet
):
    [reporter] = until(
        "the DaemonSet has made its pod", lambda: pods(control_plane, DEFAULT_NAMESPACE) or None
    )
    running(control_plane, DEFAULT_NAMESPACE, reporter["metadata"]["name"])
    path = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/configmaps/{config_map_name(real_node.name)}"

    def held():
        answer = control_plane.request("GET", path, accepted=SUCCESS | {404})
        if answer["kind"] == "Status":
            return None
        return [gpu.held for gpu in decode(answer["data"][KEY]).gpus]

    def taken():
        with fleet.lock:
            row = fleet.rows[real_node.name]
            return [bool(mask) for mask in fleet.columns.occupied[row, :GPUS].tolist()]

    try:
        until("a report of two free GPUs", lambda: held() == [()] * GPUS)
        owners = control_plane.request("GET", path)["metadata"]["ownerReferences"]
        assert [(owner["kind"], owner["name"]) for owner in owners] == [("Node", real_node.name)]
        with DevicePlugin(real_node.device_plugins, RESOURCE, gpus, KIND):
            asking = container(resources={"limits": {RESOURCE: "1"}})
            names = ("one", "two")
            control_plane.apply([pod(name, real_node.name, asking) for name in names], namespace)
            for name in names:
                running(control_plane, namespace, name)
            until("both are reported", lambda: sorted(held()) == [(f"{namespace}/{n}",) for n in names])
            until("the extender knows of both", lambda: taken() == [True, True], 15)
            # Of the pod that stays, first-fit would say that it has the first GPU.
            [(first,), (second,)] = held()
            delete(control_plane, namespace, first.partition("/")[2])
            until("the report forgets the pod", lambda: held() == [(), (second,)], 15)
            until("the extender knows that the first GPU is free", lambda: taken() == [False, True], 15)
            delete(control_plane, namespace, second.partition("/")[2])
    except AssertionError as failed:
        log = real_node.pod_log(DEFAULT_NAMESPACE, reporter["metadata"]["name"])
        raise AssertionError(f"{failed}\n{log[-4000:]}") from None
