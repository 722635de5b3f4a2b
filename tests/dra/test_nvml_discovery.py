"""``slicewise-node discover`` as a process, on the real pynvml over the fake driver library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.state import FakeNode


def discover(*arguments, environment):
    return subprocess.run(
        [sys.executable, "-m", "node", "discover", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def told(*arguments, environment):
    done = discover("-o", "json", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_tells_what_the_cards_of_a_dgx_are_and_how_they_are_wired(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", mig=(0,))
    found = told("--sys", node.system_files(tmp_path / "sys"), environment=node.environment(library))
    assert found["schema"] == "slicewise.io/discover/v1"
    assert found["driver"] == {"driver": "570.124.06", "nvml": "12.570.124.06", "cuda": [12, 8]}
    first, second = found["gpus"][:2]
    assert len(found["gpus"]) == 8
    assert first["product"] == "NVIDIA H100 80GB HBM3"
    assert first["model"] == "H100-80GB"
    assert first["placement_status"] == "told by the card"
    assert (first["mig_capable"], first["mig_enabled"]) == (True, True)
    assert (second["mig_capable"], second["mig_enabled"]) == (True, False)
    assert (first["pcie_root"], first["numa_node"], first["minor"]) == ("pci0000:15", 0, 0)
    assert first["island"] == list(range(8))
    assert found["topology"]["kind"] == "nvswitch"
    assert found["topology"]["gigabytes_per_second"][0][7] == 900.0
    assert found["differences"] == []


def test_the_table_is_for_people(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "a100-pcie-pairs", mig=(2,))
    node.set("gpu.2.gi.1", "2 4 4")
    done = discover(environment=node.environment(library))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    headings = ["GPU", "PRODUCT", "MEMORY", "MIG", "INSTANCES", "NVLINK", "CLIQUE", "PCIE", "ROOT"]
    assert lines[0].split() == [*headings, "NUMA", "WATTS", "HEALTH"]
    assert "0,1 bridges" in lines[1]
    assert "3g.40gb@4 (half-made)" in lines[3]
    assert "2,3 bridges" in lines[3]
    assert "62/300" in lines[1]
    assert lines[-1] == "- : the card or its driver does not tell."


def test_what_a_card_does_not_support_is_null_and_not_zero(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=1)
    node.unsupported(
        0, "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetSerial"
    )
    (card,) = told(environment=node.environment(library))["gpus"]
    for fact in ("mig_enabled", "power_watts", "energy_millijoules", "serial", "fabric", "pcie_root"):
        assert card[fact] is None, fact
    assert card["mig_capable"] is False
    assert card["health"] == {"state": "healthy", "reasons": []}


def test_a_capture_holds_every_call_with_its_raw_answer(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-a100", gpus=2, mig=(0,))
    file = tmp_path / "capture.json"
    done = discover("--capture", file, environment=node.environment(library))
    assert done.returncode == 0, done.stderr
    capture = json.loads(file.read_text())
    assert capture["schema"] == "slicewise.io/nvml-capture/v1"
    calls = {(call["call"], str(call["arguments"][:2])): call for call in capture["calls"]}
    assert calls["nvmlDeviceGetHandleByIndex", "[1]"]["answer"] == "gpu 1"
    profile = calls["nvmlDeviceGetGpuInstanceProfileInfo", "['gpu 0', 0]"]["answer"]
    assert (profile["id"], profile["name"]) == (19, "MIG 1g.10gb")
    # Structures that NVML fills in are taken after the call.
    places = [c for c in capture["calls"] if c["call"] == "nvmlDeviceGetGpuInstancePossiblePlacements"]
    assert places[1]["arguments"][2][-1] == {"start": 6, "size": 1}
    assert {call["error"] for call in capture["calls"] if "error" in call} <= {2, 3, 6}
    assert all(call["microseconds"] >= 0 for call in capture["calls"])


def test_a_capture_that_cannot_be_written_is_said_plainly(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=1)
    done = discover("--capture", tmp_path / "no" / "folder", environment=node.environment(library))
    assert done.returncode == 1
    assert "cannot write the capture" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_the_placements_are_the_catalogues_and_instances_are_not_told(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=1, mig=True)
    node.unprivileged()
    done = discover(environment=node.environment(library))
    assert done.returncode == 0, done.stderr
    assert "GPU 0: the card may not be asked for placements without root" in done.stdout
    (card,) = told(environment=node.environment(library))["gpus"]
    assert (card["placements_told"], card["live_told"]) == (False, False)
    assert card["profiles"][0]["starts"] == list(range(7))


def test_a_lost_card_is_listed_and_the_others_are_read(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=3)
    node.lose(1)
    done = discover(environment=node.environment(library))
    assert done.returncode == 0, done.stderr
    assert "GPU 1: the card is lost" in done.stdout
    assert done.stdout.count("NVIDIA L40S") == 2


@pytest.mark.parametrize("folder", ["no library at all", "a driver that is not loaded"])
def test_a_node_without_a_driver_gets_a_clear_message_and_no_traceback(library, tmp_path, folder):
    if folder == "no library at all" and shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    path = tmp_path if folder == "no library at all" else library.parent
    environment = {"LD_LIBRARY_PATH": str(path), "FAKE_NVML_STATE": str(tmp_path / "none")}
    done = discover(environment=environment)
    assert done.returncode == 1
    assert "run this on a GPU node" in done.stderr
    assert "Traceback" not in done.stderr
