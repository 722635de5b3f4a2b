"""The node-report DaemonSet as pods of a real kubelet: its manifest, account, token, admission policy."""

from __future__ import annotations

import pytest

from cluster.client import Api
from deploy.local.apply import load
from deploy.local.rest import SUCCESS
from node.podresources_report import DEFAULT_NAMESPACE, KEY, config_map_name, decode
from scheduler.feed import Feed
from scheduler.fleet import Fleet
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import container, delete, pod, running, until
from tests.kubelet.daemon_pods import MANIFESTS, daemon_pods
from tests.kubelet.device_plugin import DevicePlugin, describe

RESOURCE = "nvidia.com/gpu"
KIND = "test.slicewise.io/gpu"
GPUS = 2
LABELS = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


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


@pytest.fixture
def reporters(control_plane, real_node, fake, library, gpus):
    """What tells the DaemonSet's pods."""
    documents = load(MANIFESTS / "node-report.yaml")
    with daemon_pods(control_plane, real_node, documents, fake, library, labels=LABELS) as pods:
        yield pods


@pytest.fixture
def fleet(control_plane, reporters):
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
    control_plane, namespace, real_node, gpus, reporters, fleet
):
    [reporter] = until("the DaemonSet has made its pod", lambda: reporters() or None)
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
