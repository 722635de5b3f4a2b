"""Snapshots: written and read back, loaded into a fleet, refused with reasons, free of what the scheduler
does not read.
"""

from __future__ import annotations

import gzip
import json

import msgspec
import pytest

from cluster.wire import Node, Pod
from metrics.carbon.intensity import Intensity
from scheduler.fleet import Fleet
from scheduler.snapshot import Snapshot, SnapshotRefused, encode, load, parse, raws, read

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "n1",
        "labels": {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.count": "4", "role": ""},
        "managedFields": [{"manager": "kubelet"}],
    },
    "status": {"allocatable": {"nvidia.com/gpu": "4", "cpu": "64"}},
}
POD = {
    "metadata": {"name": "p", "namespace": "d", "uid": "u1"},
    "spec": {
        "nodeName": "n1",
        "containers": [
            {
                "name": "c",
                "env": [{"name": "TOKEN", "value": "secret"}],
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
            }
        ],
    },
    "status": {"phase": "Running"},
}


def objects(kind, *found):
    return raws([msgspec.json.decode(json.dumps(item), type=kind) for item in found])


@pytest.fixture
def snapshot():
    carbon = {"SE": Intensity("SE", 30.0, "average", 1.0, float("inf"), "static", False)}
    return Snapshot(
        "2026-11-21T09:00:00Z",
        objects(Node, NODE),
        objects(Pod, POD),
        policy="kind: ClusterPolicy\n",
        carbon=carbon,
    )


def test_a_snapshot_reads_back_as_it_was_written(snapshot):
    again = parse(encode(snapshot), "memory")
    assert [bytes(raw) for raw in again.nodes] == [bytes(raw) for raw in snapshot.nodes]
    assert (again.taken_at, again.policy, again.carbon) == (
        snapshot.taken_at,
        snapshot.policy,
        snapshot.carbon,
    )


def test_only_what_the_scheduler_reads_is_kept(snapshot):
    text = encode(snapshot).decode()
    assert "secret" not in text
    assert "managedFields" not in text
    assert json.loads(text)["nodes"][0]["metadata"]["labels"]["role"] == ""


def test_a_fleet_loaded_from_it_knows_the_node_and_what_runs_there(snapshot):
    fleet = Fleet()
    load(parse(encode(snapshot), "memory"), fleet)
    row = fleet.rows["n1"]
    assert fleet.columns.gpu_count[row] == 4
    assert (fleet.columns.occupied[row, :4] == 0).sum() == 3
    assert [pod.node for pod in fleet.facts.pods.values() if pod.demand is not None] == ["n1"]


def test_files_may_be_plain_or_gzipped(snapshot, tmp_path):
    plain, packed = tmp_path / "s.json", tmp_path / "s.json.gz"
    plain.write_bytes(encode(snapshot))
    packed.write_bytes(gzip.compress(encode(snapshot)))
    assert read(plain).taken_at == read(packed).taken_at == snapshot.taken_at


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected the JSON that kubectl slicewise snapshot writes"),
        (b"apiVersion: v1\nkind: List\n", "expected the JSON"),
        (b"[]", "expected the JSON"),
        (b"{}", "kind: got nothing, expected Snapshot; make one with: kubectl slicewise snapshot"),
        (b'{"kind": "NodeList", "apiVersion": "v1", "items": []}', "kind: got NodeList, expected Snapshot"),
        (
            b'{"kind": "Snapshot", "apiVersion": "slicewise.io/v2"}',
            r"apiVersion: got slicewise.io/v2, expected",
        ),
        (b'{"kind": "Snapshot", "apiVersion": "slicewise.io/v1alpha1", "nodes": 7}', r"\$.nodes"),
        (b'{"kind": "Snapshot", "apiVersion": "slicewise.io/v1alpha1", "carbon": {"SE": {}}}', "gramsPerKwh"),
        (b"\x1f\x8bnot gzip", "s.json: "),
    ],
)
def test_what_is_no_snapshot_is_refused_with_reasons(tmp_path, content, words):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(SnapshotRefused, match=words) as refusal:
        read(path)
    assert str(path) in str(refusal.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SnapshotRefused, match=r"No such file.*kubectl slicewise snapshot"):
        read(tmp_path / "absent.json")


def test_an_object_that_does_not_decode_is_named():
    snapshot = Snapshot(nodes=[msgspec.Raw(b'{"metadata": {"name": "n1"}}'), msgspec.Raw(b'{"metadata": 3}')])
    with pytest.raises(SnapshotRefused, match=r"s.json: nodes\[1\].*\$.metadata"):
        load(snapshot, Fleet(), "s.json")


class Lists:
    """An API that serves what it was given, and no resource.k8s.io."""

    def __init__(self, **found):
        self.found = found

    def list_objects(self, path, kind, params=None):
        from cluster.client import ApiRefused

        name = path.rpartition("/")[2]
        if "resource.k8s.io" in path:
            raise ApiRefused(404, "NotFound", "the server could not find the requested resource")
        return [msgspec.json.decode(json.dumps(item), type=kind) for item in self.found.get(name, [])]


def test_a_cluster_without_dra_can_be_taken():
    from scheduler.snapshot import take

    policy = {"metadata": {"name": "slicewise-policy"}, "data": {"policy.yaml": "kind: ClusterPolicy"}}
    api = Lists(nodes=[NODE], pods=[POD], configmaps=[policy])
    found = take(api, "slicewise-system", "2026-11-21T09:00:00Z")
    assert len(found.nodes) == len(found.pods) == 1
    assert found.resource_slices == []
    assert found.policy == "kind: ClusterPolicy"
