"""``kubectl slicewise nodes --scale-down | --hints | --overlays`` over a snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_slicewise.__main__ import main
from tests.kubectl.snapshot_objects import a100_node, pod, written

POLICY = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
currency: EUR
scaleDown: {keepFor: ["whole:4"]}
"""
WHERE = {
    "node.kubernetes.io/instance-type": "p4d.24xlarge",
    "topology.kubernetes.io/zone": "z1",
    "topology.kubernetes.io/region": "eu-north-1",
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    nodes = [a100_node(name, **WHERE) for name in ("a", "b")]
    carbon = {"SE": {"gramsPerKwh": 30.0}}
    return lambda *pods: written(tmp_path, nodes, pods, carbon=carbon, policy=POLICY)


def test_scale_down_tells_which_node_may_go_and_which_is_kept(write, capsys):
    assert main(["nodes", "--scale-down", "--from-snapshot", write()]) == 0
    out = capsys.readouterr().out
    assert "scaleDown.mode is dry-run" in out
    lines = {line.split()[0]: line for line in out.splitlines() if line[:2] in ("a ", "b ")}
    assert "may go" in lines["a"]
    assert "10.00" in lines["a"]
    assert "no other node has room for 4 whole GPUs" in lines["b"]


def test_scale_down_as_json_names_the_moves(write, capsys):
    file = write(pod("one", 1, on="a"), pod("two", 1, on="b"))
    assert main(["nodes", "--scale-down", "--from-snapshot", file, "-o", "json"]) == 0
    found = {one["node"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["a"]["verdict"] == "may_go"
    assert found["a"]["moves"] == [{"pod": "ml/one", "to": "b"}]
    assert found["b"]["verdict"] == "in_use"


def test_hints_for_what_waits(write, capsys):
    file = write(pod("x", 4, on="a"), pod("y", 4, on="b"), pod("waits", 2))
    assert main(["nodes", "--hints", "--from-snapshot", file]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("p4d.24xlarge"))
    assert row.split()[1:5] == ["z1", "-", "1", "1"]
    assert "money +10.00" in row


def test_overlays_stand_whatever_waits(write, capsys):
    for pods in ((), (pod("x", 4, on="a"), pod("y", 4, on="b"), pod("waits", 2))):
        assert main(["nodes", "--overlays", "--from-snapshot", write(*pods)]) == 0
        [overlay] = yaml.safe_load_all(capsys.readouterr().out)
        assert overlay["kind"] == "NodeOverlay"
        assert overlay["spec"]["requirements"][0]["values"] == ["p4d.24xlarge"]
        assert float(overlay["spec"]["priceAdjustment"]) > 0.0


def test_no_overlay_is_said_to_be_none(tmp_path, capsys):
    file = written(tmp_path, [a100_node("a", **WHERE)], (), policy=POLICY)
    assert main(["nodes", "--overlays", "--from-snapshot", file]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "no NodeOverlay" in told.err


def test_what_daemon_sets_take_is_not_hinted_to_be_free(write, capsys):
    full = [pod("full-a", 4, on="a"), pod("full-b", 4, on="b")]
    waiting = [pod(f"waits-{number}", 2) for number in range(2)]
    for one in waiting:  # half a node each
        one["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "32"}
    agent = pod("agent", 0, on="a")
    agent["metadata"]["ownerReferences"][0]["kind"] = "DaemonSet"
    agent["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}

    def hint(*pods: dict[str, Any]) -> tuple[int, int]:
        assert main(["nodes", "--hints", "--from-snapshot", write(*pods), "-o", "json"]) == 0
        [found] = json.loads(capsys.readouterr().out)
        return found["replicas"], found["nodes"]

    assert hint(*full, *waiting) == (2, 1)
    assert hint(*full, *waiting, agent) == (2, 2)


def test_nothing_waits_nothing_is_hinted(write, capsys):
    assert main(["nodes", "--hints", "--from-snapshot", write(pod("fits", 1))]) == 0
    assert "nothing waits for room" in capsys.readouterr().out
