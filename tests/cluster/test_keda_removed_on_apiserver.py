"""KEDA's custom resources come and go on a real API server: its ScaledObjects count as long as they exist."""

from __future__ import annotations

import threading
import time

from autoscaler.other_writer import OtherWriters
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.wire import ObjectReference
from deploy.local.control_plane import ControlPlane

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
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
    api, clock = Api.connect(str(control_plane.kubeconfig)), [0.0]
    watched = OtherWriters(api, lambda _target: None, clock=lambda: clock[0])
    target = Target("apps/v1", "Deployment", namespace, "llm")
    sight = ScaleSight(target, "/", 2, parse_selector("app=llm"), ObjectReference())

    def until(rival: str | None) -> None:
        began = time.monotonic()
        while watched.look(sight, clock[0]).rival != rival:
            assert time.monotonic() < began + 60.0, watched.look(sight, clock[0])
            clock[0] += 61.0
            threading.Event().wait(0.05)

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
            control_plane.request("POST", CRDS, CRD)
            served(api)
            control_plane.request("POST", objects, body)
            until("ScaledObject theirs")
            control_plane.request("DELETE", f"{CRDS}/scaledobjects.keda.sh")
            until(None)
            began = time.monotonic()
            while len(watched._watches) > 1:  # the watch itself is given up
                assert time.monotonic() < began + 60.0
                clock[0] += 61.0
                watched.look(sight, clock[0])
                threading.Event().wait(0.05)
    finally:
        watched.stop()
        api.close()


def served(api: Api) -> None:
    """Wait until the API server serves ScaledObjects."""
    began = time.monotonic()
    while True:
        try:
            api.get("/apis/keda.sh/v1alpha1/scaledobjects", dict)
            return
        except ApiError:
            assert time.monotonic() < began + 30.0
            threading.Event().wait(0.1)
