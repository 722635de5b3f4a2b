"""``slicewise-node discover`` on the real pynvml over a small stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"


@pytest.fixture(scope="module")
def library_directory(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: the stand-in for NVML cannot be built")
    directory = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-o", str(directory / LIBRARY), str(SOURCE)],
        check=True,
    )
    return directory


def discover(*arguments, library_path=""):
    return subprocess.run(
        [sys.executable, "-m", "dra", "discover", *arguments],
        env={**os.environ, "LD_LIBRARY_PATH": str(library_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_cards_are_listed_with_their_catalogue_model(library_directory):
    done = discover("-o", "json", library_path=library_directory)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first["product"] == "NVIDIA A100-SXM4-80GB"
    assert first["model"] == "A100-80GB"
    assert first["memory_mib"] == 81920
    assert first["mig_enabled"] is True
    assert first["power_watts"] == 61.5
    assert second["uuid"] == "GPU-fake-1"


def test_what_a_card_does_not_support_is_absent_and_not_zero(library_directory):
    _, second = json.loads(discover("-o", "json", library_path=library_directory).stdout)
    assert second["mig_enabled"] is None
    assert second["power_watts"] is None
    assert "not told" in discover(library_path=library_directory).stdout


def test_a_node_without_a_driver_gets_a_clear_message_and_no_traceback(tmp_path):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    done = discover(library_path=tmp_path)
    assert done.returncode == 1
    assert "run this on a GPU node" in done.stderr
    assert "Traceback" not in done.stderr
