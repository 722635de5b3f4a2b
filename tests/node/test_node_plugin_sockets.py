"""The kubelet's protocols over real unix sockets, with a handler that answers what the test wants."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from dra.plugin.handler import DeviceHealth, PreparedDevice
from dra.plugin.service import HealthStream
from dra.plugin.sockets import PluginServer, SocketRefused, socket_paths
from tests.node.kubelet_stand_in import KubeletStandIn

DRIVER = "gpu.slicewise.io"
ONE = ("default", "one", "uid-1")
TWO = ("default", "two", "uid-2")


class Answers:
    def __init__(self):
        self.prepared = {"uid-1": (PreparedDevice("gpu", "p/n", "gpu-0", ("v/c=a", "v/c=b"), "share-1"),)}
        self.asked = []

    def prepare(self, claims):
        self.asked.append(("prepare", [c.uid for c in claims]))
        return {c.uid: self.prepared[c.uid] for c in claims if c.uid in self.prepared}

    def unprepare(self, claims):
        self.asked.append(("unprepare", [c.uid for c in claims]))
        return {c.uid: "in use" if c.uid == "uid-2" else "" for c in claims}


@pytest.fixture
def root():
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def served(root, answers):
    health = HealthStream(lambda: served_health)
    server = PluginServer(DRIVER, socket_paths(DRIVER, root / "r", root / "p", "pod-uid"), answers, health)
    server.start()
    yield server, health
    health.close()
    server.stop()


served_health: list[DeviceHealth] = []


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_every_claim_has_its_answer_in_both_versions(root, answers, served, version):
    with KubeletStandIn(root / "r", version) as kubelet:
        info = kubelet.register()
        assert info.endpoint == str(root / "p" / DRIVER / "dra-pod-uid.sock")
        answers.prepared["uid-2"] = "it is not allocated"
        found = kubelet.prepare(ONE, TWO)
        (device,) = found["uid-1"].devices
        assert (list(device.request_names), device.pool_name, device.device_name) == (["gpu"], "p/n", "gpu-0")
        assert list(device.cdi_device_ids) == ["v/c=a", "v/c=b"]
        if version == "v1":
            assert device.share_id == "share-1"
        assert found["uid-2"].error == "it is not allocated"
        assert set(kubelet.prepare(ONE, ("default", "x", "uid-x"))) == {"uid-1", "uid-x"}
        assert {uid: a.error for uid, a in kubelet.unprepare(ONE, TWO).items()} == {
            "uid-1": "",
            "uid-2": "in use",
        }
        assert dict(kubelet.prepare()) == {}
        assert dict(kubelet.unprepare()) == {}


def test_the_kubelets_verdict_is_kept(root, served):
    server, _ = served
    assert not server.registration.registered.is_set()
    with KubeletStandIn(root / "r") as kubelet:
        kubelet.register()
    assert server.registration.registered.is_set()


def test_health_comes_at_once_and_on_every_change_until_the_end(root, served):
    _server, health = served
    served_health[:] = [
        DeviceHealth("p/n", "gpu-0", True, 5),
        DeviceHealth("p/n", "gpu-1", None, 5, "m" * 2000),
    ]
    with KubeletStandIn(root / "r") as kubelet:
        kubelet.register()
        stream = kubelet.health()
        first = next(stream)
        assert [(d.device.device_name, d.health, len(d.message)) for d in first.devices] == [
            ("gpu-0", 1, 0),
            ("gpu-1", 0, 1024),
        ]
        served_health[0] = DeviceHealth("p/n", "gpu-0", False, 6, "XID 79")
        health.notify()
        assert next((d.health, d.message) for d in next(stream).devices) == (2, "XID 79")
        health.close()
        assert list(stream) == []


def test_stopping_removes_the_registration_first_and_both_sockets(root, served):
    server, _ = served
    assert server.present
    server.stop()
    assert not server.present
    assert not list(root.rglob("*.sock"))
    server.stop()


def test_a_socket_that_a_killed_driver_left_is_removed_and_a_living_ones_is_not(root, answers, served):
    dead = root / "r" / f"{DRIVER}-dead-reg.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    other = root / "r" / "other.example.com-reg.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(other))
    health = HealthStream(list)
    second = PluginServer(DRIVER, socket_paths(DRIVER, root / "r", root / "p", "second"), answers, health)
    second.start()
    try:
        assert sorted(p.name for p in (root / "r").iterdir()) == [
            f"{DRIVER}-pod-uid-reg.sock",
            f"{DRIVER}-second-reg.sock",
            "other.example.com-reg.sock",
        ]
    finally:
        second.stop()


def test_a_path_too_long_for_a_unix_socket_is_refused_before_anything_is_made(root):
    with pytest.raises(SocketRefused, match=r"expected at most 107.*--kubelet-root"):
        socket_paths(DRIVER, root / ("r" * 90), root / "p", "")


def test_a_folder_that_cannot_be_made_is_named(root, answers):
    (root / "file").touch()
    paths = socket_paths(DRIVER, root / "file" / "r", root / "p", "")
    with pytest.raises(SocketRefused, match="file"):
        PluginServer(DRIVER, paths, answers, HealthStream(list)).start()
