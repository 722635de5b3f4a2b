"""Scales by watch on a real API server: ahead of it after our own writes, current after those of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.scale_index import ScaleIndex
from autoscaler.selectors import Selector
from autoscaler.targets import Target, TargetRefused, Targets
from cluster.client import Api
from deploy.local.control_plane import ControlPlane
from tests.polling import until

pytestmark = pytest.mark.cluster


class Counting:
    """The API, with the paths that are read one by one."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.scales_read = 0

    def get(self, path: str, kind: Any, params: Any = None) -> Any:
        self.scales_read += path.endswith("/scale")
        return self._api.get(path, kind, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Any]:
    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    yield Counting(api)
    api.close()


@pytest.fixture
def index(api: Any) -> Iterator[ScaleIndex]:
    index = ScaleIndex(api, Targets(api))
    yield index
    index.stop()


def workload(kind: str, name: str, replicas: int, selector: dict[str, Any]) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name, "tier": "gpu"}},
        "spec": {"containers": [{"name": "c", "image": "example.org/c:1"}]},
    }
    spec: dict[str, Any] = {"replicas": replicas, "selector": selector, "template": template}
    if kind == "Deployment":
        spec["paused"] = True
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def watched(api: Any, index: ScaleIndex, target: Target) -> None:
    """Read until it costs no request."""

    def from_memory() -> bool:
        before = api.scales_read
        index.read(target)
        return bool(api.scales_read == before)

    until(from_memory, 20.0, "the watch")


def test_what_the_watch_says_is_what_the_scale_says(
    control_plane: ControlPlane, api: Any, index: ScaleIndex, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}"
    selectors: dict[str, dict[str, Any]] = {
        "plain": {"matchLabels": {"app": "plain"}},
        "rich": {
            "matchLabels": {"app": "rich"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["gpu", "tpu"]},
                {"key": "tier", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "app", "operator": "NotIn", "values": ["other"]},
            ],
        },
    }
    for kind, plural in (("Deployment", "deployments"), ("StatefulSet", "statefulsets")):
        for name, selector in selectors.items():
            control_plane.request("POST", f"{path}/{plural}", workload(kind, name, 0, selector))
            target = Target("apps/v1", kind, namespace, name)
            asked = Targets(api).read(target)
            watched(api, index, target)
            told = index.read(target)
            assert (told.replicas, told.path, told.reference) == (asked.replicas, asked.path, asked.reference)
            assert _as_set(told.selector) == _as_set(asked.selector)


def _as_set(selector: Selector) -> set[object]:
    return set(selector.requirements)


def test_our_own_write_counts_before_the_watch_tells_it_and_others_after(
    control_plane: ControlPlane, api: Any, index: ScaleIndex, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    selector = {"matchLabels": {"app": "llm"}}
    control_plane.request("POST", path, workload("Deployment", "llm", 2, selector))
    target = Target("apps/v1", "Deployment", namespace, "llm")
    watched(api, index, target)
    for replicas in range(3, 30):
        index.write(index.read(target), replicas)
        assert index.read(target).replicas == replicas
    merge = "application/merge-patch+json"
    control_plane.request("PATCH", f"{path}/llm", {"spec": {"replicas": 7}}, content_type=merge)
    until(lambda: index.read(target).replicas == 7, 10.0, "somebody else's write")
    (last,) = index.writers(target) or ()
    assert (last.operation, last.subresource) == ("Update", "")


def test_what_is_not_there_is_refused_and_comes_when_it_is_made(
    control_plane: ControlPlane, api: Any, index: ScaleIndex, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    selector = {"matchLabels": {"app": "first"}}
    control_plane.request("POST", path, workload("Deployment", "first", 1, selector))
    watched(api, index, Target("apps/v1", "Deployment", namespace, "first"))
    target = Target("apps/v1", "Deployment", namespace, "second")
    with pytest.raises(TargetRefused, match=f"Deployment {namespace}/second: does not exist") as refused:
        index.read(target)
    assert refused.value.cause == "not_found"
    control_plane.request(
        "POST", path, workload("Deployment", "second", 4, {"matchLabels": {"app": "second"}})
    )

    def found() -> bool:
        try:
            return index.read(target).replicas == 4
        except TargetRefused:
            return False

    until(found, 10.0, "the new one")
    control_plane.request("DELETE", f"{path}/second")

    def gone() -> bool:
        try:
            index.read(target)
        except TargetRefused as again:
            return again.cause == "not_found"
        return False

    until(gone, 10.0, "it is gone")


def test_kinds_without_a_watch_are_read_one_by_one(
    control_plane: ControlPlane, api: Any, index: ScaleIndex, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
    body = workload("ReplicationController", "old", 0, {"app": "old"})
    control_plane.request("POST", path, {**body, "apiVersion": "v1"})
    target = Target("v1", "ReplicationController", namespace, "old")
    with pytest.raises(TargetRefused) as refused:  # our account may not: the sentence says so
        index.read(target)
    assert refused.value.cause == "forbidden"
    assert api.scales_read == 1
