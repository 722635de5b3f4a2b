"""The reflector and the client on a real API server: pages, changes, and a version that is no longer kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from cluster.client import Api, ApiRefused, connect
from cluster.reflector import Reflector
from cluster.wire import ConfigMap, Namespace, Pod
from deploy.local.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


class Mirror:
    """Name to value of the ConfigMaps, as the reflector tells it."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.replacements = 0
        self._news = threading.Condition()

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        with self._news:
            self.replacements += 1
            self.state = {item.metadata.name: item.data.get("k", "") for item in items}
            self._news.notify_all()

    def changed(self, kind: str, item: ConfigMap) -> None:
        with self._news:
            if kind == "DELETED":
                self.state.pop(item.metadata.name, None)
            else:
                self.state[item.metadata.name] = item.data.get("k", "")
            self._news.notify_all()

    def wait(self, condition: Callable[[dict[str, str]], bool], seconds: float = 10.0) -> None:
        with self._news:
            assert self._news.wait_for(lambda: condition(self.state), seconds), self.state


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    api = connect(str(control_plane.kubeconfig))
    yield api
    api.close()


def put(api: Api, namespace: str, name: str, value: str, *, create: bool = True) -> None:
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    body = {"metadata": {"name": name, "labels": {"mirror": "yes"}}, "data": {"k": value}}
    if create:
        api.post(collection, body)
    else:
        api.patch(f"{collection}/{name}", {"data": {"k": value}})


@pytest.fixture
def mirror(api: Api, namespace: str) -> Iterator[tuple[Mirror, Reflector[ConfigMap]]]:
    mirror = Mirror()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    reflector = Reflector(api, path, ConfigMap, mirror, label_selector="mirror=yes", page_size=3)
    yield mirror, reflector
    reflector.stop()
    assert not reflector.running


def test_the_mirror_follows_the_server(
    api: Api, namespace: str, mirror: tuple[Mirror, Reflector[ConfigMap]]
) -> None:
    for number in range(10):
        put(api, namespace, f"c{number}", "old")
    state, reflector = mirror
    reflector.start()
    assert reflector.synced.wait(10)
    assert state.state == {f"c{number}": "old" for number in range(10)}

    put(api, namespace, "c3", "new", create=False)
    api.delete(f"/api/v1/namespaces/{namespace}/configmaps/c4")
    put(api, namespace, "c10", "added")
    state.wait(lambda seen: seen.get("c3") == "new" and "c4" not in seen and seen.get("c10") == "added")
    assert (reflector.lists, reflector.failures) == (1, 0)


def test_a_watch_that_ends_is_resumed_without_a_new_list(
    api: Api, namespace: str, mirror: tuple[Mirror, Reflector[ConfigMap]]
) -> None:
    state, reflector = mirror
    reflector._watch_seconds = 1
    reflector.start()
    deadline = time.monotonic() + 10
    while reflector.watches < 3:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    put(api, namespace, "late", "x")
    state.wait(lambda seen: seen.get("late") == "x")
    assert (reflector.lists, reflector.failures) == (1, 0)


@pytest.fixture
def young_resource(api: Api) -> Iterator[str]:
    """The path of a resource so new that the server's history of it begins after version 1."""
    group = "test.slicewise.io"
    names = {"plural": "mirrors", "singular": "mirror", "kind": "Mirror", "listKind": "MirrorList"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"mirrors.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }
    api.post(collection, body)
    yield f"/apis/{group}/v1"
    api.delete(f"{collection}/mirrors.{group}")


def served(api: Api, path: str) -> bool:
    try:
        api.list_raw(path)
    except ApiRefused:
        return False
    return True


def test_a_version_that_is_no_longer_kept_leads_to_a_new_list(
    api: Api, namespace: str, young_resource: str
) -> None:
    path = f"{young_resource}/namespaces/{namespace}/mirrors"
    body = {
        "apiVersion": "test.slicewise.io/v1",
        "kind": "Mirror",
        "metadata": {"name": "a"},
        "data": {"k": "x"},
    }
    deadline = time.monotonic() + 20
    while not served(api, path):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    api.post(path, body)
    state = Mirror()
    reflector = Reflector(api, path, ConfigMap, state)
    reflector.resource_version = "1"  # as if it had listed long ago
    reflector.start()
    try:
        state.wait(lambda seen: seen == {"a": "x"}, 20)
        assert reflector.gone == 1
        assert reflector.lists == 1
    finally:
        reflector.stop()


def test_refusals_of_the_real_server_are_told_in_its_words(api: Api, control_plane: ControlPlane) -> None:
    with pytest.raises(ApiRefused) as refused:
        api.get("/api/v1/namespaces/none-such", Namespace)
    assert (refused.value.status, refused.value.reason) == (404, "NotFound")
    assert 'namespaces "none-such" not found' in str(refused.value)

    scheduler = connect(str(control_plane.kubeconfig_for("slicewise-scheduler")))
    with pytest.raises(ApiRefused, match="forbidden"):
        scheduler.delete("/api/v1/namespaces/default")
    assert isinstance(scheduler.list_objects("/api/v1/pods", Pod), list)
    scheduler.close()
