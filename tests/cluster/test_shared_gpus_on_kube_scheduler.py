"""Two pods share one GPU by our driver's slices: the real scheduler allocates, the extender counts and
prices it.
"""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import node_manifest
from deploy.local.rest import SUCCESS
from tests.cluster.test_extender_on_kube_scheduler import (
    ROOT,
    SCHEDULER,
    bound,
    create,
    extender,
    nodes,
    post,
    scheduler,
    write_policy,
)
from tests.dra.driver_slices import driver_documents
from tests.dra.memory_cards import card
from tests.polling import until

pytestmark = pytest.mark.cluster

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
CHEAP, DEAR = "shared-cheap", "shared-dear"
SHARING = ({"model": "H100-80GB", "mode": "time-slicing", "shares": 2},)


def asking(name: str, claim: str | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "model:1"}
    spec = {"schedulerName": SCHEDULER, "terminationGracePeriodSeconds": 0, "containers": [container]}
    if claim is None:
        container["resources"] = {"limits": {"nvidia.com/gpu.shared": "1"}}
    else:
        spec["resourceClaims"] = [{"name": "gpu", "resourceClaimName": claim}]
        container["resources"] = {"claims": [{"name": "gpu"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_two_pods_share_the_cheaper_gpu_until_it_is_full(control_plane: ControlPlane, namespace: str) -> None:
    cluster = control_plane
    write_policy(cluster, namespace, terms={"carbon": 0.0, "money": 1.0, "fragmentation": 0.0})
    classes = cluster.apply(ROOT / "deploy" / "manifests" / "device-classes.yaml")
    claims = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"

    def results() -> list[dict[str, Any]]:
        found = cluster.request("GET", claims)["items"]
        given = [one["status"]["allocation"] for one in found if one.get("status", {}).get("allocation")]
        return [result for one in given for result in one["devices"]["results"]]

    def refused() -> dict[str, str]:
        third = asking("third")
        third["metadata"].update(namespace=namespace, uid="third")
        answer = post(port, "/scheduler/filter", {"Pod": third, "NodeNames": [CHEAP]})
        return {**(answer.get("FailedNodes") or {}), **(answer.get("FailedAndUnresolvableNodes") or {})}

    documents = [
        document
        for name in (CHEAP, DEAR)
        for document in driver_documents(name, card(0, mig=False), shared=SHARING)
    ]
    port = cluster.claim_port()
    with nodes(cluster, [node_manifest(DEAR), node_manifest(CHEAP, labels={"price": "cheap"})]):
        for document in documents:
            cluster.request("POST", SLICES, document)
        try:
            with extender(cluster, namespace, port), scheduler(cluster, port):
                exactly = {"deviceClassName": "gpu-shared.slicewise.io", "count": 1}
                spec = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
                claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": spec}
                cluster.request("POST", claims, {**claim, "metadata": {"name": "one"}})
                create(cluster, namespace, asking("first", "one"))
                create(cluster, namespace, asking("second"))
                until(lambda: len(bound(cluster, namespace)) == 2, 30, "both pods bound")
                assert set(bound(cluster, namespace).values()) == {CHEAP}
                until(lambda: len(results()) == 2, 10, "two allocations")
                allocated = results()
                assert {result["device"] for result in allocated} == {"gpu-0"}
                assert len({result["shareID"] for result in allocated}) == 2
                assert {result["consumedCapacity"]["share"] for result in allocated} == {"1"}
                text = "needs 1 shared GPU; 0 of 2 are free"
                until(lambda: refused().get(CHEAP) == text, 10, "the extender to count both")
                create(cluster, namespace, asking("third"))
                where = until(lambda: bound(cluster, namespace).get("third"), 30, "the third pod bound")
                assert where == DEAR
        finally:
            for document in documents:
                name = document["metadata"]["name"]
                cluster.request("DELETE", f"{SLICES}/{name}", accepted=SUCCESS | {404})
            for one in classes:
                path = f"{CLASSES}/{one['metadata']['name']}"
                cluster.request("DELETE", path, accepted=SUCCESS | {404})
