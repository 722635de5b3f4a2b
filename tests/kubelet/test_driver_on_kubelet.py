"""The DRA driver under a real kubelet: three ways of asking come to MIG instances where first-fit says."""

from __future__ import annotations

import msgspec
import pytest

from dra.classes import device_classes
from dra.inventory import from_slices
from dra.resource_api import ResourceSlice
from dra.turns import in_turn
from kubectl_slicewise.__main__ import main
from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import delete, pod, pods, read_pod, running, seen_inside, until
from tests.kubelet.driver_rig import DriverRig, asks, devices_of, template

PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
SPELLINGS = ("claim", "class", "resource")
WIPED_SECONDS = 30  # after which the kubelet takes the slices of a driver that is gone
WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def classes(control_plane):
    """The driver's device classes."""
    made = device_classes(PROFILES)
    control_plane.apply(made)
    yield
    for one in made:
        control_plane.request("DELETE", f"/apis/resource.k8s.io/v1/deviceclasses/{one['metadata']['name']}")


@pytest.fixture(scope="module")
def rig(control_plane, real_node, classes, tmp_path_factory):
    """The driver, running, over two H100 in MIG mode."""
    if compiler() is None:
        pytest.skip(NO_COMPILER)
    folder = tmp_path_factory.mktemp("gpus")
    fake = FakeNode.create(folder / "state", "dgx-h100", gpus=2, mig=True)
    rig = DriverRig(control_plane, real_node, fake, build_fake(folder), folder / "root")
    rig.start()
    until("the kubelet knows the driver", rig.registered)
    yield rig
    rig.close()


@pytest.fixture
def nothing_left(rig):
    """After the test nothing of it is held: no instance, no CDI file."""
    yield
    until("all instances are given back", lambda: not rig.fake.instances(), 30)
    assert rig.documents() == []


def first_of(rig, node, profile):
    """GPU index and start of the placement that first-fit gives next on the node."""
    slices = [msgspec.convert(one, ResourceSlice) for one in rig.slices()]
    inventory = from_slices(node, slices)
    taken = rig.placements()
    for position in in_turn(inventory.turns, profile, len(inventory.gpus)):
        gpu = inventory.gpus[position]
        for placement in inventory.orders[position]:
            units = set(range(placement.start, placement.start + placement.size))
            held = {
                unit
                for one in rig.fake.instances()
                if one.gpu == gpu.index
                for unit in range(one.start, one.start + one.size)
            }
            if placement.profile == profile and not units & held:
                assert (gpu.index, placement.start) not in taken
                return gpu.index, placement.start
    raise AssertionError(f"no room for {profile}")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_deployment_gets_the_instance_that_first_fit_foretells(
    control_plane, namespace, real_node, rig, nothing_left, spelling
):
    control_plane.apply([template()], namespace)
    expected = first_of(rig, real_node.name, "1g.10gb")
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cut"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "cut"}},
            "template": {"metadata": {"labels": {"app": "cut"}}, "spec": asks(spelling, real_node.name)},
        },
    }
    control_plane.apply([deployment], namespace)
    [made] = until("the Deployment's pod is there", lambda: pods(control_plane, namespace) or None)
    inside = seen_inside(running(control_plane, namespace, made["metadata"]["name"]))
    assert rig.placements() == {expected: "1g.10gb"}
    gpu, start = expected
    [(name, uuid)] = devices_of(inside).items()
    assert name == f"GPU_{gpu}_1G10GB_{start}"
    assert uuid.startswith("MIG-")
    assert inside["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
    paths = {device["path"] for device in inside["devices"]}
    assert {"/dev/nvidiactl", "/dev/nvidia-uvm", f"/dev/nvidia{gpu}"} <= paths
    assert len([path for path in paths if path.startswith("/dev/nvidia-caps/")]) == 2
    assert all(device["opens"] for device in inside["devices"])
    control_plane.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/cut")
    until("the instance is given back", lambda: not rig.fake.instances())


def test_pods_of_one_node_get_instances_side_by_side(control_plane, namespace, real_node, rig, nothing_left):
    names = [f"side-{number}" for number in range(3)]
    for name in names:
        control_plane.apply(
            [{**pod(name, real_node.name), "spec": asks("resource", real_node.name)}], namespace
        )
    seen = [devices_of(seen_inside(running(control_plane, namespace, name))) for name in names]
    assert len({uuid for one in seen for uuid in one.values()}) == 3
    assert list(rig.placements().values()) == ["1g.10gb"] * 3
    for name in names:
        delete(control_plane, namespace, name)


def test_kubectl_slicewise_shows_the_nodes_gpus_links_and_slices(control_plane, real_node, rig, capsys):
    told: list[str] = []

    def shown():
        capsys.readouterr()
        assert main(["nodes", "--kubeconfig", str(control_plane.kubeconfig)]) == 0
        told[:] = [one for one in capsys.readouterr().out.splitlines() if one.startswith(real_node.name)]
        # The claims of pods that have gone are given back a moment after them.
        return any("0/16" in line for line in told)

    until("no unit is in use", shown)
    [line] = told
    for word in ("2 × H100-80GB", "slicewise", f"  {len(rig.slices())}  "):
        assert word in line


def test_a_restarted_kubelet_gets_the_slices_again_and_the_pod_keeps_its_instance(
    control_plane, namespace, real_node, rig, nothing_left
):
    control_plane.apply(
        [{**pod("kept", real_node.name), "spec": asks("resource", real_node.name)}], namespace
    )
    before = devices_of(seen_inside(running(control_plane, namespace, "kept")))
    known = {one["metadata"]["uid"] for one in rig.slices()}
    real_node.stop_kubelet()
    real_node.start_kubelet()
    # The kubelet deletes them when it starts, since it knows no driver yet.
    until("other slices are there", lambda: _others(rig, known), WITHIN_SECONDS)
    after = running(control_plane, namespace, "kept")
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert devices_of(seen_inside(after)) == before
    delete(control_plane, namespace, "kept")


def _others(rig, known):
    found = rig.slices()
    complete = found and len(found) == found[0]["spec"]["pool"]["resourceSliceCount"]
    return bool(complete) and not {one["metadata"]["uid"] for one in found} & known


def test_a_restarted_driver_prepares_and_unprepares_what_the_earlier_one_left(
    control_plane, namespace, real_node, rig, nothing_left
):
    made = {**pod("before", real_node.name), "spec": asks("resource", real_node.name)}
    control_plane.apply([made], namespace)
    before = devices_of(seen_inside(running(control_plane, namespace, "before")))
    known = {one["metadata"]["uid"] for one in rig.slices()}
    rig.stop(grace_seconds=0)
    rig.start()
    until("the kubelet knows the driver again", rig.registered)
    assert {one["metadata"]["uid"] for one in rig.slices()} == known
    made = {**pod("after", real_node.name), "spec": asks("claim", real_node.name)}
    control_plane.apply([template(), made], namespace)
    after = devices_of(seen_inside(running(control_plane, namespace, "after")))
    assert not set(after.values()) & set(before.values())
    delete(control_plane, namespace, "before")
    delete(control_plane, namespace, "after")


def test_slices_that_the_kubelet_took_while_the_driver_was_away_are_published_again(
    control_plane, real_node, rig
):
    rig.stop()
    until("the kubelet has taken the slices", lambda: rig.slices() == [], 2 * WIPED_SECONDS)
    rig.start()
    assert len(rig.slices()) == rig.slices()[0]["spec"]["pool"]["resourceSliceCount"]


def test_two_instances_stand_side_by_side_in_a_rolling_upgrade(
    control_plane, namespace, real_node, rig, nothing_left
):
    rig.stop()
    uids = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
    rig.start("old", pod_uid=uids[0])
    until("the old one is registered", lambda: rig.registered("old"))
    made = {**pod("early", real_node.name), "spec": asks("resource", real_node.name)}
    control_plane.apply([made], namespace)
    early = devices_of(seen_inside(running(control_plane, namespace, "early")))
    known = {one["metadata"]["uid"] for one in rig.slices()}
    rig.start("new", pod_uid=uids[1], wait=False)
    until("the new one is registered", lambda: rig.registered("new"))
    rig.stop("old")
    rig.wait_ready("new")
    made = {**pod("late", real_node.name), "spec": asks("resource", real_node.name)}
    control_plane.apply([made], namespace)
    late = devices_of(seen_inside(running(control_plane, namespace, "late")))
    assert not set(late.values()) & set(early.values())
    delete(control_plane, namespace, "early")
    delete(control_plane, namespace, "late")
    assert {one["metadata"]["uid"] for one in rig.slices()} == known
    rig.stop("new")
    rig.start()


def test_a_sick_gpu_is_tainted_and_its_pod_says_so(control_plane, namespace, real_node, rig):
    # The kubelet shows the health of claims' devices, not of those behind extended resources.
    made = {**pod("sick", real_node.name), "spec": asks("claim", real_node.name)}
    control_plane.apply([template(), made], namespace)
    inside = seen_inside(running(control_plane, namespace, "sick"))
    [name] = devices_of(inside)
    gpu = int(name.split("_")[1])
    rig.fake.xid(gpu, 79)

    def tainted() -> bool:
        devices = [device for one in rig.slices() for device in one["spec"].get("devices", ())]
        sick = [device for device in devices if device["name"].startswith(f"gpu-{gpu}")]
        return bool(sick) and all(device.get("taints") for device in sick)

    until("the GPU's devices are tainted", tainted, 20)

    def told() -> bool:
        found = read_pod(control_plane, namespace, "sick")
        assert found is not None
        statuses = found["status"]["containerStatuses"][0].get("allocatedResourcesStatus") or ()
        return any(
            entry["health"] == "Unhealthy" for status in statuses for entry in status.get("resources", ())
        )

    until("the pod's status says Unhealthy", told, 20)
    delete(control_plane, namespace, "sick")
    until("the instance is given back", lambda: not rig.fake.instances(), 30)
