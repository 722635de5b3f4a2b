"""The DRA driver's DaemonSet as pods of a real kubelet: its manifest, account, token, admission policy."""

from __future__ import annotations

import pytest

from deploy.local.apply import load
from deploy.local.conditions import condition
from dra.slice_parts import SLICEWISE_DRIVER
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import delete, running, seen_inside, until
from tests.kubelet.daemon_pods import MANIFESTS, daemon_pods
from tests.kubelet.driver_rig import SLICES, asks, devices_of, make_device_nodes

NAMESPACE = "slicewise-system"
LABELS = {"slicewise.io/driver": "true"}


@pytest.fixture(scope="module")
def fake(library, tmp_path_factory):
    """An H100 in MIG mode, and a folder that has what its node's /dev and /proc would."""
    folder = tmp_path_factory.mktemp("fake-nvml")
    node = FakeNode.create(folder / "state", "dgx-h100", gpus=1, mig=True)
    make_device_nodes(folder / "root", node)
    return node


@pytest.fixture
def drivers(control_plane, real_node, fake, library):
    """What tells the DaemonSet's pods."""
    names = ("device-classes.yaml", "node-admission.yaml", "node.yaml")
    documents = [one for name in names for one in load(MANIFESTS / name)]
    root = fake.path.parent / "root"
    with daemon_pods(
        control_plane,
        real_node,
        documents,
        fake,
        library,
        labels=LABELS,
        mounted={root / "dev": f"/host{root}/dev"},  # the state's folder is mounted, and /proc with it
        more=(f"--driver-root={root}", f"--proc-root={root / 'proc'}"),
    ) as pods:
        yield pods


def test_it_registers_publishes_and_gives_a_pod_its_instance(
    control_plane, namespace, real_node, fake, drivers
):
    [driver] = until("the DaemonSet has made its pod", lambda: drivers() or None)
    name = driver["metadata"]["name"]
    running(control_plane, NAMESPACE, name)

    def ready():
        return any(condition(one, "Ready") == "True" for one in drivers())

    def published():
        selector = f"?fieldSelector=spec.driver%3D{SLICEWISE_DRIVER},spec.nodeName%3D{real_node.name}"
        return control_plane.request("GET", SLICES + selector)["items"]

    try:
        until("the pod's own probe says that it is ready", ready)
        assert {one["spec"]["pool"]["name"] for one in published()} == {f"slicewise/{real_node.name}"}
        asking = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cut"}}
        control_plane.apply([{**asking, "spec": asks("resource", real_node.name)}], namespace)
        [(_, uuid)] = devices_of(seen_inside(running(control_plane, namespace, "cut"))).items()
        [instance] = fake.instances()
        assert (instance.profile, uuid.startswith("MIG-")) == ("1g.10gb", True)
        delete(control_plane, namespace, "cut")
        until("the instance is given back", lambda: not fake.instances(), 30)
    except AssertionError as failed:
        raise AssertionError(f"{failed}\n{real_node.pod_log(NAMESPACE, name)[-4000:]}") from None
