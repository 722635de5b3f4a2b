"""What was learned about more workloads than one ConfigMap holds, on a real API server with its limit of
1 MiB, written by the controller's own account.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.learned_store import CONFIG_MAP, KEY, LearnedStore
from autoscaler.targets import Target
from cluster.client import Api
from cluster.kept_map import KeptMap
from cluster.spread_texts import map_names
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS
from tests.autoscaler.full_memory import full_memory

pytestmark = pytest.mark.cluster

NAMESPACE = "slicewise-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


def workloads(number: int) -> list[Target]:
    return [Target("apps/v1", "Deployment", "n" * 30, f"{'model-' * 5}{index}") for index in range(number)]


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    def clear() -> None:
        for name in map_names(CONFIG_MAP):
            control_plane.request("DELETE", f"{PATH}/{name}", accepted=SUCCESS | {404})

    clear()
    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    yield api
    api.close()
    clear()


def kept(cluster: ControlPlane) -> dict[str, Any]:
    """The ConfigMaps of the memory that exist, by name."""
    found = cluster.request("GET", PATH)["items"]
    return {one["metadata"]["name"]: one for one in found if one["metadata"]["name"] in map_names(CONFIG_MAP)}


def versions(cluster: ControlPlane) -> dict[str, str]:
    return {name: one["metadata"]["resourceVersion"] for name, one in kept(cluster).items()}


def test_a_memory_of_one_config_map_grows_over_the_limit_and_comes_back_whole(
    control_plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
):
    learned = full_memory()
    before = {f"{one.api_version} {one}": learned for one in workloads(1000)}
    KeptMap(api, NAMESPACE, CONFIG_MAP).write({KEY: json.dumps(before)})

    now = [0.0]
    store = LearnedStore(api, NAMESPACE, clock=lambda: now[0])
    assert store.begin()
    assert {store.text_of(one) for one in workloads(1000)} == {learned}
    store.keep(lambda: dict.fromkeys(workloads(3500), learned))
    assert len(kept(control_plane)) == 4
    assert sum(len(json.loads(one["data"][KEY])) for one in kept(control_plane).values()) == 3500

    again = LearnedStore(api, NAMESPACE, clock=lambda: now[0])
    assert again.begin()
    assert {again.text_of(one) for one in workloads(3500)} == {learned}

    first, *others = workloads(3500)
    written = versions(control_plane)
    again.keep(lambda: {first: "news", **dict.fromkeys(others, learned)})
    assert len(set(versions(control_plane).items()) - set(written.items())) == 1
    last = LearnedStore(api, NAMESPACE)
    last.begin()
    assert (last.text_of(first), last.text_of(others[-1])) == ("news", learned)
    assert caplog.text == ""
