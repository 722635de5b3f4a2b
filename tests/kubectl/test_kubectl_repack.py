"""``kubectl slicewise repack`` over a snapshot: who would be moved, as a table and as JSON."""

from __future__ import annotations

import json

import pytest

from kubectl_slicewise.__main__ import main
from tests.kubectl.snapshot_objects import a100_node, pod, written

POLICY = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
currency: EUR
carbon: {provider: none}
repack: {savings: false}
"""
CARDS = {"nvidia.com/gpu.count": "4", "nvidia.com/gpu.memory": "81920"}


@pytest.fixture
def write(tmp_path):
    nodes = [a100_node(name, **CARDS) for name in ("a", "b")]
    return lambda *pods: written(tmp_path, nodes, pods, policy=POLICY)


def test_a_move_is_shown_with_its_reason_and_money(write, capsys):
    file = write(
        pod("one", 1, on="a"),
        pod("stays", 1, on="b", annotations={"slicewise.io/repack": "never"}),
        pod("big", 4),
    )
    assert main(["repack", "--from-snapshot", file]) == 0
    out, err = capsys.readouterr()
    assert "repack.mode is dry-run" in out
    row = next(line for line in out.splitlines() if line.startswith("ml/one"))
    assert row.split()[1:3] == ["a", "b"]
    assert "makes room for ml/big" in row
    assert "ml/big then fits on a." in out
    assert "PodDisruptionBudgets" in err


def test_json_carries_the_same(write, capsys):
    file = write(
        pod("one", 1, on="a"),
        pod("stays", 1, on="b", annotations={"slicewise.io/repack": "never"}),
        pod("big", 4),
    )
    assert main(["repack", "--from-snapshot", file, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(move["pod"], move["from"], move["to"], move["for"]) for move in document["moves"]] == [
        ("ml/one", "a", "b", "ml/big")
    ]
    assert document["reliefs"][0]["node"] == "a"
    assert document["moves"][0]["cost"] > 0


def test_what_cannot_be_helped_is_said(write, capsys):
    never = {"annotations": {"slicewise.io/repack": "never"}}
    file = write(pod("one", 1, on="a", **never), pod("two", 1, on="b", **never), pod("big", 4))
    assert main(["repack", "--from-snapshot", file]) == 0
    out = capsys.readouterr().out
    assert "Nothing: no move helps" in out
    assert "ml/big stays waiting: on no admissible node" in out
