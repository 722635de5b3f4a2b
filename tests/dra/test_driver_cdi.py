"""CDI documents: device nodes of GPUs and MIG capabilities, what is merged in, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dra.driver.cdi_files import CdiFolder, DeviceNodeMissing
from dra.driver.checkpoint import ClaimRecord, HeldDevice
from dra.driver.hardware import assign_numbers, hardware
from dra.driver.sharing import Sharing
from tests.dra.memory_cards import POOL, card

CARDS = (card(0, minor=3), card(1, mig=False, minor=4), card(2, mig=False, minor=None))
NODE = hardware(CARDS, assign_numbers({}, CARDS, ()), Sharing(), {})
MIG = HeldDevice(
    "r", POOL, "gpu-0-1g10gb-6", "GPU-0", 6, 1, 19, "1g.10gb", gpu_instance_id=9, compute_instance_id=0
)
WHOLE = HeldDevice("r", POOL, "gpu-1", "GPU-1")


def record(*devices):
    return ClaimRecord("uid-1", "default", "claim", "prepared", devices)


@pytest.fixture
def root(tmp_path):
    """A host with device nodes (plain files here) and MIG capabilities."""
    dev, instance = tmp_path / "dev", tmp_path / "proc/driver/nvidia/capabilities/gpu3/mig/gi9"
    (dev / "nvidia-caps").mkdir(parents=True)
    for name in (
        "nvidiactl",
        "nvidia-uvm",
        "nvidia3",
        "nvidia4",
        "nvidia-caps/nvidia-cap66",
        "nvidia-caps/nvidia-cap67",
    ):
        (dev / name).touch()
    (instance / "ci0").mkdir(parents=True)
    (instance / "access").write_text("DeviceFileMinor: 66\nDeviceFileMode: 256\nDeviceFileModify: 1\n")
    (instance / "ci0" / "access").write_text("DeviceFileMinor: 67\nDeviceFileMode: 256\n")
    return tmp_path


def written(root, *devices, **options):
    options = {"driver_root": root, "proc_root": root / "proc"} | options
    folder = CdiFolder(root / "cdi", **options)
    folder.write(record(*devices), NODE)
    return json.loads((root / "cdi" / "k8s.gpu.slicewise.io-claim_uid-1.json").read_text())


def paths(edits):
    return [node["path"] for node in edits["deviceNodes"]]


def test_a_mig_device_has_its_gpus_node_and_both_capabilities(root):
    found = written(root, MIG)
    assert paths(found["containerEdits"]) == ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    (device,) = found["devices"]
    assert paths(device["containerEdits"]) == [
        "/dev/nvidia3",
        "/dev/nvidia-caps/nvidia-cap66",
        "/dev/nvidia-caps/nvidia-cap67",
    ]
    assert device["containerEdits"]["deviceNodes"][0]["hostPath"] == str(root / "dev/nvidia3")


def test_a_whole_gpu_has_its_node_alone_and_each_device_its_own_variable(root):
    found = written(root, MIG, WHOLE)
    assert [d["name"] for d in found["devices"]] == ["uid-1-gpu-0-1g10gb-6", "uid-1-gpu-1"]
    assert paths(found["devices"][1]["containerEdits"]) == ["/dev/nvidia4"]
    assert found["devices"][1]["containerEdits"]["env"] == ["SLICEWISE_DEVICE_GPU_1=GPU-1"]
    assert found["kind"] == "k8s.gpu.slicewise.io/claim"
    assert found["cdiVersion"] == "0.6.0"


def test_the_hosts_path_is_the_hosts_where_its_root_is_mounted_elsewhere(root):
    found = written(root, WHOLE, driver_root=Path("/"), host_root=root)
    assert found["devices"][0]["containerEdits"]["deviceNodes"] == [{"path": "/dev/nvidia4"}]


@pytest.mark.parametrize("gone", ["dev/nvidia-uvm", "dev/nvidia3", "dev/nvidia-caps/nvidia-cap67"])
def test_a_missing_device_node_is_named(root, gone):
    (root / gone).unlink()
    with pytest.raises(DeviceNodeMissing, match=str(root / gone)):
        written(root, MIG)
    written(root, MIG, allow_missing=True)


def test_a_missing_or_strange_capability_is_named(root):
    access = root / "proc/driver/nvidia/capabilities/gpu3/mig/gi9/access"
    access.write_text("nothing\n")
    with pytest.raises(DeviceNodeMissing, match="DeviceFileMinor"):
        written(root, MIG)
    access.unlink()
    with pytest.raises(DeviceNodeMissing, match="No such file"):
        written(root, MIG)


def test_a_gpu_whose_minor_is_not_told_is_refused(root):
    with pytest.raises(DeviceNodeMissing, match="minor number"):
        written(root, HeldDevice("r", POOL, "gpu-2", "GPU-2"))


def test_the_base_documents_common_edits_are_added_once(root):
    base = {
        "cdiVersion": "0.7.0",
        "kind": "nvidia.com/gpu",
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=all", "LANG=C"],
            "deviceNodes": [{"path": "/dev/nvidiactl"}, {"path": "/dev/nvidia-modeset"}],
            "mounts": [{"hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/usr/lib/libcuda.so.1"}],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}] * 2,
        },
    }
    found = written(root, WHOLE, base=base)
    edits = found["containerEdits"]
    assert edits["env"] == ["NVIDIA_VISIBLE_DEVICES=void", "LANG=C"]
    assert paths(edits) == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-modeset"]
    assert len(edits["hooks"]) == 2
    assert len(edits["mounts"]) == 1
    assert found["cdiVersion"] == "0.7.0"


def test_documents_are_found_and_removed_by_claim(root):
    written(root, WHOLE)
    (root / "cdi" / "other.json").touch()
    folder = CdiFolder(root / "cdi")
    assert folder.claims() == {"uid-1"}
    assert folder.exists("uid-1")
    folder.remove("uid-1")
    folder.remove("uid-1")
    assert [p.name for p in (root / "cdi").iterdir()] == ["other.json"]
