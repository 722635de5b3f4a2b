"""A Node of the real API server, and a folder of this machine that stands for its disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from deploy.local.rest import SUCCESS
from tests.polling import until

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
NODE = "gpu-node"
SOON = 20.0


@pytest.fixture
def place(control_plane):
    """A short folder (unix socket paths are short), and a Node."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    until(lambda: not claimed(control_plane), SOON, "the claims of an earlier test to be given back")
    create_nodes(control_plane, [node_manifest(NODE)])
    yield folder
    delete_nodes(control_plane, [NODE])
    for name in own_slices(control_plane):
        control_plane.request("DELETE", f"{SLICES}/{name}", accepted=SUCCESS | {404})
    shutil.rmtree(folder)


def claimed(cluster):
    """The devices of the node that claims of any namespace hold; they outlive their pods for a moment."""
    found = [claim.get("status", {}).get("allocation") for claim in cluster.request("GET", CLAIMS)["items"]]
    results = [one for held in found if held for one in held["devices"]["results"]]
    return [one["device"] for one in results if one["pool"] == f"slicewise/{NODE}"]


def own_slices(cluster):
    found = cluster.request("GET", f"{SLICES}?fieldSelector=spec.nodeName={NODE}")["items"]
    return {item["metadata"]["name"]: item for item in found}


def pod(name, namespace, limits):
    container = {"name": "c", "image": "x", "resources": {"limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container]},
    }
