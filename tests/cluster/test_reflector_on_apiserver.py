"""The reflector and the client on a real API server: pages, changes, and a version that is no longer kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from cluster.client import Api, ApiRefused, connect
from cluster.reflector import Reflector
from cluster.wire import ConfigMap, Namespace, Pod
from deploy.local.control_plane import ControlPlane
from tests.custom_kinds import defined
from tests.polling import SOON_SECONDS, until

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

    def wait(self, condition: Callable[[dict[str, str]], bool], seconds: float = SOON_SECONDS) -> None:
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
    assert reflector.synced.wait(SOON_SECONDS)
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
    until(lambda: reflector.watches >= 3, 10, "three watches")
    put(api, namespace, "late", "x")
    state.wait(lambda seen: seen.get("late") == "x")
    assert (reflector.lists, reflector.failures) == (1, 0)


@pytest.fixture
def young_resource(control_plane: ControlPlane) -> Iterator[str]:
    """The path of a resource so new that the server's history of it begins after version 1."""
    group = "test.slicewise.io"
    names = {"plural": "mirrors", "singular": "mirror", "kind": "Mirror", "listKind": "MirrorList"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"mirrors.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }
    with defined(control_plane, body):
        yield f"/apis/{group}/v1"


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
    api.post(path, body)
    state = Mirror()
    reflector = Reflector(api, path, ConfigMap, state)
    reflector.resource_version = "1"  # as if it had listed long ago
    reflector.start()
    try:
        state.wait(lambda seen: seen == {"a": "x"})
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
