"""Nodes and pods of a snapshot file, as the API server gives them, and the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "u", "controller": True}


def a100_node(name: str, **labels: str) -> dict[str, Any]:
    """A node of four A100 of 80 GB."""
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", **labels}},
        "status": {"allocatable": {"nvidia.com/gpu": "4", "cpu": "64", "memory": "512Gi", "pods": "110"}},
    }


def pod(name: str, gpus: int, on: str = "", **meta: Any) -> dict[str, Any]:
    """A replica in the namespace ml; ``on``: the node that it runs on, else it waits."""
    limits = {"nvidia.com/gpu": str(gpus)}
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
            "containers": [{"name": "c", "image": "m:1", "resources": {"limits": limits}}],
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


def written(
    folder: Path, nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], **more: Any
) -> str:
    """The path of the snapshot; ``more``: its policy, its carbon."""
    file = folder / "snapshot.json"
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "Snapshot",
        "takenAt": "2026-11-21T09:00:00+00:00",
        "nodes": list(nodes),
        "pods": list(pods),
        **more,
    }
    file.write_text(json.dumps(document))
    return str(file)
