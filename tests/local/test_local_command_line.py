"""`python -m deploy.local`: exit statuses, messages, and a cluster that ends with its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.named import BadName, state_folder
from tests.polling import until

REPOSITORY = Path(__file__).parents[2]
UP_SECONDS = 240.0


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(state), "PYTHONPATH": str(REPOSITORY)}


def local(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *arguments],
        env=environment(state),
        capture_output=True,
        text=True,
        timeout=UP_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["up", "--version", "1.33"], 2, "expected one of 1.34, 1.35, 1.36"),
        (["up", "--name", "../etc"], 2, "expected 1 to 40 lower-case letters"),
        (["status"], 3, "is not running: start it with `up --name default`"),
        (["down", "--name", "other"], 3, "cluster 'other' is not running"),
        (["kubeconfig"], 3, "is not running"),
        (["sideways"], 2, "invalid choice"),
    ],
)
def test_a_mistake_gets_a_status_and_a_message_without_a_traceback(tmp_path, arguments, status, message):
    answer = local(tmp_path, *arguments)
    assert answer.returncode == status
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_status_as_json_says_so_when_nothing_runs(tmp_path):
    answer = local(tmp_path, "status", "--output", "json")
    assert (answer.returncode, json.loads(answer.stdout)) == (3, {"name": "default", "running": False})


def test_state_is_kept_where_xdg_says(tmp_path):
    assert state_folder("a-1", {"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "slicewise" / "local" / "a-1"
    assert state_folder("a", {}) == Path.home() / ".local" / "state" / "slicewise" / "local" / "a"
    with pytest.raises(BadName):
        state_folder("a/b", {})


def gone(pids: list[int]) -> bool:
    return not any(running(pid) for pid in pids)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, and its adoptive parent has not looked yet


def test_a_detached_cluster_is_found_used_and_taken_down(control_plane, tmp_path):
    up = local(tmp_path, "up", "--detach")
    assert up.returncode == 0, up.stderr
    try:
        facts = json.loads(local(tmp_path, "status", "--output", "json").stdout)
        path = local(tmp_path, "kubeconfig").stdout.strip()
        assert facts["running"]
        assert facts["kubeconfig"] == path
        assert json.loads(Path(path).read_text())["clusters"][0]["cluster"]["server"] == facts["url"]
        assert local(tmp_path, "up").returncode == 4
    finally:
        down = local(tmp_path, "down")
    assert down.returncode == 0, down.stderr
    until(lambda: gone([facts["pid"], *facts["processes"].values()]), 30, "the processes to be gone")
    assert not Path(path).exists()


def test_a_killed_owner_takes_every_process_with_it(control_plane, tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "up"],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state = state_folder("default", {"XDG_STATE_HOME": str(tmp_path)}) / "state.json"
    until(lambda: owner.poll() is not None or state.exists(), UP_SECONDS, "the cluster to be up")
    assert owner.poll() is None
    pids = list(json.loads(state.read_text())["processes"].values())
    assert len(pids) == 5
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until(lambda: gone(pids), 30, "the processes to be gone")
    assert local(tmp_path, "status").returncode == 3


def test_binaries_names_every_program_and_where_it_is(control_plane, tmp_path):
    done = local(tmp_path, "binaries")
    assert done.returncode == 0, done.stderr
    paths = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert {"etcd", "kube-apiserver", "kube-scheduler", "kwok", "prometheus"} <= set(paths)
    assert all(Path(path.strip()).is_file() for path in paths.values())
