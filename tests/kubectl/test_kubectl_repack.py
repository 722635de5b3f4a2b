"""``kubectl slicewise repack`` over a snapshot: who would be moved, as a table and as JSON."""

from __future__ import annotations

import json

import pytest

from kubectl_slicewise.__main__ import main

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "u", "controller": True}


def node(name):
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.memory": "81920",
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"nvidia.com/gpu": "4", "cpu": "64", "memory": "512Gi", "pods": "110"}},
    }


def pod(name, gpus, on="", **meta):
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{**OWNER, "name": name, "uid": f"owner-{name}"}],
            **meta,
        },
        "spec": {
            "nodeName": on,
            "containers": [
                {"name": "c", "image": "m:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
            ],
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


@pytest.fixture
def write(tmp_path):
    def write(*pods):
        file = tmp_path / "snapshot.json"
        document = {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "Snapshot",
            "takenAt": "2026-11-21T09:00:00+00:00",
            "nodes": [node("a"), node("b")],
            "pods": list(pods),
            "policy": "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\ncurrency: EUR\n"
            "carbon: {provider: none}\nrepack: {savings: false}\n",
        }
        file.write_text(json.dumps(document))
        return str(file)

    return write


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
