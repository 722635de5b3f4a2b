"""KEDA's custom resources come and go on a real API server: its ScaledObjects count as long as they exist."""

from __future__ import annotations

from autoscaler.other_writer import OtherWriters
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.client import Api
from cluster.wire import ObjectReference
from deploy.local.control_plane import ControlPlane
from tests.custom_kinds import defined
from tests.polling import until

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def test_a_removed_keda_holds_nobody(control_plane: ControlPlane, namespace: str) -> None:
    api = Api.connect(str(control_plane.kubeconfig))
    watched = OtherWriters(api, lambda _target: None)
    watched._watches[1]._look_again_seconds = 1.0
    target = Target("apps/v1", "Deployment", namespace, "llm")
    sight = ScaleSight(target, "/", 2, parse_selector("app=llm"), ObjectReference())

    def look() -> str | None:
        return watched.look(sight, 0.0).rival

    objects = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects"
    body = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "theirs"},
        "spec": {"scaleTargetRef": {"name": "llm"}},
    }
    watched.start()
    try:
        for _ in range(2):
            with defined(control_plane, CRD):
                control_plane.request("POST", objects, body)
                until(lambda: look() == "ScaledObject theirs", 60.0, "theirs counts")
            until(lambda: look() is None, 60.0, "it holds nobody")
    finally:
        watched.stop()
        api.close()
