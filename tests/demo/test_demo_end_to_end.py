"""The demo itself, shortened, on the real control plane: it ends well, tells its numbers and leaves nothing
behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.report import LINES
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from tests.polling import until

pytestmark = pytest.mark.cluster
WINDOW_SECONDS = 12
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _binaries() -> None:
    try:
        ensure([*CONTROL_PLANE, "prometheus"])
    except BinaryUnavailable as problem:
        pytest.skip(f"no control plane on this machine: {problem}")


def demo(output: Path, temporary: Path, *more: str) -> subprocess.Popen[str]:
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.demo", "--exit", "--window", str(WINDOW_SECONDS)),
            *("--output", str(output), *more),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_under(folder: Path) -> list[str]:
    """Command lines that name the folder: every server of a local cluster does."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def wait_until_gone(folder: Path) -> None:
    until(lambda: not processes_under(folder), 30, f"the processes of {folder} to end")


@pytest.mark.timeout(660)
def test_both_sides_run_and_every_line_is_measured(tmp_path: Path) -> None:
    output, temporary = tmp_path / "demo.json", tmp_path / "t"
    process = demo(output, temporary)
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    found: dict[str, Any] = json.loads(output.read_text())
    assert [line["key"] for line in found["lines"]] == [line.key for line in LINES]
    for side in ("plain", "slicewise"):
        numbers = found["sides"][side]
        assert numbers["pods_placed"] > 0.5 * numbers["pods_created"]
        assert numbers["algorithm_decisions"] > 0
        assert numbers["llm_requests_served"] > 0
        assert numbers["problems"] == []
    # The planned road was taken, and the scheduler honoured most of what was nominated.
    nominations = found["sides"]["slicewise"]["nominations"]
    assert nominations["honoured"] > 0.5 * nominations["written"]
    for line in LINES:
        assert line.name in text
    wait_until_gone(temporary)


@pytest.mark.timeout(600)
def test_an_interrupt_ends_every_process_of_the_demo(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    process = demo(tmp_path / "demo.json", temporary, "--only", "plain")

    def scheduling() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return any("kube-scheduler" in line for line in processes_under(temporary))

    until(scheduling, 60, "the demo's scheduler")
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    wait_until_gone(temporary)
